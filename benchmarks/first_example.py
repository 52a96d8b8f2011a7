"""README's first example, as printed, beside FE-Net 0.75 and MobileNetV2.

    python benchmarks/first_example.py --data-dir DIR

Runs the code on 60 photographs of each of Imagenette's ten classes, once as it stands,
once with a narrower FE-Net, and once with `MobileNetV2` in the place of `FENet`; all
weights are those of the same dataset. Takes the top-1 of the model and of its int8 file
on all validation images, and times the files of all, float32 and int8, in turns: one
image, one thread. DIR holds imagenette/train and imagenette/val with one folder of
images for each class. Writes benchmarks/results/first_example.csv, with the machine in
it.
"""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import rich.console  # noqa: E402
from records import write  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.deploy import LiteRTModel, to_tflite, verify  # noqa: E402
from keras_shift.deploy.timing import time_alternately, warm_up  # noqa: E402
from keras_shift.environment import machine  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "first_example.csv"
IMAGES_PER_CLASS = 60
# What stands in README, and what takes its place.
AS_IT_STANDS = 'zoo.FENet(\n    (96, 96, 3), weights="tiny_imagenet.few_shifts"'
NETWORKS = {
    "FE-Net 1.0": AS_IT_STANDS,
    "FE-Net 0.75": "zoo.FENet(\n    (96, 96, 3), alpha=0.75, "
    'weights="tiny_imagenet.sparse"',
    "MobileNetV2": 'zoo.MobileNetV2(\n    (96, 96, 3), weights="tiny_imagenet"',
}
BASELINE = "MobileNetV2"


def code(network):
    """Returns the example for one of the networks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    return example.replace(AS_IT_STANDS, NETWORKS[network])


def photographs(source, folder):
    """Copies the first images of every class."""
    for classes in sorted(Path(source).iterdir()):
        (folder / classes.name).mkdir(parents=True)
        for path in sorted(classes.iterdir())[:IMAGES_PER_CLASS]:
            shutil.copy(path, folder / classes.name)


def run(network, seed, held_out):
    """Runs the example in this folder; returns a row, and the paths of two files."""
    keras.utils.set_random_seed(seed)
    scope = {}
    exec(compile(code(network), "README.md", "exec"), scope)
    model = scope["model"]
    int8 = f"{network}_{seed}_int8.tflite"
    os.replace("model.tflite", int8)
    float32 = f"{network}_{seed}_float32.tflite"
    to_tflite(model, float32)
    checked = verify(int8, model, held_out)
    unshifted = keras_shift.analysis.summary(model).unshifted
    row = {
        "network": network,
        "seed": seed,
        "top1": checked.keras_accuracy,
        "int8_top1": checked.accuracy,
        "unshifted": "" if unshifted is None else unshifted,
    }
    return row, {"float32": float32, "int8": int8}


def main(arguments):
    """Runs the example for all networks and seeds, and writes the figures."""
    source = Path(arguments.data_dir).resolve() / "imagenette"
    held_out = keras.utils.image_dataset_from_directory(
        source / "val",
        image_size=(96, 96),
        crop_to_aspect_ratio=True,
        shuffle=False,
    )
    rows, files = [], {}
    before = os.getcwd()
    output = arguments.output.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            photographs(source / "train", Path("photographs"))
            for seed in range(arguments.seeds):
                for network in NETWORKS:
                    row, paths = run(network, seed, held_out)
                    rows.append(row)
                    files[network, seed] = paths
            for kind in ("float32", "int8"):
                times(kind, rows, files, arguments.rounds)
        finally:
            os.chdir(before)
    for row in rows:
        row["machine"] = machine()
    write(rows, output)
    rich.console.Console().print(f"Written to {output}", soft_wrap=True)


def times(kind, rows, files, rounds):
    """Adds how long files take, as shares of MobileNetV2's of the same seed."""
    lite = {key: LiteRTModel(paths[kind]) for key, paths in files.items()}
    for file in lite.values():
        warm_up(file)
    for row in rows:
        seed = row["seed"]
        names = (BASELINE, row["network"])
        calls = {name: lite[name, seed].invoke for name in dict.fromkeys(names)}
        row[f"{kind}_ratio"] = time_alternately(calls, rounds)[row["network"]].ratio


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data-dir", required=True, help="folder with imagenette/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
