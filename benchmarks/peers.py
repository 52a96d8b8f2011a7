"""What users would take today, trained on Tiny-ImageNet as MobileNetV2 is trained here.

    python benchmarks/peers.py describe FOLDER
    python benchmarks/peers.py train FOLDER/NAME.json --data-dir DIR --output RUN
    python benchmarks/peers.py record RUN ... --data-dir DIR
    python benchmarks/peers.py retime

`describe` writes a recipe for each network and beside it the network as Keras' own
JSON, so that `train` does not need the package zeromodels (from PyPI), which defines
two of them. `record` measures what trainings came to, and writes it into
benchmarks/results/peers.csv. `retime` measures the times in there again, of networks
with random weights, which take the same.

All are trained by MobileNetV2's recipe. As in `keras_shift.zoo.MobileNetV2`, the first
layer scales pixels to [-1, 1], batch normalization has the momentum 0.99, all kernels
but the depthwise ones decay, and there is dropout of 0.2 before the classifier and
nowhere else.
"""

import argparse
import csv
import dataclasses
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import records  # noqa: E402

from keras_shift import training  # noqa: E402
from keras_shift.files import replacing  # noqa: E402
from keras_shift.training.trainer import ENVIRONMENT, RECIPE, WEIGHTS  # noqa: E402
from keras_shift.zoo import recipes  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "peers.csv"
TRAINED_AS = "tiny_imagenet.mobilenet_v2_1.0"
NETWORK = "network.json"

BATCH_NORM_MOMENTUM = 0.99
DROPOUT_RATE = 0.2


def mobilenet_v3_large(input_shape, classes, minimalistic=False):
    """Returns keras.applications' MobileNetV3-Large, with logits."""
    return keras.applications.MobileNetV3Large(
        input_shape,
        minimalistic=minimalistic,
        weights=None,
        classes=classes,
        dropout_rate=DROPOUT_RATE,
        classifier_activation=None,
        include_preprocessing=False,
    )


def mobilenet_v3_large_minimalistic(input_shape, classes):
    """Returns MobileNetV3-Large with 3x3 kernels, ReLU and no squeeze-and-excite."""
    return mobilenet_v3_large(input_shape, classes, minimalistic=True)


def mobilenet_v4_conv_small(input_shape, classes):
    """Returns zeromodels' MobileNetV4-Conv-Small, with logits."""
    from zeromodels.models import mobilenetv4

    return mobilenetv4.MobileNetV4ImageClassify(
        image_size=input_shape[0],
        num_classes=classes,
        dropout_rate=DROPOUT_RATE,
        classifier_activation=None,
    )


def efficientnet_lite0(input_shape, classes):
    """Returns zeromodels' EfficientNet-Lite0, with logits."""
    from zeromodels.models import efficientnet_lite

    return efficientnet_lite.EfficientNetLiteImageClassify(
        image_size=input_shape[0],
        num_classes=classes,
        dropout_rate=DROPOUT_RATE,
        drop_connect_rate=0.0,
        classifier_activation=None,
    )


PEERS = {
    function.__name__: function
    for function in (
        mobilenet_v3_large,
        mobilenet_v3_large_minimalistic,
        mobilenet_v4_conv_small,
        efficientnet_lite0,
    )
}


def build(name, recipe):
    """Returns a network as the recipe trains it."""
    arguments = recipe.arguments
    published = PEERS[name](arguments["input_shape"], arguments["classes"])
    # This leaves the package's own subclass of `keras.Model` behind.
    published = keras.Model(published.inputs, published.outputs, name=name)

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = BATCH_NORM_MOMENTUM
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense):
            # The papers' weight decay is twice the factor of Keras' regularizer.
            config["kernel_regularizer"] = keras.regularizers.L2(
                recipe.weight_decay / 2
            )
        return type(layer).from_config(config)

    cloned = keras.models.clone_model(published, clone_function=clone)
    images = keras.Input(arguments["input_shape"], name="images")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    return keras.Model(images, cloned(scaled), name=name)


def describe(folder):
    """Writes a recipe and a network for each of `PEERS`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PEERS:
        recipe = dataclasses.replace(
            recipes.get_recipe(TRAINED_AS), name=f"tiny_imagenet.{name}", network=name
        )
        path = folder / f"{recipe.name}.json"
        path.write_text(recipe.to_json(), encoding="utf-8")
        network = build(name, recipe).to_json()
        network_file(path).write_text(network, encoding="utf-8")


def network_file(recipe):
    """Returns the path of the network beside a recipe."""
    return recipe.with_suffix(".network")


def train(recipe, data_dir, output, seed=0):
    """Trains a network that `describe` wrote, and goes on where it was interrupted."""
    network = network_file(recipe).read_text(encoding="utf-8")
    recipe = training.Recipe.from_json(recipe.read_text(encoding="utf-8"))
    recipe = dataclasses.replace(recipe, seed=seed)
    keras.utils.set_random_seed(recipe.seed)
    model = keras.models.model_from_json(network)
    data = training.load_data(
        recipe.dataset,
        model.input_shape[1:3],
        data_dir,
        augmentation=recipe.augmentation,
    )
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / NETWORK) as temporary:
        temporary.write_text(network, encoding="utf-8")
    training.train(model, recipe, data, output, resume=True)


def read_run(folder):
    """Returns the network that a training has ended with."""
    network = (folder / NETWORK).read_text(encoding="utf-8")
    model = keras.models.model_from_json(network)
    model.load_weights(folder / WEIGHTS)
    return model


def record(runs, data_dir, rounds, output):
    """Measures what trainings have come to, and adds it to the table."""
    rows = read(output) if output.exists() else {}
    for run in runs:
        row = measure(run, data_dir, rounds)
        print(row)
        rows[row["network"]] = row
    records.write([rows[name] for name in PEERS if name in rows], output)


def read(path):
    """Returns the rows of the table by network."""
    with open(path, newline="", encoding="utf-8") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


def retime(rounds, output):
    """Measures the times of all networks in the table again."""
    from keras_shift.deploy import with_random_biases

    rows = read(output)
    for name, row in rows.items():
        model = on_phone(name, recipes.get_recipe(TRAINED_AS))
        row.update(times(with_random_biases(model), rounds))
        print(row)
    records.write([*rows.values()], output)


def on_phone(name, recipe):
    """Returns a network at a phone's size of images, with random weights."""
    # `describe` and `train` also run where there is no TensorFlow.
    import frontier

    arguments = {**recipe.arguments, "input_shape": frontier.IMAGE_SHAPE}
    return build(name, dataclasses.replace(recipe, arguments=arguments))


def times(model, rounds):
    """Returns the columns of what a network's files take."""
    import frontier

    from keras_shift.environment import machine

    ratios = {kind: frontier.ratio(kind, model, rounds) for kind in frontier.KINDS}
    return {**ratios, "machine": machine()}


def measure(run, data_dir, rounds):
    """Returns the row of one training."""
    from keras_shift import analysis, publishing

    text = (run / RECIPE).read_text(encoding="utf-8")
    recipe = training.Recipe.from_json(text)
    environment = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    model = read_run(run)
    data = training.load_data(recipe.dataset, model.input_shape[1:3], data_dir)
    figures = publishing.measure(model, data)
    # The file is timed at a phone's size of images, as the others are.
    large = on_phone(recipe.network, recipe)
    large.set_weights(model.get_weights())
    return {
        "network": recipe.network,
        "epochs": recipe.epochs,
        "top1": figures.top1,
        "int8_top1": figures.int8_top1,
        "parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        "multiply_adds": analysis.multiply_adds(large),
        **times(large, rounds),
        "trained_on": environment["device"],
    }


def main(arguments):
    """Does what the command line says."""
    commands = {
        "describe": describe,
        "train": train,
        "record": record,
        "retime": retime,
    }
    given = vars(arguments)
    commands[given.pop("command")](**given)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("describe")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("train")
    command.add_argument("recipe", type=Path)
    command.add_argument("--data-dir")
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("record")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    command.add_argument("--data-dir")
    for command in (command, commands.add_parser("retime")):
        command.add_argument(
            "--rounds", type=int, default=100, help="turns of each file"
        )
        command.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
