"""What trained weights are worth on photographs that they have not seen.

    python benchmarks/transfer.py --data-dir DIR

Trains FE-Net on 100 images of each of Imagenette's ten classes, none of which is among
Tiny-ImageNet's, once from the weights "tiny_imagenet" and once from random ones: the
same recipe, the same steps, the same order of images. After every epoch, it takes the
top-1 on all 3925 validation images. DIR holds imagenette/train and imagenette/val with
one folder of images for each class; where it is left out, TensorFlow Datasets'
"imagenette/160px-v2" is taken. Writes benchmarks/results/transfer.csv, with the machine
in it, and draws both curves (this needs matplotlib) as transfer.png beside it.
"""

import argparse
import csv
import dataclasses
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import rich.console  # noqa: E402
from records import write  # noqa: E402

from keras_shift import training  # noqa: E402
from keras_shift.environment import machine  # noqa: E402
from keras_shift.zoo import recipes  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "transfer.csv"
IMAGES_PER_CLASS = 100

RECIPE = dataclasses.replace(
    recipes.get_recipe("tiny_imagenet.fenet_1.0"),
    name="imagenette.fenet_1.0",
    arguments={"input_shape": (96, 96, 3), "classes": 10, "batch_norm_momentum": 0.9},
    dataset="imagenette",
    crop_padding=12,
    batch_size=50,
    epochs=30,
    learning_rate=0.05,
    warmup=0.1,
)

RANDOM, TRAINED = "#999999", "#1f6fb4"


def curve(weights, recipe, data):
    """Yields a row for every epoch of one training."""
    model = recipes.build(recipe, weights=weights, classifier_activation=None)
    with tempfile.TemporaryDirectory() as directory:
        for row in training.train(model, recipe, data, directory):
            yield {
                "start": weights or "random",
                "seed": recipe.seed,
                "epoch": row["epoch"],
                "steps": row["steps"],
                "top1": row["val_accuracy"],
                "machine": machine(),
            }


def final(rows):
    """Returns the top-1 after the last epoch, for every start and seed."""
    last = max(row["epoch"] for row in rows)
    found = {}
    for row in rows:
        if row["epoch"] == last:
            found.setdefault(row["start"], []).append(row["top1"])
    return found


def read(path):
    """Reads what was written."""
    with open(path, newline="") as file:
        return [
            {
                **row,
                "epoch": int(row["epoch"]),
                "seed": int(row["seed"]),
                "steps": int(row["steps"]),
                "top1": float(row["top1"]),
            }
            for row in csv.DictReader(file)
        ]


def draw(rows, path):
    """Draws a curve for every start and seed."""
    from matplotlib.figure import Figure

    figure = Figure((6.4, 4), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for start in dict.fromkeys(row["start"] for row in rows):
        for seed in sorted({row["seed"] for row in rows}):
            some = [r for r in rows if (r["start"], r["seed"]) == (start, seed)]
            axes.plot(
                [row["epoch"] for row in some],
                [100 * row["top1"] for row in some],
                color=RANDOM if start == "random" else TRAINED,
                label=f"from {start} weights" if seed == rows[0]["seed"] else None,
            )
    axes.set_xlabel(f"epoch of {10 * IMAGES_PER_CLASS} images")
    axes.set_ylabel("top-1 on Imagenette's validation images, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments):
    """Trains, prints, writes and draws."""
    console = rich.console.Console()
    name = "imagenette" if arguments.data_dir else "imagenette/160px-v2"
    data = training.load_data(
        name, RECIPE.arguments["input_shape"][:2], arguments.data_dir
    )
    data = data.subset(IMAGES_PER_CLASS)
    rows = []
    for seed in range(arguments.seeds):
        recipe = dataclasses.replace(RECIPE, seed=seed, epochs=arguments.epochs)
        for weights in (arguments.weights, None):
            console.rule(f"from {weights or 'random'} weights, seed {seed}")
            rows += curve(weights, recipe, data)
    for start, scores in final(rows).items():
        console.print(f"from {start} weights:", *(f"{score:.1%}" for score in scores))
    output = Path(arguments.output)
    write(rows, output)
    draw(rows, output.with_suffix(".png"))
    console.print(f"Written to {output}, and drawn beside it", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data-dir", help="folder that holds imagenette/")
    parser.add_argument("--weights", default="tiny_imagenet")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", default=str(RESULTS))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
