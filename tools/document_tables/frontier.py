"""For docs/frontier.md: accuracy and time of published networks."""

import functools
import statistics

from document_tables.sources import KINDS, read_record, read_results


def frontier(dataset):
    """Returns accuracy and times of all networks for a dataset, with their threads."""
    rows = []
    for record, cells in timed(dataset):
        own = [
            (
                f"{float(cell['ratio']) / float(cell['without_shifts']):.2f}"
                if cell["without_shifts"]
                else ""
            )
            for cell in (cells[kind, "1"] for kind in KINDS)
        ]
        times = [
            f"{float(cells[kind, threads]['ratio']):.2f}"
            for threads in "12"
            for kind in KINDS
        ]
        rows.append(
            (
                call(record),
                f"{record['top1']:.2%}",
                f"{record['int8_top1']:.2%}",
                unshifted(record),
                *times,
                *own,
            )
        )
    header = (
        "network",
        "top-1",
        "int8 top-1",
        "unshifted",
        "float32, 1 thread",
        "int8",
        "float32, 2 threads",
        "int8",
        "float32 / without shifts",
        "int8",
    )
    return header, rows


def processors():
    """Returns both files' times of every network, machine by machine, on one thread."""
    cells = [cell for cell in read_results("frontier.csv") if cell["threads"] == "1"]
    machines = list(dict.fromkeys(cell["machine"] for cell in cells))
    ratios = {
        (cell["weights"], cell["machine"], cell["kind"]): float(cell["ratio"])
        for cell in cells
    }
    rows = []
    for name in dict.fromkeys(cell["weights"] for cell in cells):
        record = read_record(name)
        found = [ratios.get((name, m, kind)) for m in machines for kind in KINDS]
        rows.append((call(record), *("" if f is None else f"{f:.2f}" for f in found)))
    header = [f"{kind}, {name}" for name in machines for kind in KINDS]
    return ("network", *header), rows


def browser():
    """Returns the times of two networks' files in a browser, and their share."""
    cells = read_results("web.csv")
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    rows = []
    for size, kind in dict.fromkeys((c["image_size"], c["kind"]) for c in cells):
        own = [c for c in cells if (c["image_size"], c["kind"]) == (size, kind)]
        ratio, low, high = (
            float(own[0][column]) for column in ("ratio", "ratio_low", "ratio_high")
        )
        rows.append(
            (
                f"{size}x{size}",
                kind,
                *(f"{float(cell['ms']):.2f} ms" for cell in own),
                f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            )
        )
    return ("pixels", "file", *names, "share (quartiles)"), rows


def seeds():
    """Returns what each seed of two recipes came to, and the mean."""
    rows = []
    for record, _ in timed("tiny_imagenet"):
        cells = [
            cell
            for cell in read_results("seeds.csv")
            if cell["recipe"] == record["recipe"]["name"]
        ]
        if not cells:
            continue
        top1 = [float(cell["top1"]) for cell in cells]
        rows.append(
            (
                call(record),
                ", ".join(cell["seed"] for cell in cells),
                ", ".join(f"{value:.2%}" for value in top1),
                f"{statistics.mean(top1):.2%}",
                *(
                    ", ".join(f"{float(cell[k]):.2f}" for cell in cells if cell[k])
                    for k in KINDS
                ),
            )
        )
    header = ("network", "seeds", "top-1", "mean", "float32, 1 thread", "int8")
    return header, rows


def peers():
    """Returns accuracy and time of others' networks by MobileNetV2's recipe."""
    rows = [
        (
            PEERS[cell["network"]],
            f"{int(cell['multiply_adds']) / 1e6:.0f} M",
            f"{float(cell['top1']):.2%}",
            f"{float(cell['int8_top1']):.2%}",
            *(f"{float(cell[kind]):.2f}" for kind in KINDS),
        )
        for cell in read_results("peers.csv")
    ]
    header = (
        "network",
        "MAdds (224x224)",
        "top-1",
        "int8 top-1",
        "float32, 1 thread",
        "int8",
    )
    return header, rows


def shift_costs():
    """Returns what the shifts of every unit of FE-Net cost in a file."""
    cells = {(c["unit"], c["kind"]): c for c in read_results("shift_costs.csv")}
    rows = []
    for unit in dict.fromkeys(unit for unit, _ in cells):
        own = [cells[unit, kind] for kind in KINDS]
        costs = [f"{float(c[share]):.1%}" for share in ("eighth", "half") for c in own]
        rows.append((f"`{unit}`", own[0]["map"], own[0]["channels"], *costs))
    header = (
        "unit",
        "map",
        "channels",
        "an eighth shifted: float32",
        "int8",
        "half shifted: float32",
        "int8",
    )
    return header, rows


def timed(dataset):
    """Yields a dataset's records, with rows of frontier.csv by type and threads."""
    cells = read_results("frontier.csv")
    # The machine that measured last stands first.
    cells = [cell for cell in cells if cell["machine"] == cells[0]["machine"]]
    for name in dict.fromkeys(cell["weights"] for cell in cells):
        record = read_record(name)
        if record["dataset"] == dataset:
            own = [cell for cell in cells if cell["weights"] == name]
            yield record, {(cell["kind"], cell["threads"]): cell for cell in own}


def call(record):
    """Returns how a user gets a network."""
    alpha = record["arguments"]["alpha"]
    width = "" if alpha == 1 else f"alpha={alpha:g}, "
    return f"`{record['constructor']}({width}weights=\"{record['weights']}\")`"


def unshifted(record):
    """Returns the share of channels that no shift moves, if there are shifts."""
    counts = record["unshifted"].values()
    if not counts:
        return ""
    still, channels = (sum(column) for column in zip(*counts))
    return f"{still / channels:.0%}"


# What benchmarks/peers.py trains, by the names of its functions.
PEERS = {
    "mobilenet_v3_large": "MobileNetV3-Large (keras.applications)",
    "mobilenet_v3_large_minimalistic": "MobileNetV3-Large, minimalistic",
    "mobilenet_v4_conv_small": "MobileNetV4-Conv-Small (zeromodels)",
    "efficientnet_lite0": "EfficientNet-Lite0 (zeromodels)",
}

TABLES = {
    "browser": browser,
    "frontier cifar100": functools.partial(frontier, "cifar100"),
    "frontier tiny_imagenet": functools.partial(frontier, "tiny_imagenet"),
    "peers": peers,
    "processors": processors,
    "seeds": seeds,
    "shift costs": shift_costs,
}
