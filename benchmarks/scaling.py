"""What FE-Net costs with more shifts, wider shifts, larger images and more channels.

    python benchmarks/scaling.py

For FE-Net 1.0 for images of 224x224 pixels, with 60% of the wide channels unshifted and
the others displaced at random by up to 1 pixel, one of these changed at a time:

- `sparsity`: the share of unshifted channels, 0 to 95%;
- `range`: how far the others move at most, 1 to 3 pixels;
- `resolution`: height and width of the image, 96 to 320 pixels;
- `width`: the multiplier `alpha`, 0.5 to 1.375.

The first two are multiples of the time of the same network without any shift, the
others shares of the time of keras.applications' MobileNetV2 for as large an image and
with the same `alpha`; each in these ways:

- `fused`: `deploy.fuse(model)` in a `tf.function`. MobileNetV2, which has no units, is
  as keras.applications gives it;
- `fused / folded`: the same, and `deploy.fuse(MobileNetV2)`, in which batch
  normalization is folded into the convolutions, too (`resolution` and `width` only);
- `litert`: the float32 file that `deploy.to_tflite` writes, and MobileNetV2's;
- `keras`: the plain Keras model in a `tf.function`.

One image at a time, on one thread: medians, and first and third quartiles, of ratios
round by round, taken in turns in one process. Writes benchmarks/results/scaling.csv,
with the machine in it, and draws it (this needs matplotlib) as scaling.png beside it.
"""

import argparse
import csv
import functools
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
import tensorflow as tf  # noqa: E402
from records import write  # noqa: E402
from states import displaced  # noqa: E402

from keras_shift import custom_ops, deploy  # noqa: E402
from keras_shift.deploy import with_random_biases  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.zoo import FENet  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scaling.csv"

STANDARD = {"sparsity": 0.6, "range": 1, "resolution": 224, "width": 1.0}
AXES = {
    "sparsity": (0.0, 0.2, 0.4, 0.6, 0.8, 0.95),
    "range": (1, 2, 3),
    "resolution": (96, 128, 160, 224, 320),
    "width": (0.5, 0.75, 1.0, 1.375),
}
WITHOUT_SHIFTS = ("sparsity", "range")  # The other axes are compared with MobileNetV2.

FOLDED = "fused / folded"

# The picture has these colours, and these texts in the legend and beside the axes.
COLOURS = {"fused": "C0", FOLDED: "C1", "litert": "C2", "keras": "C3"}
LEGEND = {
    "fused": "fused, TensorFlow",
    FOLDED: "fused, MobileNetV2 folded",
    "litert": "LiteRT, float32 file",
    "keras": "plain Keras, TensorFlow",
}
LABELS = {
    "sparsity": "unshifted channels",
    "range": "largest displacement (pixels)",
    "resolution": "height and width of the image (pixels)",
    "width": "width multiplier alpha",
}


def fenet(sparsity, range, resolution, width):
    """Returns FE-Net with random displacements; only `sparsity` makes some zero."""
    model = FENet(
        (resolution, resolution, 3),
        alpha=width,
        max_displacement=range,
        classifier_activation=None,
    )
    return with_random_biases(displaced(model, range, sparsity))


def without_shifts(resolution, width):
    """Returns FE-Net in which nothing moves."""
    return with_random_biases(
        FENet(
            (resolution, resolution, 3),
            alpha=width,
            spatial="none",
            classifier_activation=None,
        )
    )


def mobilenet(resolution, width):
    """Returns MobileNetV2 of keras.applications."""
    return with_random_biases(
        keras.applications.MobileNetV2(
            (resolution, resolution, 3),
            alpha=width,
            weights=None,
            classifier_activation=None,
        )
    )


def compiled(model):
    """Returns a function that runs a Keras model on one image of random pixels."""
    random = np.random.default_rng(0)
    shape = (1, *model.inputs[0].shape[1:])
    image = tf.constant(random.uniform(0, 255, shape).astype("float32"))
    function = tf.function(lambda x: model(x, training=False))
    call = functools.partial(function, image)
    call()
    return call


def lite(model, path):
    """Returns a function that runs a model's float32 file on such an image."""
    deploy.to_tflite(model, path)
    runtime = deploy.LiteRTModel(path)
    random = np.random.default_rng(0)
    runtime.predict(random.uniform(0, 255, runtime.input_shape).astype("float32"))
    return runtime.invoke


class Networks:
    """Makes what is timed: functions by way; those of `STANDARD` once for all axes."""

    def __init__(self, folder):
        self._folder = folder
        self._kept = {}

    def ours(self, point):
        """Returns the functions of FE-Net for a dictionary like `STANDARD`."""
        functions = self._calls(fenet, point)
        return {**functions, FOLDED: functions["fused"]}

    def rival(self, axis, point):
        """Returns the functions of the baseline."""
        size = {key: point[key] for key in ("resolution", "width")}
        if axis in WITHOUT_SHIFTS:
            return self._calls(without_shifts, size)
        functions = self._calls(mobilenet, size)
        return {**functions, "fused": functions["keras"], FOLDED: functions["fused"]}

    def _calls(self, make, arguments):
        if make in self._kept and arguments.items() <= STANDARD.items():
            return self._kept[make]
        model = make(**arguments)
        name = "_".join(map(str, (make.__name__, *arguments.values())))
        functions = {
            "fused": compiled(deploy.fuse(model)),
            "litert": lite(model, f"{self._folder}/{name}.tflite"),
            "keras": compiled(model),
        }
        if arguments.items() <= STANDARD.items():
            self._kept[make] = functions
        return functions


def measure(axis, networks, rounds, advance):
    """Yields a dictionary for every value of an axis and every way."""
    points = {value: {**STANDARD, axis: value} for value in AXES[axis]}
    # One network without shifts serves all values. Otherwise each value has its own
    # MobileNetV2.
    if axis in WITHOUT_SHIFTS:
        groups, name = [list(points)], "fenet without shifts"
    else:
        groups, name = [[value] for value in points], "mobilenet_v2"
    for values in groups:
        rival = networks.rival(axis, points[values[0]])
        ours = {}
        for value in values:
            ours[value] = networks.ours(points[value])
            advance()
        for way in ways(axis):
            timings = time_alternately(
                {name: rival[way], **{value: ours[value][way] for value in values}},
                rounds,
            )
            for value in values:
                yield {
                    "axis": axis,
                    "value": value,
                    "way": way,
                    "baseline": name,
                    "ratio": timings[value].ratio,
                    "ratio_low": timings[value].ratio_low,
                    "ratio_high": timings[value].ratio_high,
                    "ms": timings[value].median * 1e3,
                    "baseline_ms": timings[name].median * 1e3,
                    "machine": machine(),
                    "tensorflow": tf.__version__,
                    "threads": 1,
                }
                advance()


def ways(axis):
    """Returns what is timed for every value of an axis."""
    return [way for way in LEGEND if way != FOLDED or axis not in WITHOUT_SHIFTS]


def show(rows, console):
    """Prints every ratio, a row for each value."""
    table = rich.table.Table(
        title=f"FE-Net's time / the baseline's, {rows[0]['machine']}, one thread",
        caption="Median (quartiles).",
    )
    for column in ("axis", "value", "baseline", *COLOURS):
        table.add_column(column, justify="right")
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in rows):
        some = {
            row["way"]: row
            for row in rows
            if (row["axis"], row["value"]) == (axis, value)
        }
        table.add_row(
            axis,
            str(value),
            some["fused"]["baseline"],
            *(
                (
                    "{ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(
                        **some[way]
                    )
                    if way in some
                    else ""
                )
                for way in COLOURS
            ),
        )
    console.print(table)


def read(path):
    """Returns the rows of a file, with numbers where there are some."""
    numbers = ("value", "ratio", "ratio_low", "ratio_high", "ms", "baseline_ms")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update((key, float(row[key])) for key in numbers)
    return rows


def draw(rows, path):
    """Draws a panel for each axis: medians, and bands from quartile to quartile."""
    from matplotlib.figure import Figure

    figure = Figure((9, 7), dpi=100, facecolor="white", layout="constrained")
    panels = figure.subplots(2, 2, sharey="row")
    for panel, (axis, values) in zip(panels.flat, AXES.items()):
        for way, colour in COLOURS.items():
            some = [r for r in rows if (r["axis"], r["way"]) == (axis, way)]
            if not some:
                continue
            some.sort(key=lambda row: row["value"])
            x, y, low, high = (
                [row[key] for row in some]
                for key in ("value", "ratio", "ratio_low", "ratio_high")
            )
            panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            panel.plot(x, y, "o-", color=colour, markersize=4, label=LEGEND[way])
        panel.axhline(1, color="black", linewidth=0.8, linestyle="--")
        panel.set_xlabel(LABELS[axis])
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.grid(alpha=0.3)
        if axis == "sparsity":
            panel.set_xticks(values, [f"{value:.0%}" for value in values])
    for row, text in zip(panels, ("the same without shifts", "MobileNetV2")):
        row[0].set_ylabel(f"time / {text}")
    panels[1, 0].set_ylim(bottom=0)
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "FE-Net 1.0, 224x224 pixels, 60% unshifted, displacements up to 1 pixel; "
        "one of these changed\n"
        f"Batch 1, one thread, {rows[0]['machine']}; bands: quartiles",
        fontsize=10,
    )
    figure.savefig(path)


def main():
    """Measures along all axes, prints the ratios, writes and draws them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns of each network")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--draw", action="store_true", help="only draw the file that is there"
    )
    arguments = parser.parse_args()
    picture = arguments.output.with_suffix(".png")
    if arguments.draw:
        draw(read(arguments.output), picture)
        return
    if custom_ops.load() is None:
        raise SystemExit(f"There is no native op: {custom_ops.why_unavailable()}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # TensorFlow would warn about so many tf.functions.
    tf.get_logger().setLevel("ERROR")
    rows = []
    with tempfile.TemporaryDirectory() as folder, rich.progress.Progress() as progress:
        networks = Networks(folder)
        for axis, values in AXES.items():
            # Every network is made, and then timed in all ways.
            steps = len(values) * (1 + len(ways(axis)))
            task = progress.add_task(axis, total=steps)
            rows += measure(
                axis, networks, arguments.rounds, lambda: progress.advance(task)
            )
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=130))
    draw(read(arguments.output), picture)
    print(f"Written to {arguments.output} and {picture}")


if __name__ == "__main__":
    main()
