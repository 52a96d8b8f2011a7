"""What shifts cost and save in the style transfer networks of the ShiftNet paper.

    python benchmarks/style_transfer.py STYLE.jpg FOLDER --run DIR

Trains both networks of the paper's Table 10 by examples/style_transfer.py on
photographs in a folder (Imagenette's, for the committed figures), in the style of a
picture, all else but the learning rate alike. Takes the losses of held-out photographs
as they are and as both networks paint them, and the bytes and times of both networks'
files for images of 256x256 pixels: float32 and int8, one image, one thread, in turns.
DIR then holds the networks, their files, and pictures of photographs beside what became
of them. Writes benchmarks/results/style_transfer.csv, with the machine in it, and
docs/style_transfer.jpg: what both networks make of scikit-learn's photographs, which,
unlike Imagenette's, may be shown.
"""

import argparse
import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).resolve().parent.parent

import keras  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from records import write  # noqa: E402
from sklearn import datasets  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.files import replacing  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "style_transfer.csv"
PICTURE = ROOT / "docs" / "style_transfer.jpg"
SIZE, CROP_SIZE = 256, 96


def _load_example():
    """Imports the example, which has this script's name, and what it imports."""
    sys.path.append(str(ROOT / "examples"))
    spec = importlib.util.spec_from_file_location(
        "style_transfer_example", ROOT / "examples" / "style_transfer.py"
    )
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up here.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


example = _load_example()

# The example's own names have these columns in the CSV file.
COLUMNS = {
    "network": "network",
    "parameters": "parameters",
    "million MAdds": "million_multiply_adds",
    "style loss": "style_loss",
    "content loss": "content_loss",
    "float32 kB": "float32_kilobytes",
    "int8 kB": "int8_kilobytes",
    "float32 differs by": "float32_difference",
    "int8 differs by": "int8_difference",
    "float32 ms": "float32_ms",
    "float32 time": "float32_ratio",
    "float32 time, low": "float32_ratio_low",
    "float32 time, high": "float32_ratio_high",
    "int8 ms": "int8_ms",
    "int8 time": "int8_ratio",
    "int8 time, low": "int8_ratio_low",
    "int8 time, high": "int8_ratio_high",
}


def main(arguments):
    """Trains, measures, and writes the figures."""
    options = example.parse(
        [
            *map(str, (arguments.style, arguments.folder)),
            *f"--features {arguments.features} --images {arguments.images}".split(),
            *f"--image-size {SIZE} --crop-size {CROP_SIZE}".split(),
            *f"--style-size {SIZE} --epochs {arguments.epochs}".split(),
            *f"--rounds {arguments.rounds}".split(),
            *("--output", str(arguments.run)),
        ]
    )
    data = example.folder(options.style, options.folder, options)
    features = keras_shift.training.perceptual_features(options.features)
    rows = []
    for found in example.run(data, features, options):
        row = {name: found.get(key, "") for key, name in COLUMNS.items()}
        if row["network"] in example.NETWORKS:
            row |= {
                "style": options.style.stem,
                "features": options.features,
                "photographs": len(data.photographs),
                "held_out": len(data.held_out),
                "epochs": options.epochs,
                "machine": found["machine"],
            }
        rows.append(row)
    write(rows, arguments.output)
    photographs = np.stack([*squares()])
    painted = {
        network: example.paint(
            keras.saving.load_model(arguments.run / f"style_{network}.keras"),
            photographs,
        )
        for network in example.NETWORKS
    }
    with replacing(arguments.picture) as path:
        shown = dataclasses.replace(data, held_out=photographs)
        example.draw(shown, painted, path)
    print(f"Written to {arguments.output} and {arguments.picture}")


def squares():
    """Yields the left and the right of scikit-learn's photographs."""
    for photograph in datasets.load_sample_images().images:
        height, width, _ = photograph.shape
        for left in (0, width - height):
            square = Image.fromarray(photograph[:, left : left + height])
            yield example.resized(square, SIZE)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("style", type=Path, metavar="STYLE")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--features", default="mobilenet_v2", choices=example.FEATURES)
    parser.add_argument("--images", type=int, default=312)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/style_transfer"), help="its folder"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
