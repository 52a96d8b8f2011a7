"""What becomes of MobileNetV2 if shifts take the place of its depthwise convolutions.

    python benchmarks/replace_depthwise.py --data-dir DIR --run DIR

Takes the top-1 of `MobileNetV2(weights="tiny_imagenet")` on Tiny-ImageNet's validation
images, exchanges its depthwise convolutions (`keras_shift.replace_depthwise`), and
takes it again before and after three epochs of training, in which shifts are taken
away. The training is resumed if it was interrupted (`--run` is its folder). The times
are those of both networks' files for images of 224x224 pixels, with the displacements
that were learned: float32 and int8, one image, one thread, in turns. A third network
has no shifts at all, and no depthwise convolutions either: less is not to be had.
Writes benchmarks/results/replace_depthwise.csv, with the machine in it.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
from records import write  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.deploy import LiteRTModel, to_tflite  # noqa: E402
from keras_shift.deploy.timing import time_alternately, warm_up  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.layers.shift_layer import shift_layers  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "replace_depthwise.csv"
SIZE, PHONE_SIZE = 64, 224
CALIBRATION_IMAGES = 100

RECIPE = keras_shift.training.Recipe(
    name="tiny_imagenet.mobilenet_v2_1.0.shifted",
    network="MobileNetV2",
    dataset="tiny_imagenet",
    augmentation="flip_crop",
    crop_padding=8,
    batch_size=128,
    epochs=3,
    learning_rate=0.05,
    schedule="cosine",
    warmup=0.05,
    nesterov=True,
    displacement_gradient_factor=10.0,
    # Weights first get used to shifts. Then, in the first half of the rest, shifts are
    # taken away; a layer's first shift counts as much as 24 of its channels.
    freeze_shifts=0.2,
    unshifted=0.85,
    layer_cost=24.0,
    source="ours, for two CPU cores",
)


def accuracy(model, data):
    """Returns the top-1 on the validation images."""
    return keras_shift.training.evaluate(model, data.held_out_batches(250)).top1


def phone_networks(trained):
    """Returns networks for a phone's images, with what small ones have taught."""
    # MobileNetV2 has the total stride 32, whatever stride the training used.
    shape = (PHONE_SIZE, PHONE_SIZE, 3)
    model = keras_shift.zoo.MobileNetV2(
        shape, weights="tiny_imagenet", output_stride=32
    )
    networks = {"MobileNetV2": model}
    for name in ("with shifts", "without any shift"):
        networks[name] = keras_shift.replace_depthwise(model, max_displacement=1)
        for layer in networks[name].layers:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
        if name == "without any shift":
            for layer in shift_layers(networks[name]):
                layer.displacements.assign(np.zeros_like(layer.displacements))
    return networks


def times(networks, data, folder, rounds):
    """Times of all files, as shares of MobileNetV2's file of the same type."""
    images, _ = data.training_examples(CALIBRATION_IMAGES)
    images = keras.ops.image.resize(images, (PHONE_SIZE, PHONE_SIZE))
    images = keras.ops.convert_to_numpy(images)
    found = {}
    for kind, quantize in (("float32", None), ("int8", "int8")):
        calls = {}
        for name, model in networks.items():
            path = Path(folder) / f"{name}_{kind}.tflite"
            lite = LiteRTModel(to_tflite(model, path, quantize, images).path)
            warm_up(lite)
            calls[name] = lite.invoke
        for name, timing in time_alternately(calls, rounds).items():
            found[name, kind] = timing
    return found


def main(arguments):
    """Trains, measures, and writes the figures."""
    console = rich.console.Console()
    data = keras_shift.training.load_data(
        RECIPE.dataset, (SIZE, SIZE), data_dir=arguments.data_dir
    )
    keras.utils.set_random_seed(RECIPE.seed)
    model = keras_shift.zoo.MobileNetV2((SIZE, SIZE, 3), weights="tiny_imagenet")
    shifted = keras_shift.replace_depthwise(model, max_displacement=1)
    before = accuracy(model, data)
    exchanged = accuracy(shifted, data)
    console.print(f"{before:.2%} before, {exchanged:.2%} after the exchange")
    keras_shift.training.train(shifted, RECIPE, data, arguments.run, resume=True)
    with tempfile.TemporaryDirectory() as folder:
        networks = phone_networks(shifted)
        found = times(networks, data, folder, arguments.rounds)
    top1 = {"MobileNetV2": before, "with shifts": accuracy(shifted, data)}
    rows = []
    for name, network in networks.items():
        unshifted = keras_shift.analysis.summary(network).unshifted
        row = {
            "network": name,
            "top1": top1.get(name, ""),
            "exchanged_top1": exchanged if name == "with shifts" else "",
            "epochs": RECIPE.epochs if name == "with shifts" else "",
            "unshifted": "" if unshifted is None else unshifted,
            "million_multiply_adds": keras_shift.analysis.multiply_adds(network) / 1e6,
        }
        for kind in ("float32", "int8"):
            timing = found[name, kind]
            row[f"{kind}_ratio"] = timing.ratio
            row[f"{kind}_ratio_low"] = timing.ratio_low
            row[f"{kind}_ratio_high"] = timing.ratio_high
        row["machine"] = machine()
        rows.append(row)
    write(rows, arguments.output)
    console.print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data-dir", required=True, help="folder of tiny_imagenet/")
    parser.add_argument(
        "--run", default="runs/replace_depthwise", help="folder of the training"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
