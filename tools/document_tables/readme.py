"""For README.md: networks beside MobileNetV2, and the versions they work with."""

import configparser
import fnmatch
import statistics

from document_tables.frontier import PEERS, call, timed, unshifted
from document_tables.sources import KINDS, ROOT, read_record, read_results


def claim():
    """Returns what the sparse FE-Net 0.75 has over MobileNetV2, in words."""
    ours = _row('`FENet(alpha=0.75, weights="tiny_imagenet.sparse")`')
    theirs = _row('`MobileNetV2(weights="tiny_imagenet")`')
    return (
        f"{ours[2]} top-1 instead of {theirs[2]}, in {ours[-2]} of the time as a "
        f"float32 file and {ours[-1]} as an int8 one"
    )


def claim_at_full_width():
    """Returns the same for FE-Net 1.0, which has MobileNetV2's multiply-adds."""
    ours = _row('`FENet(weights="tiny_imagenet.few_shifts")`')
    return f"{ours[2]}, in {ours[-2]} and {ours[-1]}"


def _row(network):
    _, rows = phones()
    return next(row for row in rows if row[0] == network)


def phones():
    """Returns the accuracy of networks for phones, and their files' times.

    The fastest network of others comes last, since it cannot be loaded. Weights that
    only the distribution keras-shift-studies brings are left out.
    """
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    elsewhere = config["options.exclude_package_data"]["keras_shift.zoo"].split()
    rows = [
        (
            call(record),
            _epochs(record),
            f"{record['top1']:.2%}",
            f"{record['int8_top1']:.2%}",
            unshifted(record),
            *(f"{float(cells[kind, '1']['ratio']):.2f}" for kind in KINDS),
        )
        for record, cells in timed("tiny_imagenet")
        if not any(
            fnmatch.fnmatch(f"weights/{record['name']}.weights.h5", pattern)
            for pattern in elsewhere
        )
    ]
    epochs = read_record("mobilenet_v2_1.0.tiny_imagenet")["recipe"]["epochs"]
    cell = min(read_results("peers.csv"), key=lambda cell: float(cell["float32"]))
    rows.append(
        (
            PEERS[cell["network"]],
            str(epochs),
            f"{float(cell['top1']):.2%}",
            f"{float(cell['int8_top1']):.2%}",
            "",
            *(f"{float(cell[kind]):.2f}" for kind in KINDS),
        )
    )
    header = (
        "network",
        "epochs",
        "top-1",
        "int8 top-1",
        "unshifted",
        "float32 time",
        "int8 time",
    )
    return header, rows


def _epochs(record):
    """Returns how long it was trained, with the training that it goes on from."""
    recipe = record["recipe"]
    start = recipe.get("initial_weights")
    if start is None:
        return str(recipe["epochs"])
    name = record["name"].removesuffix(record["weights"]) + start
    before = read_record(name)
    return f"{_epochs(before)} + {recipe['epochs']}"


def first_example():
    """Returns README's first example with either network, as means over seeds."""
    cells = read_results("first_example.csv")
    rows = []
    for network in dict.fromkeys(cell["network"] for cell in cells):
        own = [cell for cell in cells if cell["network"] == network]
        means = {
            column: statistics.mean(float(cell[column]) for cell in own)
            for column in own[0]
            if column not in ("network", "machine") and own[0][column]
        }
        share = f"{means['unshifted']:.0%}" if "unshifted" in means else ""
        rows.append(
            (
                network,
                f"{means['top1']:.1%}",
                f"{means['int8_top1']:.1%}",
                share,
                *(f"{means[f'{kind}_ratio']:.2f}" for kind in KINDS),
            )
        )
    header = ("", "top-1", "int8 top-1", "unshifted", "float32 time", "int8 time")
    return header, rows


def supported():
    """Returns the oldest and the newest versions in which all has passed."""
    cells = [cell for cell in read_results("versions.csv") if not cell["failure"]]
    backends = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    found = [("Python", [cell["python"].rpartition(".")[0] for cell in cells])]
    found += [("Keras", [cell["keras"] for cell in cells])]
    for backend, name in backends.items():
        some = [cell for cell in cells if cell["backend"].startswith(backend)]
        found.append((name, [cell["version"] for cell in some]))
    *some, last = (
        f"{name} {_from_to(sorted(numbers, key=_numbers))}" for name, numbers in found
    )
    return f"{', '.join(some)} or {last}"


def _from_to(versions):
    # The third number of the oldest is said where earlier ones were left out.
    first = versions[0].removesuffix(".0")
    last = ".".join(versions[-1].split(".")[:2])
    return last if f"{first}.".startswith(f"{last}.") else f"{first} to {last}"


def _numbers(version):
    return [int(number) for number in version.split(".")]


TABLES = {"first example": first_example, "phones": phones}
TEXTS = {
    "claim": claim,
    "claim at full width": claim_at_full_width,
    "versions": supported,
}
