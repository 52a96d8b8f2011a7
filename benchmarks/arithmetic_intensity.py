"""Does low arithmetic intensity mean that memory is what a convolution waits for?

    python benchmarks/arithmetic_intensity.py

Eq. 4 and 5 of the ShiftNet paper, beside what is achieved: a 3x3 convolution, a 1x1
convolution, a 3x3 depthwise convolution and a grouped shift of 3x3 displacements, each
from M channels to as many, on the maps of ResNet's four stages for 224x224 pixels; on
the largest of them also for 32 images, which no cache holds. In two runtimes, in
float32:

- `tensorflow`: `tf.nn.conv2d`, `tf.nn.depthwise_conv2d` and the compiled op of this
  package, in a `tf.function`;
- `litert`: files of one layer that `deploy.to_tflite` writes. There is no shift: a file
  has a depthwise convolution for it.

Two more calls, of NumPy, say what the machine can do: `copying` a map, which accesses
memory as often as a shift and does nothing else, and a `matrix product` of matrices of
512x512. An operation that waits for memory alone moves as many bytes a
second as copying does, and one that waits for multiplications alone does as many
multiply-adds a second as a matrix product. Bytes are those of the formula: every value
of both maps and of the kernel once.

All calls for a map take turns in one process, on one thread, and their times are
multiples of copying's in the same round. `copying_bytes` and `product_multiply_adds`
are an operation's bytes and multiply-adds a second as shares of what those two reach,
the former with quartiles. Writes benchmarks/results/arithmetic_intensity.csv, with the
machine in it; tools/draw_studies.py draws it.
"""

import argparse
import functools
import math
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# NumPy's matrix product reads it when it is imported.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
import tensorflow as tf  # noqa: E402
from records import write  # noqa: E402

from keras_shift import analysis, custom_ops, deploy  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.ops import grouped_displacements  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "arithmetic_intensity.csv"

# These are the batch size, the height and width in pixels, and the channels.
MAPS = ((1, 56, 64), (1, 28, 128), (1, 14, 256), (1, 7, 512), (32, 56, 64))

OPERATIONS = ("convolution", "1x1 convolution", "depthwise convolution", "shift")
COPYING, PRODUCT = "copying", "matrix product"
KERNEL_SIZES = {"convolution": 3, "1x1 convolution": 1, "depthwise convolution": 3}

PRODUCT_SIZE = 512
FLOAT_BYTES, PAGE_BYTES = 4, 4096

# Calling a tf.function takes about 100 us, so small work is repeated inside of it,
# until it is as much as this. A memory access counts as twenty multiply-adds.
LEAST_WORK = 150_000_000
MOST_REPEATS = 100


def intensity(operation, batch, size, channels):
    """Returns what an operation computes and accesses."""
    shape = (size, size, channels)
    if operation in (COPYING, "shift"):
        return analysis.shift_intensity(shape, batch)
    if operation == PRODUCT:
        # A row of the left matrix is a pixel of a 1x1 convolution.
        return analysis.convolution_intensity(
            (PRODUCT_SIZE, 1, PRODUCT_SIZE), PRODUCT_SIZE, 1
        )
    kernel_size = KERNEL_SIZES[operation]
    if operation == "depthwise convolution":
        return analysis.depthwise_convolution_intensity(shape, kernel_size, batch)
    return analysis.convolution_intensity(shape, channels, kernel_size, batch)


def repeats(found):
    """Returns how often an operation is repeated inside of a call."""
    work = found.multiply_adds + 20 * found.memory_accesses
    return int(np.clip(LEAST_WORK // work, 1, MOST_REPEATS))


def kernel(operation, channels, random):
    """Returns random weights that sum to one, which repeating lets nothing grow."""
    shape = (KERNEL_SIZES[operation],) * 2 + (channels,)
    shape += (1,) if operation == "depthwise convolution" else (channels,)
    weights = random.uniform(size=shape).astype("float32")
    axes = (0, 1) if operation == "depthwise convolution" else (0, 1, 2)
    return weights / weights.sum(axis=axes, keepdims=True)


def tensorflow_call(operation, batch, size, channels, random):
    """Returns a function that repeats an operation of TensorFlow on a map."""
    if operation == "shift":
        displacements = grouped_displacements(channels)
        run = functools.partial(
            custom_ops.load().keras_shift_shift2d,
            displacements=displacements,
            num_threads=1,
        )
    else:
        weights = kernel(operation, channels, random)
        if operation == "depthwise convolution":

            def run(x):
                return tf.nn.depthwise_conv2d(x, weights, [1, 1, 1, 1], "SAME")

        else:

            def run(x):
                return tf.nn.conv2d(x, weights, 1, "SAME")

    times = repeats(intensity(operation, batch, size, channels))
    values = random.uniform(size=(batch, size, size, channels)).astype("float32")

    @tf.function
    def call(x):
        for _ in range(times):
            x = run(x)
        # Returning one value copies almost nothing.
        return tf.reshape(x, [-1])[0]

    return functools.partial(call, tf.constant(values)), times


def litert_call(operation, batch, size, channels, path, random):
    """Returns a function that runs a file of one layer on a map."""
    options = {"padding": "same", "use_bias": False}
    if operation == "depthwise convolution":
        layer = keras.layers.DepthwiseConv2D(KERNEL_SIZES[operation], **options)
    else:
        layer = keras.layers.Conv2D(channels, KERNEL_SIZES[operation], **options)
    model = keras.Sequential([keras.Input((size, size, channels)), layer])
    layer.set_weights([kernel(operation, channels, random)])
    deploy.to_tflite(model, path, batch_size=batch)
    runtime = deploy.LiteRTModel(path)
    runtime.predict(random.uniform(size=runtime.input_shape).astype("float32"))
    return runtime.invoke


def copying_call(batch, size, channels):
    """Returns a function that copies a map of ones."""
    shape = (batch, size, size, channels)
    source, target = (page_aligned(shape) for _ in range(2))
    source[...] = 1
    return functools.partial(np.copyto, target, source)


def page_aligned(shape):
    """Returns an array that starts on a page.

    Where a copy starts a few bytes further into a page than what it copies, memcpy is
    ten times as slow on some processors, and says nothing of the memory.
    """
    count = FLOAT_BYTES * math.prod(shape)
    raw = np.empty(count + PAGE_BYTES, "uint8")
    start = -raw.ctypes.data % PAGE_BYTES
    return raw[start : start + count].view("float32").reshape(shape)


def product_call(random):
    """Returns a function that multiplies two square matrices."""
    left, right = random.uniform(size=(2, PRODUCT_SIZE, PRODUCT_SIZE)).astype("float32")
    return functools.partial(np.matmul, left, right, out=np.empty_like(left))


def calls(batch, size, channels, folder):
    """Functions to time by runtime and operation, and how often each repeats it."""
    random = np.random.default_rng(0)
    found = {
        ("numpy", COPYING): (copying_call(batch, size, channels), 1),
        ("numpy", PRODUCT): (product_call(random), 1),
    }
    for operation in OPERATIONS:
        found["tensorflow", operation] = tensorflow_call(
            operation, batch, size, channels, random
        )
        if operation != "shift":
            path = f"{folder}/{operation.replace(' ', '_')}_{batch}_{size}.tflite"
            call = litert_call(operation, batch, size, channels, path, random)
            found["litert", operation] = call, 1
    return found


def measure(batch, size, channels, functions, rounds):
    """Yields a dictionary for every operation of every runtime on a map."""
    timings = time_alternately(
        {key: call for key, (call, _) in functions.items()}, rounds
    )
    # An operation's work in one call is a multiple of what these two do in theirs.
    copied = intensity(COPYING, batch, size, channels).memory_accesses
    product = intensity(PRODUCT, batch, size, channels).multiply_adds
    product_ratio = timings["numpy", PRODUCT].ratio
    for (runtime, operation), (_, times) in functions.items():
        found = intensity(operation, batch, size, channels)
        timing = timings[runtime, operation]
        seconds = timing.median / times
        accesses = times * found.memory_accesses / copied
        multiply_adds = times * found.multiply_adds / product
        yield {
            "runtime": runtime,
            "operation": operation,
            "batch": batch,
            "size": size,
            "channels": channels,
            "multiply_adds": found.multiply_adds,
            "memory_accesses": found.memory_accesses,
            "intensity": found.ratio,
            "us": seconds * 1e6,
            "gmadds_per_second": found.multiply_adds / seconds / 1e9,
            "gbytes_per_second": FLOAT_BYTES * found.memory_accesses / seconds / 1e9,
            "copying_bytes": accesses / timing.ratio,
            # A slow quartile is a low rate.
            "copying_bytes_low": accesses / timing.ratio_high,
            "copying_bytes_high": accesses / timing.ratio_low,
            "product_multiply_adds": multiply_adds * product_ratio / timing.ratio,
            "machine": machine(),
            "tensorflow": tf.__version__,
            "threads": 1,
        }


def show(rows, console):
    """Prints what every operation achieves, a row for each."""
    table = rich.table.Table(
        title=f"Arithmetic intensity, {rows[0]['machine']}, one thread, float32",
        caption="intensity: multiply-adds for a memory access. of copying, of a matrix "
        "product: bytes and multiply-adds a second as shares of theirs (quartiles).",
    )
    for column in (
        "map",
        "runtime",
        "operation",
        "intensity",
        "us",
        "GMAdds/s",
        "GB/s",
        "of copying",
        "of a product",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            "{batch}x{size}x{size}x{channels}".format(**row),
            row["runtime"],
            row["operation"],
            f"{row['intensity']:.3g}",
            f"{row['us']:.3g}",
            f"{row['gmadds_per_second']:.3g}",
            f"{row['gbytes_per_second']:.3g}",
            "{copying_bytes:.2f} ({copying_bytes_low:.2f} to "
            "{copying_bytes_high:.2f})".format(**row),
            f"{row['product_multiply_adds']:.2f}",
        )
    console.print(table)


def main():
    """Measures all maps, prints the rates and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns of each call")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if custom_ops.load() is None:
        raise SystemExit(f"There is no native op: {custom_ops.why_unavailable()}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # TensorFlow would warn about so many tf.functions.
    tf.get_logger().setLevel("ERROR")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in rich.progress.track(MAPS, "maps"):
            functions = calls(*shape, folder)
            rows += measure(*shape, functions, arguments.rounds)
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=150))
    print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
