"""Which layers make the fastest file of a unit with shifts, and of pooling.

    python benchmarks/lowering_forms.py
    python benchmarks/without_amx.py benchmarks/lowering_forms.py

`to_tflite` may write the same numbers by different layers. This times each form alone,
for shapes of FE-Net at images of 224x224 pixels, in float32 and int8. Of a unit (a 1x1
convolution with ReLU to wide channels, some of which move by a pixel, and one back):

- `no shift`: nothing moves. The other forms are shares of this one's time.
- `whole`: one depthwise convolution for all wide channels.
- `split`: the moving channels have convolutions of their own; both results are added.
  This is what `to_tflite` writes where few channels move.
- `wider`: as `split`, with 16 more of the channels that do not move among those that
  do. `to_tflite` writes this in float32 where the matrices then have fewer tiles of 32
  columns and the map is not too large.
- `concatenated`: as `split`, but the second 1x1 convolution is that of all channels.
- `dense`: as `split`, with one 3x3 convolution for the depthwise and the second 1x1.

And of an average over 2x2 pixels in front of a 1x1 convolution:

- `pooling`: as two layers, the first of which is a depthwise convolution in int8.
- `convolution`: as one convolution of 2x2, which `to_tflite` writes in int8 for few
  filters.

One image, one thread, in turns: the median, and the quartiles of ratios round by round.
Writes benchmarks/results/lowering_forms.csv, which keeps the rows of other machines.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.progress  # noqa: E402
from records import others, write  # noqa: E402

from keras_shift.deploy import LiteRTModel, to_tflite  # noqa: E402
from keras_shift.deploy.shift_kernels import shift_convolutions  # noqa: E402
from keras_shift.deploy.timing import time_alternately, warm_up  # noqa: E402
from keras_shift.environment import machine  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "lowering_forms.csv"
KINDS = {"float32": None, "int8": "int8"}

# The side of the map, narrow and wide channels, and how many of these move.
UNITS = (
    *((112, 12, 48, 16), (112, 16, 64, 16), (56, 12, 36, 16), (56, 12, 72, 16)),
    *((56, 16, 96, 16), (28, 24, 144, 32), (14, 48, 288, 32), (14, 96, 576, 64)),
)
# So many channels a depthwise kernel computes at a time.
TILE = 16
# The side of the map in front, its channels, and the filters.
POOLINGS = (
    *((112, 48, 12), (112, 64, 16), (56, 144, 24), (56, 192, 32)),
    *((56, 192, 64), (28, 288, 48), (14, 576, 96)),
)


def convolution(x, filters, size=1, strides=1, relu=False):
    """Returns what a convolution makes of `x`."""
    activation = "relu" if relu else None
    return keras.layers.Conv2D(filters, size, strides, "same", activation=activation)(x)


def shift(x, quantize):
    """Returns `x` with channels moved by a pixel at most, as `to_tflite` moves them."""
    displacements = np.random.default_rng(0).integers(-1, 2, (2, x.shape[-1]))
    for part in shift_convolutions(displacements, quantize):
        layer = keras.layers.DepthwiseConv2D(
            part.kernel.shape[:2],
            padding="same",
            use_bias=False,
            dilation_rate=part.dilation_rate,
        )
        x = layer(x)
        layer.set_weights([part.kernel])
    return x


def unit_forms(x, wide, moving, quantize):
    """Returns outputs of the forms of a unit, by their names."""
    narrow = x.shape[-1]
    every = convolution(x, wide, relu=True)
    still = convolution(x, wide - moving, relu=True)
    moved = convolution(x, moving, relu=True)
    shifted = shift(moved, quantize)

    def split(together):
        parts = (
            convolution(x, wide - together, relu=True),
            shift(convolution(x, together, relu=True), quantize),
        )
        return keras.layers.add([convolution(part, narrow) for part in parts])

    return {
        "no shift": convolution(every, narrow),
        "whole": convolution(shift(every, quantize), narrow),
        "split": split(moving),
        "wider": split(moving + TILE),
        "concatenated": convolution(keras.layers.concatenate([still, shifted]), narrow),
        "dense": keras.layers.add(
            [convolution(still, narrow), convolution(moved, narrow, size=3)]
        ),
    }


def pooling_forms(x, filters):
    """Returns outputs of the forms of pooling and a convolution, by their names."""
    return {
        "pooling": convolution(keras.layers.AveragePooling2D(2)(x), filters),
        "convolution": convolution(x, filters, size=2, strides=2),
    }


def compared():
    """Yields what a row says of a shape and a type, an input, and outputs by form."""
    for kind, quantize in KINDS.items():
        for side, narrow, wide, moving in UNITS:
            x = keras.Input((side, side, narrow))
            keys = {"of": "unit", "side": side, "narrow": narrow, "wide": wide}
            forms = unit_forms(x, wide, moving, quantize)
            yield keys | {"moving": moving, "kind": kind}, x, forms
        for side, wide, narrow in POOLINGS:
            x = keras.Input((side, side, wide))
            keys = {"of": "pooling", "side": side, "narrow": narrow, "wide": wide}
            yield keys | {"moving": "", "kind": kind}, x, pooling_forms(x, narrow)


def measure(keys, x, forms, rounds):
    """Yields a row for each form."""
    images = np.random.default_rng(0).normal(0, 1, (8, *x.shape[1:]))
    images = images.astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for form, y in forms.items():
            path = f"{folder}/{form}.tflite"
            to_tflite(keras.Model(x, y), path, KINDS[keys["kind"]], images)
            files[form] = LiteRTModel(path)
        for file in files.values():
            warm_up(file)
        calls = {form: file.invoke for form, file in files.items()}
        timings = time_alternately(calls, rounds)
    for form, timing in timings.items():
        yield {
            **keys,
            "form": form,
            "ms": timing.median * 1e3,
            "ratio": timing.ratio,
            "ratio_low": timing.ratio_low,
            "ratio_high": timing.ratio_high,
            "machine": machine(),
        }


def main(arguments):
    """Times all forms, and writes the rows."""
    keras.utils.set_random_seed(0)
    rows = []
    for case in rich.progress.track(
        list(compared()), "Timing", disable=not os.isatty(1)
    ):
        rows += measure(*case, arguments.rounds)
    write(rows + others(rows[0], arguments.output), arguments.output)
    print(f"Written to {arguments.output}")


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
