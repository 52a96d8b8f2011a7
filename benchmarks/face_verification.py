"""How well shifts tell faces apart, beside convolutions of 3x3 in their place.

    python benchmarks/face_verification.py --data-dir DIR --run DIR

Trains `keras_shift.zoo.ShiftFaceNet` and its convolutional twin on the training people
of View 1 of Labeled Faces in the Wild, by one recipe and one seed, and verifies the
1,000 test pairs of View 1, which are of other people. In the twin, every shift and the
1x1 convolution behind it are one 3x3 convolution, with as many filters. A ShiftFaceNet
so wide that it has about the twin's multiply-adds is trained, too. All networks are
also measured before their training, and as int8 files after it. DIR holds
images/PERSON/PERSON_0001.jpg (deep-funneled, 250x250 pixels), peopleDevTrain.txt and
pairsDevTest.txt. A network of this size and length of training that is in the folder of
--run already is not trained again. Writes benchmarks/results/face_verification.csv,
which keeps what was measured on other machines, where the same training ends elsewhere,
and at other sizes and lengths.
"""

import argparse
import importlib.util
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import rich.console  # noqa: E402
from records import others, write  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.files import replacing  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "face_verification.csv"


def load_example():
    """Imports the example, which has the name of this file."""
    folder = ROOT / "examples"
    # The example imports a module from its own folder.
    sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(
        "face_verification_example", folder / "face_verification.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


def convolutional(model):
    """Returns the twin, with 3x3 convolutions for shifts and the 1x1 behind them."""

    def twin(layer):
        config = layer.get_config()
        if isinstance(layer, keras_shift.layers.GroupedShift2D):
            return keras.layers.Identity(name=layer.name)
        if layer.name.endswith("_project"):
            config["kernel_size"] = (3, 3)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=twin)


# At this width, ShiftFaceNet has 97% of the multiply-adds of the 3x3 convolutions, and
# two thirds of their parameters.
WIDE = 1.875

# These are the networks with their widths, and with what is changed in them.
NETWORKS = {
    "ShiftFaceNet": (1.0, lambda model: model),
    f"ShiftFaceNet, alpha={WIDE}": (WIDE, lambda model: model),
    "3x3 convolutions": (1.0, convolutional),
}

# Trainings that differ in one of these have rows of their own.
KEYS = ("machine", "pixels", "epochs")


def rows_of(result, prefix=""):
    """Returns the columns of one `VerificationResult`."""
    columns = example.row_of("", result)
    del columns["embeddings"]
    return {
        prefix + key.lower().replace(" ", "_"): value for key, value in columns.items()
    }


def main(arguments):
    """Trains, verifies, and writes the figures."""
    console = rich.console.Console()
    # What was trained otherwise must not be taken for this.
    run = Path(arguments.run)
    run /= f"{arguments.image_size}_pixels_{arguments.epochs}_epochs"
    run.mkdir(parents=True, exist_ok=True)
    options = example.parse(
        [
            str(arguments.data_dir / "images"),
            "--training-people",
            str(arguments.data_dir / "peopleDevTrain.txt"),
            "--pairs",
            str(arguments.data_dir / "pairsDevTest.txt"),
            "--crop",
            "0.58",
            "--image-size",
            str(arguments.image_size),
            "--epochs",
            str(arguments.epochs),
        ]
    )
    data = example.folder(arguments.data_dir / "images", options)
    networks = {}
    for name, (alpha, change) in NETWORKS.items():
        keras.utils.set_random_seed(options.seed)
        own = argparse.Namespace(**{**vars(options), "alpha": alpha})
        networks[name] = model = change(example.build(own))
        # This is the name of the network's files.
        model.name = re.sub(r"\W+", "_", name.lower())
        # What is compared is said before it is trained.
        console.print(
            f"{name}: {parameters(model):,} parameters, "
            f"{keras_shift.analysis.multiply_adds(model):,} multiply-adds"
        )
    rows = []
    for name, model in networks.items():
        _, untrained = example.verify(example.keras_predict(model), data)
        path = run / f"{model.name}.keras"
        if path.exists():
            model = keras.saving.load_model(path)
        else:
            keras.utils.set_random_seed(options.seed)
            example.fit(model, data, options)
            with replacing(path) as temporary:
                model.save(temporary)
        _, trained = example.verify(example.keras_predict(model), data)
        console.print(f"{name}: {untrained} untrained, {trained} trained")
        files = example.steps.export(model, data.images, run, "embedding")
        _, int8 = example.verify(files["int8"].predict, data)
        rows.append(
            {
                "network": name,
                "parameters": parameters(model),
                "million_multiply_adds": keras_shift.analysis.multiply_adds(model)
                / 1e6,
                "people": data.people,
                "images": len(data.images),
                "pixels": options.image_size,
                "epochs": options.epochs,
                "pairs": len(data.pairs),
                **rows_of(untrained, "untrained_"),
                **rows_of(trained),
                **rows_of(int8, "int8_"),
                "machine": machine(),
            }
        )
    write(rows + others(rows[0], arguments.output, KEYS), arguments.output)
    console.print(f"Written to {arguments.output}", soft_wrap=True)


def parameters(model):
    """Returns the number of trainable parameters."""
    return sum(weight.numpy().size for weight in model.trainable_weights)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="folder of images/ and the lists"
    )
    parser.add_argument(
        "--run", default="runs/face_verification", help="folder of trained networks"
    )
    parser.add_argument("--image-size", type=int, default=32, help="pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
