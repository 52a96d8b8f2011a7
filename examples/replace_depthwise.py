"""Shifts in a network that has none: MobileNetV2 without depthwise convolutions.

Fine-tunes MobileNetV2, exchanges its depthwise convolutions for sparse shifts
(`keras_shift.replace_depthwise`), trains on while shifts that matter little are taken
away, and exports both networks for phones. It prints accuracies and times side by side,
and draws which layers keep their shifts. The images are scikit-learn's handwritten
digits, which need no download, unless you name others:

    python examples/replace_depthwise.py
    python examples/replace_depthwise.py --data photographs/
    python examples/replace_depthwise.py --network MobileNetV3Large --dataset cifar10

`--network` names any network of keras.applications that has depthwise convolutions.
Only our own MobileNetV2 has weights that need no download; the others start from random
ones, and need more epochs.
"""

import argparse
import sys
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import finetune_and_export as workflow
import keras
import numpy as np
import rich.console

import keras_shift
from keras_shift.deploy import LiteRTModel
from keras_shift.deploy.timing import time_alternately
from keras_shift.files import replacing

# The importance of shifts is computed from this many images.
IMPORTANCE_IMAGES = 500


def build(name, data, seed):
    """Returns the zoo's MobileNetV2 with weights, or one of keras.applications."""
    keras.utils.set_random_seed(seed)
    shape = (data.image_size, data.image_size, 3)
    if name == "MobileNetV2":
        return keras_shift.zoo.MobileNetV2(
            shape,
            weights="tiny_imagenet",
            classes=data.classes,
            output_stride=32 if data.image_size >= 96 else 16,
            batch_norm_momentum=workflow.BATCH_NORM_MOMENTUM,
        )
    constructor = getattr(keras.applications, name, None)
    if not callable(constructor):
        raise SystemExit(
            "--network must be a network of keras.applications. "
            f"Received: --network {name}"
        )
    return constructor(input_shape=shape, weights=None, classes=data.classes)


def main(arguments):
    """Runs the whole way and prints the table."""
    data = workflow.load(arguments)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    console = rich.console.Console()

    model = build(arguments.network, data, arguments.seed)
    console.rule(f"{model.name} on {data.name}")
    accuracy = workflow.fit(model, data, arguments.epochs, arguments.learning_rate)

    try:
        shifted = keras_shift.replace_depthwise(model, max_displacement=1)
    except ValueError as error:
        raise SystemExit(f"--network {arguments.network}: {error}") from error
    shifted.name = f"{model.name}_shifted"
    shifted.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    exchanged = shifted.evaluate(data.held_out, verbose=0, return_dict=True)
    console.rule(f"{shifted.name}: {exchanged['accuracy']:.1%} before it is trained on")
    sparsify = keras_shift.training.SparsifyShifts(
        *workflow.collect(data.train, IMPORTANCE_IMAGES),
        unshifted=arguments.unshifted,
        # Layers that lose all their shifts are the fastest.
        layer_cost=8,
        # The first part is for weights that have to get used to shifts.
        begin=0.3,
    )
    trained = workflow.fit(
        shifted, data, arguments.epochs, arguments.learning_rate, [sparsify]
    )

    rows, files = [], {}
    for network, top1 in ((model, accuracy), (shifted, trained)):
        row = {
            "network": network.name,
            "Keras top-1": top1,
            "unshifted": workflow.unshifted(network),
            "million MAdds": keras_shift.analysis.multiply_adds(network) / 1e6,
        }
        images, labels = workflow.collect(data.held_out)
        for kind, report in workflow.export(network, data, output).items():
            lite = files[network.name, kind] = LiteRTModel(report.path)
            predictions = lite.predict(images).argmax(-1)
            row[f"{kind} top-1"] = float(np.mean(predictions == labels))
            row[f"{kind} kB"] = report.bytes / 1000
        rows.append(row)
    timings = time_alternately({name: lite.invoke for name, lite in files.items()})
    for row in rows:
        for kind in ("float32", "int8"):
            row[f"{kind} ms"] = timings[row["network"], kind].median * 1000
    how = f"{arguments.epochs} epochs before and after the exchange"
    workflow.report_rows(rows, data, how, console)
    with replacing(output / "shifts.png") as path:
        draw(shifted, path)
    with replacing(output / "results.csv") as path:
        workflow.write_csv(rows, path)
    console.print(f"The files and a picture of the shifts are in {output}/.")


def draw(model, path):
    """Draws which layers keep their shifts."""
    import matplotlib

    matplotlib.use("agg")
    axes = keras_shift.analysis.plot_sparsity(model)
    axes.figure.savefig(path, format="png", dpi=100, bbox_inches="tight")


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    workflow.add_data_arguments(parser)
    parser.add_argument(
        "--network", default="MobileNetV2", help="a name in keras.applications"
    )
    parser.add_argument(
        "--unshifted",
        type=float,
        default=0.9,
        help="share of channels that no shift moves in the end",
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--output", default="replace_depthwise_output")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main(parse())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The files written so far are complete.")
