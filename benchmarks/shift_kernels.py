"""What a shift costs: against copying, depthwise convolution, and pad/slice/concat.

    python benchmarks/shift_kernels.py

For the maps that FE-Net shifts, at batch 1 and 32, with 60 and 90% of the channels
unshifted, displacements up to 1 and 2 pixels, and channels sorted by displacement or
in arbitrary order, on one thread:

- the kernels alone, forward and backward (both gradients in one pass), as multiples
  of the time that memcpy takes for a tensor of the same size (shift_kernels.cc);
  displacements are the same from call to call, so that the plan of the shift, which
  is kept, is not made anew;
- the op in TensorFlow, forward and backward, as a share of the time of
  `tf.nn.depthwise_conv2d` with one-hot kernels of 3x3 or 5x5 pixels (backward: its
  gradients for input and kernel), and of pad, slice and concat (backward: its
  gradient). The latter always has sorted channels, its best case.

All are medians of ratios of processor times taken in turns in one process. Writes
benchmarks/results/shift_kernels.csv, with the machine in it, and prints every cell.
"""

import argparse
import itertools
import os
import subprocess
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
import tensorflow as tf  # noqa: E402
from records import write  # noqa: E402

from keras_shift import custom_ops  # noqa: E402
from keras_shift.environment import machine  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "shift_kernels.csv"

# The design asks for these times: of sorted and arbitrary channels forward, as
# multiples of memcpy's, and of forward and backward together, as a share of the
# depthwise convolution's.
GOALS = {"sorted": 1.2, "arbitrary": 2.5, "together": 0.7}

KEY = ("batch", "size", "channels", "range", "unshifted", "order")


def kernel_rows(rounds):
    """Runs the C++ program; yields a dictionary a cell."""
    process = subprocess.Popen(
        ["tools/cc_tests.sh", "benchmarks/shift_kernels.cc"],
        cwd=ROOT,
        env={**os.environ, "ROUNDS": str(rounds)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        kind, *values = line.strip().split(",")
        if kind != "cell":
            continue
        numbers = [float(value) for value in values]
        batch, size, channels, extent, unshifted, in_order = map(int, numbers[:6])
        order = "sorted" if in_order else "arbitrary"
        row = dict(zip(KEY, (batch, size, channels, extent, unshifted, order)))
        row["memcpy_us"] = numbers[6]
        for name, (median, low, high) in {
            "forward": numbers[7:10],
            "backward": numbers[10:13],
        }.items():
            row[f"{name}_per_memcpy"] = median
            row[f"{name}_per_memcpy_low"] = low
            row[f"{name}_per_memcpy_high"] = high
        yield row
    if process.wait():
        raise SystemExit("The C++ benchmark failed; see above.")


def displacements(row, random):
    """Returns a balanced pattern like the C++ program's, and its sorted order."""
    extent, channels = row["range"], row["channels"]
    window = range(-extent, extent + 1)
    choices = [pair for pair in itertools.product(window, window) if any(pair)]
    shifted = channels * (100 - row["unshifted"]) // 100
    moved = sorted(choices[c % len(choices)] for c in range(shifted))
    pattern = np.array([(0, 0)] * (channels - shifted) + moved, "int32").T
    in_order = pattern
    if row["order"] == "arbitrary":
        pattern = pattern[:, random.permutation(channels)]
    return pattern, in_order


def tensorflow_calls(row, random):
    """Functions to time in turns, by name; each repeats its work `repeats` times."""
    op = custom_ops.load()
    pattern, in_order = displacements(row, random)
    shape = (row["batch"], row["size"], row["size"], row["channels"])
    extent = row["range"]
    # Calling a tf.function costs 100 us, so small work is repeated inside of it.
    repeats = int(np.clip(4_000_000 // np.prod(shape), 1, 48))
    x = tf.constant(random.normal(size=shape).astype("float32"))
    real = tf.constant(
        (pattern + random.uniform(-0.45, 0.45, pattern.shape)), "float32"
    )
    kernel = np.zeros((2 * extent + 1, 2 * extent + 1, row["channels"], 1), "float32")
    kernel[pattern[0] + extent, pattern[1] + extent, range(row["channels"]), 0] = 1
    strides = [1, 1, 1, 1]

    def native(y):
        return op.keras_shift_shift2d(x=y, displacements=pattern, num_threads=1)

    def depthwise(y):
        return tf.nn.depthwise_conv2d(y, kernel, strides, "SAME")

    def slices(y):
        return pad_slice_concat(y, in_order, extent)

    def native_backward(y):
        return op.keras_shift_sparse_shift2d_grad(
            x=x, upstream=y, displacements=real, num_threads=1
        )

    def depthwise_backward(y):
        by_input = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=shape,
            filter=kernel,
            out_backprop=y,
            strides=strides,
            padding="SAME",
        )
        by_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=x,
            filter_sizes=kernel.shape,
            out_backprop=y,
            strides=strides,
            padding="SAME",
        )
        return by_input, by_kernel

    def slices_backward(y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z = slices(x)
        return tape.gradient(z, x, y), tf.zeros(())

    def chain(function):
        @tf.function
        def call():
            y, others = x, []
            for _ in range(repeats):
                result = function(y)
                if isinstance(result, tf.Tensor):
                    y = result
                else:
                    y, other = result
                    others.append(other)
            return tf.reshape(y, [-1])[0], others

        return call

    functions = {
        "forward": (native, depthwise, slices),
        "backward": (native_backward, depthwise_backward, slices_backward),
    }
    names = ("native", "depthwise", "slices")
    return {
        (way, name): chain(function)
        for way, three in functions.items()
        for name, function in zip(names, three)
    }


def pad_slice_concat(x, pattern, extent):
    """Shifts by TensorFlow's own operations, with a slice for each displacement."""
    _, height, width, channels = x.shape
    unshifted = int(np.sum(~pattern.any(axis=0)))
    margin = [0, 0], [extent, extent], [extent, extent], [0, 0]
    padded = tf.pad(x[..., unshifted:], margin)
    parts = [x[..., :unshifted]]
    start = unshifted
    for c in range(unshifted, channels):
        if c + 1 < channels and np.array_equal(pattern[:, c], pattern[:, c + 1]):
            continue
        i, j = pattern[:, c] + extent
        here = slice(start - unshifted, c + 1 - unshifted)
        parts.append(padded[:, i : i + height, j : j + width, here])
        start = c + 1
    return tf.concat(parts, -1)


def tensorflow_ratios(row, rounds, random):
    """Adds the native op's share of its rivals' time to a row."""
    calls = tensorflow_calls(row, random)
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    seconds = {name: np.array(values) for name, values in seconds.items()}
    for rival in ("depthwise", "slices"):
        for way in ("forward", "backward"):
            ratio = seconds[way, "native"] / seconds[way, rival]
            row[f"{way}_per_{rival}"] = float(np.median(ratio))
        both = [
            seconds["forward", name] + seconds["backward", name]
            for name in ("native", rival)
        ]
        low, median, high = np.percentile(both[0] / both[1], [25, 50, 75])
        row[f"together_per_{rival}"] = float(median)
        row[f"together_per_{rival}_low"] = float(low)
        row[f"together_per_{rival}_high"] = float(high)


def show(rows, console):
    """Prints every cell beside its goal; what misses it is marked."""
    table = rich.table.Table(
        title=f"Shift kernels, {rows[0]['machine']}, one thread",
        caption="memcpy: multiples of copying the tensor. depthwise, slices: share of "
        "their time, forward / backward / together. * misses its goal.",
    )
    for column in ("map", "range", "unshifted", "channels", "forward", "goal"):
        table.add_column(column, justify="right")
    for column in ("backward", "of depthwise", "goal", "of slices"):
        table.add_column(column, justify="right")
    for row in rows:
        forward, together = row["forward_per_memcpy"], row["together_per_depthwise"]
        goal = GOALS[row["order"]]
        table.add_row(
            f"{row['batch']}x{row['size']}x{row['size']}x{row['channels']}",
            str(row["range"]),
            f"{row['unshifted']}%",
            row["order"],
            f"{forward:.2f} memcpy{'*' if forward > goal else ' '}",
            f"{goal}",
            f"{row['backward_per_memcpy']:.1f} memcpy",
            " / ".join(
                f"{row[f'{way}_per_depthwise']:.2f}"
                for way in ("forward", "backward", "together")
            )
            + ("*" if together > GOALS["together"] else " "),
            f"{GOALS['together']}",
            " / ".join(
                f"{row[f'{way}_per_slices']:.2f}"
                for way in ("forward", "backward", "together")
            ),
        )
    console.print(table)
    for extent in (1, 2):
        some = [row for row in rows if row["range"] == extent]
        forward = sum(r["forward_per_memcpy"] <= GOALS[r["order"]] for r in some)
        both = sum(r["together_per_depthwise"] <= GOALS["together"] for r in some)
        console.print(
            f"Range {extent}: of {len(some)} cells, {forward} meet the goal for "
            f"forward and {both} that for forward and backward together."
        )


def main():
    """Runs all cells, prints them and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns for each cell")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if custom_ops.load() is None:
        raise SystemExit(f"There is no native op: {custom_ops.why_unavailable()}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # TensorFlow would warn about so many tf.functions.
    tf.get_logger().setLevel("ERROR")
    random = np.random.default_rng(0)
    with rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
    ) as progress:
        task = progress.add_task("kernels", total=96)
        rows = []
        for row in kernel_rows(arguments.rounds):
            rows.append(row)
            progress.advance(task)
        task = progress.add_task("TensorFlow", total=len(rows))
        for row in rows:
            tensorflow_ratios(row, arguments.rounds, random)
            row.update(machine=machine(), tensorflow=tf.__version__, threads=1)
            progress.advance(task)
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=150))
    print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
