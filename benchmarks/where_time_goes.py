"""Where the time goes in ShiftNet-A, with shifts and with depthwise convolutions.

    python benchmarks/where_time_goes.py

Fig. 2 of the SSL paper, on a CPU with one image at a time: ShiftNet-A for 224x224
pixels, with

- `grouped`: grouped shifts, as in the ShiftNet paper (windows of 5x5 and 3x3 pixels);
- `sparse 80%`: sparse shifts by the same displacements, 80% of them zero;
- `depthwise 3`, `depthwise 5`: depthwise convolutions instead, all of 3x3 pixels or of
  the sizes of the windows;

as the plain Keras model in a `tf.function`; as `deploy.fuse` makes it, if it has shifts
(units are one op there, so that shifts are all that can be told apart); and as the
float32 file of `deploy.to_tflite` in LiteRT.

LiteRT has no profiler in Python, and compilers merge operations, so every kind of
operation is measured in all runtimes by leaving it out: first the shifts, or the
depthwise convolutions, without which all four are the same network; of this one batch
normalization, ReLU and residual additions; then the 7x7 convolution at the beginning.
What each of them took is by how much the time went down, so that the kinds add up to
the whole; what remains at last is 1x1 convolutions, and the poolings, concatenations
and classifier that hold them together. A kind that costs nothing can come out a little
below zero. The paper leaves batch normalization and ReLU out altogether.

All networks of a runtime, whole and with kinds left out, take turns in one process, on
one thread; `ratio` is the time of a kind and of those below it, the kinds above it left
out, as a multiple of the whole network's with grouped shifts. Writes
benchmarks/results/where_time_goes.csv, with the machine in it, and draws it (this needs
matplotlib) as where_time_goes.png beside it.
"""

import argparse
import csv
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
from scaling import compiled, lite  # noqa: E402

from keras_shift import custom_ops, deploy  # noqa: E402
from keras_shift.deploy import with_random_biases  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.layers import GroupedShift2D, SparseShift2D  # noqa: E402
from keras_shift.zoo import ShiftNetA  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "where_time_goes.csv"

SPARSITY = 0.8

# Kinds are left out in this order. The last one is what remains.
KINDS = ("spatial", "normalization, ReLU, additions", "stem", "1x1 and rest")
FUSED_KINDS = ("spatial", "fused and rest")

NETWORKS = ("grouped", "sparse 80%", "depthwise 3", "depthwise 5")
FUSED_NETWORKS = NETWORKS[:2]

# The picture stacks the kinds in this order, from the bottom up.
COLOURS = {
    "1x1 and rest": "#4c78a8",
    "fused and rest": "#9ecae9",
    "stem": "#72b7b2",
    "normalization, ReLU, additions": "#bab0ac",
    "spatial": "#e45756",
}
LEGEND = {
    "1x1 and rest": "1x1 convolutions, poolings, classifier",
    "fused and rest": "fused units, and what is in none",
    "stem": "7x7 convolution",
    "normalization, ReLU, additions": "batch normalization, ReLU, additions",
    "spatial": "shifts or depthwise convolutions",
}


def shiftnet(network):
    """Returns one of `NETWORKS`."""
    if network == "sparse 80%":
        model = ShiftNetA(spatial="sparse_shift", classifier_activation=None)
        random = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, SparseShift2D):
                displacements = layer.displacement_array().copy()
                channels = displacements.shape[1]
                still = random.permutation(channels)[: round(SPARSITY * channels)]
                displacements[:, still] = 0
                layer.displacements.assign(displacements)
        return with_random_biases(model)
    model = ShiftNetA(classifier_activation=None)
    if network != "grouped":
        largest = int(network.split()[1])

        def depthwise(layer):
            if not isinstance(layer, GroupedShift2D):
                return type(layer).from_config(layer.get_config())
            size = min(layer.kernel_size, largest)
            return keras.layers.DepthwiseConv2D(
                size, padding="same", use_bias=False, name=layer.name
            )

        model = keras.models.clone_model(model, clone_function=depthwise)
    return with_random_biases(model)


def remainders():
    """Returns what remains of any network, by the first kind that is not left out."""
    bare = with_random_biases(ShiftNetA(spatial="none", classifier_activation=None))
    left_out = (
        keras.layers.BatchNormalization,
        keras.layers.Activation,
        keras.layers.Add,
    )

    def call(layer, *args, **kwargs):
        if isinstance(layer, left_out):
            # An addition's last input is not the shortcut.
            return keras.tree.flatten(args)[-1]
        return layer(*args, **kwargs)

    convolutions = keras.models.clone_model(bare, call_function=call)
    stem = convolutions.get_layer("stem")
    last = keras.Model(stem.output, convolutions.outputs[0])
    return dict(zip(KINDS[1:], (bare, convolutions, last)))


def calls(folder, advance):
    """Functions to time, by runtime and by network or by the next kind."""
    models = {network: shiftnet(network) for network in NETWORKS} | remainders()
    functions = {"keras": {}, "litert": {}}
    for number, (name, model) in enumerate(models.items()):
        functions["keras"][name] = compiled(model)
        functions["litert"][name] = lite(model, f"{folder}/{number}.tflite")
        advance()
    for name in FUSED_NETWORKS:
        functions["keras"][f"{name}, fused"] = compiled(deploy.fuse(models[name]))
    # This network has no shifts.
    fused = deploy.fuse(models[KINDS[1]])
    functions["keras"][FUSED_KINDS[1]] = compiled(fused)
    return functions


def differences(runtime, timings):
    """Yields a dictionary for every network and kind of operation of a runtime."""
    for network, whole in timings.items():
        if network in KINDS + FUSED_KINDS:
            continue
        kinds = FUSED_KINDS if network.endswith("fused") else KINDS
        before = [whole, *(timings[kind] for kind in kinds[1:])]
        after = [*(timing.ratio for timing in before[1:]), 0.0]
        for kind, timing, remains in zip(kinds, before, after):
            yield {
                "runtime": runtime,
                "network": network,
                "kind": kind,
                "share": (timing.ratio - remains) / whole.ratio,
                "ratio": timing.ratio,
                "ratio_low": timing.ratio_low,
                "ratio_high": timing.ratio_high,
                "ms": timing.median * 1e3,
                "machine": machine(),
                "tensorflow": tf.__version__,
                "threads": 1,
            }


def show(rows, console):
    """Prints the share of every kind of operation, a row for each network."""
    table = rich.table.Table(
        title=f"ShiftNet-A, 224 pixels, {rows[0]['machine']}, one thread, batch 1",
        caption="time: of the network with grouped shifts = 1, median (quartiles).",
    )
    for column in ("runtime", "network", "time", *COLOURS):
        table.add_column(column, justify="right")
    for runtime, network in dict.fromkeys((r["runtime"], r["network"]) for r in rows):
        some = {
            row["kind"]: row
            for row in rows
            if (row["runtime"], row["network"]) == (runtime, network)
        }
        whole = "{ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})"
        table.add_row(
            runtime,
            network,
            whole.format(**some["spatial"]),
            *(f"{some[k]['share']:.1%}" if k in some else "" for k in COLOURS),
        )
    console.print(table)


def read(path):
    """Returns the rows of a file, with numbers where there are some."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for key in ("share", "ratio", "ratio_low", "ratio_high", "ms"):
            row[key] = float(row[key])
    return rows


def draw(rows, path):
    """Draws a bar for each network, as high as its time, divided into the kinds."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    runtimes = {"keras": "TensorFlow", "litert": "LiteRT, float32 file"}
    bars = {
        runtime: sorted(
            {r["network"]: r for r in rows if r["runtime"] == runtime},
            key=lambda network: network.endswith("fused"),
        )
        for runtime in runtimes
    }
    figure = Figure((10, 5.6), dpi=100, facecolor="white", layout="constrained")
    widths = [len(networks) for networks in bars.values()]
    panels = figure.subplots(1, 2, width_ratios=widths)
    for panel, (runtime, networks) in zip(panels, bars.items()):
        for x, network in enumerate(networks):
            some = {
                row["kind"]: row
                for row in rows
                if (row["runtime"], row["network"]) == (runtime, network)
            }
            _draw_bar(panel, x, some)
        panel.set_xticks(
            range(len(networks)),
            [network.replace(", ", "\n").replace(" ", "\n", 1) for network in networks],
        )
        panel.set_title(runtimes[runtime], fontsize=10)
        panel.margins(y=0.1)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("time / that with grouped shifts")
    patches = [Patch(color=COLOURS[kind], label=LEGEND[kind]) for kind in COLOURS]
    figure.legend(
        handles=patches[::-1], loc="outside lower center", ncols=3, frameon=False
    )
    figure.suptitle(
        "Where the time goes in ShiftNet-A, 224x224 pixels, batch 1, one thread, "
        f"{rows[0]['machine']}\nShares of each network's time; whiskers: quartiles",
        fontsize=10,
    )
    figure.savefig(path)


def _draw_bar(panel, x, kinds):
    whole, bottom = kinds["spatial"], 0.0
    for kind, colour in COLOURS.items():
        if kind not in kinds or kinds[kind]["share"] <= 0:
            continue
        share = kinds[kind]["share"]
        height = share * whole["ratio"]
        panel.bar(x, height, 0.75, bottom, color=colour)
        if height > 0.05 or kind == "spatial":
            middle = bottom + height / 2
            panel.text(x, middle, f"{share:.0%}", ha="center", va="center", size=9)
        bottom += height
    low, high = whole["ratio_low"], whole["ratio_high"]
    # The first time has no spread, since all ratios are to it.
    if low < high:
        panel.vlines(x + 0.3, low, high, color="black", linewidth=1.5)
    panel.annotate(
        f"{whole['ms']:.0f} ms",
        (x, max(bottom, high)),
        (0, 3),
        textcoords="offset points",
        ha="center",
        size=9,
        weight="bold",
    )


def main():
    """Measures all networks, prints the shares, writes and draws them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="turns of each network")
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
        steps = len(NETWORKS) + len(KINDS[1:]) + 2
        task = progress.add_task("networks", total=steps)
        functions = calls(folder, lambda: progress.advance(task))
        for runtime, some in functions.items():
            timings = time_alternately(some, arguments.rounds)
            rows += differences(runtime, timings)
            progress.advance(task)
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=130))
    draw(read(arguments.output), picture)
    print(f"Written to {arguments.output} and {picture}")


if __name__ == "__main__":
    main()
