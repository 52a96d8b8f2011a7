"""Accuracy against the time of a phone's file, for all published weights.

    python benchmarks/frontier.py

Every FE-Net and MobileNetV2 with published weights for Tiny-ImageNet or CIFAR-100
becomes a float32 and an int8 .tflite file for images of 224x224 pixels at total stride
32, with the displacements that it learned, whatever image size it was trained at.
(ShiftResNets have other recipes, and are for images of 32x32 pixels.) The files of one
type are timed in turns in one process, on one thread and on two, one image at a time.
Ratios are to MobileNetV2 1.0's file of the same type: medians, and first and third
quartiles, round by round. A shift network is also timed with all of its displacements
at zero, which tells what its shifts cost. Accuracies are those of the weights' records.

Writes benchmarks/results/frontier.csv, which keeps what was measured on other machines,
and draws this one's times in docs/frontier.png (this needs matplotlib), together with
those of benchmarks/peers.py; `--draw` draws what was measured before.
"""

import argparse
import collections
import csv
import itertools
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
from records import write  # noqa: E402

from keras_shift import zoo  # noqa: E402
from keras_shift.deploy import LiteRTModel, to_tflite  # noqa: E402
from keras_shift.deploy.timing import time_alternately, warm_up  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.files import replacing  # noqa: E402
from keras_shift.layers.shift_layer import LearnedShift  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "frontier.csv"
PEERS = ROOT / "benchmarks" / "results" / "peers.csv"
PICTURE = ROOT / "docs" / "frontier.png"

DATASETS = {"tiny_imagenet": "Tiny-ImageNet-200", "cifar100": "CIFAR-100"}
IMAGE_SHAPE = (224, 224, 3)
KINDS = ("float32", "int8")
THREADS = (1, 2)
BASELINE = "mobilenet_v2_1.0.tiny_imagenet"

# The networks that are compared.
COLOURS = {"FENet": "#1f6fb4", "MobileNetV2": "#999999"}
# Those that benchmarks/peers.py trained on Tiny-ImageNet.
PEERS_COLOUR = "#d08a2e"


def records():
    """Returns the records of the weights to compare, the baseline first."""
    found = [zoo.get_record(name) for name in zoo.list_weights()]
    found = [
        record
        for record in found
        if record.dataset in DATASETS and record.constructor in COLOURS
    ]
    return sorted(found, key=lambda record: record.name != BASELINE)


def network(record):
    """Returns a network with its weights, at the size of a phone's image."""
    return zoo.models.model_of_record(record, input_shape=IMAGE_SHAPE, output_stride=32)


def without_shifts(model):
    """Returns the network with all displacements at zero, or `None` if it has none."""
    layers = [layer for layer in model.layers if isinstance(layer, LearnedShift)]
    for layer in layers:
        layer.displacements.assign(np.zeros(layer.displacements.shape))
    return model if layers else None


def export(model, kind, path):
    """Writes a network's file. Random pixels calibrate an int8 one."""
    images = np.random.default_rng(0).uniform(0, 255, (8, *IMAGE_SHAPE))
    quantize = None if kind == "float32" else kind
    to_tflite(model, path, quantize, images.astype("float32"))


def files(kind, folder, advance):
    """Yields name, whether with shifts, and path of every file of one type."""
    for record in records():
        model = network(record)
        for shifts in (True, False):
            model = model if shifts else without_shifts(model)
            if model is not None:
                path = f"{folder}/{record.name}_{kind}_{shifts}.tflite"
                export(model, kind, path)
                yield record.name, shifts, path
            advance()


def measure(kind, threads, paths, rounds):
    """Returns a row for every network."""
    lite = {key: LiteRTModel(path, num_threads=threads) for key, path in paths.items()}
    for file in lite.values():
        warm_up(file)
    timings = time_alternately({k: file.invoke for k, file in lite.items()}, rounds)
    rows = []
    for record in records():
        timing = timings[record.name, True]
        bare = timings.get((record.name, False))
        rows.append(
            {
                "weights": record.name,
                "kind": kind,
                "threads": threads,
                "ratio": timing.ratio,
                "ratio_low": timing.ratio_low,
                "ratio_high": timing.ratio_high,
                "without_shifts": bare.ratio if bare else "",
                "ms": timing.median * 1e3,
                "machine": machine(),
            }
        )
    return rows


def ratio(kind, model, rounds):
    """Returns the time of any network's file as a share of the baseline's, likewise.

    It is that of one image on one thread.
    """
    timed = {"baseline": network(zoo.get_record(BASELINE)), "model": model}
    with tempfile.TemporaryDirectory() as folder:
        lite = {}
        for name, one in timed.items():
            path = f"{folder}/{name}.tflite"
            export(one, kind, path)
            lite[name] = LiteRTModel(path, num_threads=1)
            warm_up(lite[name])
        calls = {name: file.invoke for name, file in lite.items()}
        return time_alternately(calls, rounds)["model"].ratio


def read(path=RESULTS):
    """Reads what was written: rows by machine, those of the last one first."""
    rows = collections.defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows[row["machine"]].append(row)
    return rows


def elsewhere(path):
    """Returns the rows of other machines, of weights that are still published."""
    names = {record.name for record in records()}
    return [
        row
        for name, rows in (read(path) if path.exists() else {}).items()
        for row in rows
        if name != machine() and row["weights"] in names
    ]


def draw(rows, path):
    """Draws top-1 over time, with a plot for every dataset and type."""
    from matplotlib.figure import Figure

    names = {row["weights"] for row in rows}
    counts = collections.Counter(zoo.get_record(name).dataset for name in names)
    # One network alone is compared with nothing.
    datasets = [dataset for dataset in DATASETS if counts[dataset] > 1]
    height = 5.5 * len(datasets)
    figure = Figure((9, height), dpi=100, facecolor="white", layout="constrained")
    plots = figure.subplots(len(datasets), len(KINDS), squeeze=False)
    for axes, (dataset, kind) in zip(plots.flat, itertools.product(datasets, KINDS)):
        points = {}
        for row in rows:
            record = zoo.get_record(row["weights"])
            chosen = (record.dataset, row["kind"], row["threads"])
            if chosen != (dataset, kind, "1"):
                continue
            top1 = record.top1 if kind == "float32" else record.int8_top1
            place = (float(row["ratio"]), 100 * top1)
            axes.plot(*place, "o", color=COLOURS[record.constructor])
            points[record.name.replace(f".{dataset}", "", 1)] = place
        if dataset == "tiny_imagenet":
            for row in peers():
                top1 = row["top1" if kind == "float32" else "int8_top1"]
                place = (float(row[kind]), 100 * float(top1))
                axes.plot(*place, "o", color=PEERS_COLOUR)
                points[row["network"]] = place
        axes.set_title(f"{DATASETS[dataset]}, {kind}")
        axes.set_xlabel("time / MobileNetV2 1.0's")
        axes.set_ylabel("top-1, %")
        axes.margins(0.1, 0.15)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.5 * (right - left))
        label(axes, points)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def peers():
    """Returns what benchmarks/peers.py measured."""
    with open(PEERS, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(axes, points):
    """Writes names to the right of points, none of them over another."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    written = []
    for name, (x, y) in sorted(points.items(), key=lambda point: point[1][1]):
        for other_x, other_y in written:
            if abs(x - other_x) < 0.4 * (right - left):
                y = max(y, other_y + 0.03 * (high - low))
        written.append((x, y))
        axes.text(x + 0.02 * (right - left), y, name, va="center", size="small")


def main(arguments):
    """Writes and times all files, and draws the plot."""
    console = rich.console.Console()
    if not arguments.draw:
        rows = []
        with (
            tempfile.TemporaryDirectory() as folder,
            rich.progress.Progress() as progress,
        ):
            task = progress.add_task("files", total=2 * len(records()) * len(KINDS))
            for kind in KINDS:
                written = files(kind, folder, lambda: progress.advance(task))
                paths = {(name, shifts): path for name, shifts, path in written}
                for threads in THREADS:
                    rows += measure(kind, threads, paths, arguments.rounds)
        write(rows + elsewhere(arguments.output), arguments.output)
        console.print(f"Written to {arguments.output}", soft_wrap=True)
    last, *_ = read(arguments.output).values()
    draw(last, arguments.picture)
    console.print(f"Drawn in {arguments.picture}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=60, help="turns of each file")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
