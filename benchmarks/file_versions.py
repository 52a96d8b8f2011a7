"""Whether the files that this version exports are slower than an earlier version's.

    python benchmarks/file_versions.py --before COMMIT

Two versions of the package, this one and that of a commit of this repository, export
the same networks with the same weights, as float32 and as int8: those with published
weights, at the image size of a phone where they are for photographs, and others of the
zoo with random weights; where displacements are weights, two fifths of the channels
move by a pixel. Where both files are the same to the byte, or the earlier version could
not make the network, nothing is timed. The others are timed in turns: LiteRT, one
image, one thread. This version's time is a share of the earlier one's: the median and
quartiles of ratios round by round. Writes benchmarks/results/file_versions.csv, with
the machine in it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "file_versions.csv"
KINDS = ("float32", "int8")
PHOTOGRAPHS = {"input_shape": (224, 224, 3), "output_stride": 32}

# The commit before units were first made faster than a depthwise convolution for each
# shift and each stride.
BEFORE = "8c40abd~1"

# Displacements by one pixel, rows first.
MOVES = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]).T

# One network or two of each kind of layer. Gates are left out: with random weights they
# may be always zero, which int8 files cannot hold.
RANDOM = (
    *("fenet_1.0", "fenet_1.0_dw", "shiftnet_a", "shiftnet_c"),
    *("shiftnet_c_concatenate", "shiftresnet20_e6", "shiftresnet20_ssl"),
    *("shiftresnet50", "resnet20", "resnet50"),
)


def networks(names):
    """Returns what is needed to make the networks, in both versions alike."""
    from keras_shift import zoo

    listed = []
    for name in zoo.list_weights():
        record = zoo.get_record(name)
        large = record.dataset in ("tiny_imagenet", "cifar100")
        size = PHOTOGRAPHS if large else {"input_shape": record.input_shape}
        arguments = {**record.arguments, **size, "classes": record.classes}
        path = ROOT / "zoo" / "weights" / f"{name}.weights.h5"
        listed.append((name, record.constructor, arguments, os.fspath(path)))
    for name in RANDOM:
        variant = zoo.variants.VARIANTS[name]
        listed.append((name, variant.constructor, dict(variant.arguments), None))
    unknown = sorted(set(names or ()) - {name for name, *_ in listed})
    if unknown:
        raise SystemExit(f"There are no networks of these names here: {unknown}")
    return [each for each in listed if names is None or each[0] in names]


def scatter(model):
    """Gives a network random weights, the same in every version."""
    for weight in model.weights:
        # Versions may list weights in another order.
        random = np.random.default_rng(zlib.crc32(weight.path.encode()))
        shape = weight.shape
        if weight.path.endswith("displacements"):
            moved = random.random(shape[1]) < 0.4
            weight.assign(MOVES[:, random.integers(8, size=shape[1])] * moved)
        elif weight.path.endswith(("gamma", "variance")):
            weight.assign(random.uniform(0.5, 1.5, shape))
        elif "seed" not in weight.path:
            # Sums keep about the deviation of what is multiplied.
            deviation = max(np.prod(shape[:-1]), 1) ** -0.5 if len(shape) > 1 else 0.5
            weight.assign(random.normal(0, deviation, shape))


def export(checkout, listed, folder):
    """Writes the files of all networks by the version that is imported."""
    import keras_shift
    from keras_shift import deploy, zoo

    if not Path(keras_shift.__file__).resolve().is_relative_to(checkout.resolve()):
        raise SystemExit(f"{keras_shift.__file__} is not of {checkout}.")
    for name, constructor, arguments, weights in listed:
        try:
            model = getattr(zoo, constructor)(weights=weights, **arguments)
        except (AttributeError, TypeError):
            if checkout.resolve() == ROOT:
                raise
            # An earlier version may lack a constructor or an argument. `compare` finds
            # no file then.
            print(name, flush=True)
            continue
        if weights is None:
            scatter(model)
        images = np.random.default_rng(0).uniform(0, 255, (8, *model.input_shape[1:]))
        for kind in KINDS:
            quantize = None if kind == "float32" else kind
            path = Path(folder) / f"{name}_{kind}.tflite"
            deploy.to_tflite(model, path, quantize, images.astype("float32"))
        print(name, flush=True)


def git(folder, *arguments):
    """Returns what git says of a repository."""
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def export_by(checkout, listed, folder, advance):
    """Has a version export the networks, in a process of its own."""
    command = [sys.executable, __file__, "--export", checkout, folder]
    environment = {**os.environ, "PYTHONPATH": os.fspath(checkout)}
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
    ) as process:
        process.stdin.write(json.dumps(listed))
        process.stdin.close()
        for _ in process.stdout:
            advance()
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"{checkout} could not export all:\n{errors.read()}")


def compare(name, kind, folders, rounds):
    """Returns the row of one network's files of one type."""
    from keras_shift.deploy import LiteRTModel
    from keras_shift.deploy.timing import time_alternately, warm_up

    paths = [Path(folder) / f"{name}_{kind}.tflite" for folder in folders]
    row = {"network": name, "kind": kind, "same": "no"}
    if not paths[0].exists():
        return {**row, "same": "new"}
    if paths[0].read_bytes() == paths[1].read_bytes():
        return {**row, "same": "yes"}
    files = dict(zip(("before", "now"), map(LiteRTModel, paths)))
    for file in files.values():
        warm_up(file)
    calls = {version: file.invoke for version, file in files.items()}
    timing = time_alternately(calls, rounds)["now"]
    return {
        **row,
        "ratio": timing.ratio,
        "ratio_low": timing.ratio_low,
        "ratio_high": timing.ratio_high,
    }


def main(arguments):
    """Measures and writes all rows."""
    if arguments.export is not None:
        checkout, folder = arguments.export
        return export(checkout, json.load(sys.stdin), folder)
    from records import write

    from keras_shift.environment import machine

    listed = networks(arguments.networks)
    commit = git(ROOT, "rev-parse", "--short", arguments.before)
    with tempfile.TemporaryDirectory() as folder, rich.progress.Progress(
        console=rich.console.Console(stderr=True), disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("Exporting", total=2 * len(listed))
        old = Path(folder) / "checkout"
        git(ROOT, "clone", "--quiet", "--no-checkout", ROOT, old)
        git(old, "checkout", "--quiet", commit)
        folders = [os.path.join(folder, version) for version in ("before", "now")]
        for checkout, place in zip((old, ROOT), folders):
            os.mkdir(place)
            export_by(checkout, listed, place, lambda: bar.advance(task))
        task = bar.add_task("Timing", total=len(listed) * len(KINDS))
        rows = []
        for name, *_ in listed:
            for kind in KINDS:
                row = compare(name, kind, folders, arguments.rounds)
                row |= {"before": commit, "machine": machine()}
                rows.append(row)
                bar.advance(task)
    write(rows, arguments.output)
    for row in rows:
        print(", ".join(f"{key}={value}" for key, value in row.items()))


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument(
        "--networks", nargs="+", metavar="NAME", help="only these, into --output"
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RESULTS)
    # What this script calls itself with, for each of the versions.
    parser.add_argument("--export", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(arguments)
    if arguments.networks and arguments.output == RESULTS:
        parser.error("--networks needs an --output of its own")
    return arguments


if __name__ == "__main__":
    main(parse())
