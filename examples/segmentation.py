"""Tells the class of every pixel: from images with masks to a phone's file.

    python examples/segmentation.py
    python examples/segmentation.py oxford_iiit_pet --image-size 128
    python examples/segmentation.py FOLDER --class-names names.txt

Puts `keras_shift.zoo.SegmentationNet` on a trained FE-Net and trains both, once with
shifts and once with depthwise convolutions in the head, all else alike. Prints the mean
IoU of both on held-out images, beside that of always naming the most frequent class;
exports both to .tflite files as float32 and int8, which are compared with Keras and
timed; and draws images with true and predicted masks.

Without an argument, the images are scikit-learn's handwritten digits on parts of its
two photographs, which need no download. A name is one of TensorFlow Datasets, with
images and a `segmentation_mask`. A folder holds the folders images/ and masks/. A mask
is a PNG file with its image's name and size, whose pixels are class numbers from 0 on;
255 is for pixels that do not count. Images are cropped around their centre to squares,
then resized. Needs TensorFlow and `pip install "keras-shift[examples,plot]"`.
"""

import argparse
import csv
import dataclasses
import os
import re
import tempfile
import time
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import keras
import numpy as np
import rich.console
import rich.progress
import rich.table
import steps

import keras_shift
from keras_shift.deploy import LiteRTModel, to_tflite
from keras_shift.deploy.timing import time_alternately, warm_up
from keras_shift.environment import machine
from keras_shift.files import replacing

try:
    import matplotlib
    from matplotlib import pyplot
    from PIL import Image, ImageOps
except ImportError as error:
    raise SystemExit(
        f'This needs pip install "keras-shift[examples,plot]" ({error}).'
    ) from error

FEATURES = (4, 8, 16)
IGNORED = 255  # Pixels of this class do not count, as in Pascal VOC's masks.
BATCH_NORM_MOMENTUM = 0.9  # Keras' 0.99 is slow for a short training.
DRAWN_IMAGES = 6
BACKGROUND = 0.15  # Class 0 is drawn in this grey.
DIGITS = 5  # A short training does not tell all ten apart.
HEADS = {"shifts": "grouped_shift", "depthwise": "depthwise"}


@dataclasses.dataclass(frozen=True)
class Data:
    """Images and masks as uint8 arrays, and the names of the classes."""

    name: str
    images: np.ndarray
    masks: np.ndarray
    held_out_images: np.ndarray
    held_out_masks: np.ndarray
    classes: list[str]


def digits(arguments):
    """Returns digits on scikit-learn's photographs; digits and places are held out."""
    try:
        from sklearn import datasets, model_selection
    except ImportError as error:
        raise ValueError(
            'Name a data set or a folder, or pip install "keras-shift[examples]" for '
            "the digits of scikit-learn."
        ) from error
    pixels, labels = datasets.load_digits(n_class=DIGITS, return_X_y=True)
    parts = model_selection.train_test_split(
        pixels.reshape(-1, 8, 8), labels, test_size=0.2, stratify=labels, random_state=0
    )
    photographs = datasets.load_sample_images().images
    edge = photographs[0].shape[1] * 5 // 8
    held_out_count = max(arguments.images // 8, 1)
    if arguments.image_size > photographs[0].shape[1] - edge:
        raise ValueError(
            "--image-size is too large for the digits, whose photographs are small. "
            f"Received: --image-size {arguments.image_size}"
        )
    sides = []
    for places, glyphs, classes, count in (
        (slice(None, edge), parts[0], parts[2], arguments.images - held_out_count),
        (slice(edge, None), parts[1], parts[3], held_out_count),
    ):
        random = np.random.default_rng([arguments.seed, len(sides)])
        backgrounds = [photograph[:, places] for photograph in photographs]
        pairs = [
            _digits_on_photograph(
                random, backgrounds, glyphs, classes, arguments.image_size
            )
            for _ in range(count)
        ]
        sides += map(np.stack, zip(*pairs))
    return Data("digits", *sides, ["background", *map(str, range(DIGITS))])


def _digits_on_photograph(random, backgrounds, glyphs, labels, size):
    """Returns an image with one or two digits, and its mask."""
    background = backgrounds[random.integers(len(backgrounds))]
    top, left = (random.integers(side - size + 1) for side in background.shape[:2])
    image = background[top : top + size, left : left + size].astype("float32")
    mask = np.zeros((size, size), "uint8")
    count = random.integers(1, 3)
    width = size // count
    # Of two digits, one is on the left and the other on the right.
    for number, index in enumerate(random.integers(len(glyphs), size=count)):
        side = random.integers(size * 3 // 8, min(width, size * 5 // 8) + 1)
        glyph = Image.fromarray((glyphs[index] * (255 / 16)).astype("uint8"))
        ink = np.asarray(glyph.resize((side, side), Image.Resampling.BILINEAR)) / 255
        top = random.integers(size - side + 1)
        left = number * width + random.integers(width - side + 1)
        place = np.s_[top : top + side, left : left + side]
        # The digit's colour stands out from what is below it.
        colour = image[place].mean((0, 1)) + 128 + random.uniform(-40, 40, 3)
        image[place] += np.clip(2 * ink - 0.5, 0, 1)[..., None] * (
            colour % 256 - image[place]
        )
        mask[place][ink > 0.5] = 1 + labels[index]
    return image.astype("uint8"), mask


def folder(path, arguments):
    """Returns the files in images/ and masks/ of a folder, a fifth of them held out."""
    endings = Image.registered_extensions()
    files = [
        file
        for file in sorted((path / "images").glob("*"))
        if file.suffix.lower() in endings
    ]
    if len(files) < 2:
        raise ValueError(
            f"{path / 'images'} must hold two images at least. Found: {len(files)}"
        )
    random = np.random.default_rng(arguments.seed)
    files = [files[index] for index in random.permutation(len(files))]
    pairs = []
    # The files are read before anything is trained, so that a bad one is named at once.
    for file in rich.progress.track(files[: arguments.images], "Reading images"):
        mask_file = path / "masks" / f"{file.stem}.png"
        if not mask_file.is_file():
            raise ValueError(f"{file} has no mask: there is no file {mask_file}.")
        image, mask = read(file), read(mask_file)
        if mask.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(
                f"{mask_file} must have one class number for each pixel. "
                f"Found: an image of mode {mask.mode}"
            )
        check_size(image, file, mask, mask_file)
        mask = Image.fromarray(np.asarray(mask).astype("int32"))
        pairs.append(fitted(image.convert("RGB"), mask, arguments.image_size, file))
    images, masks = map(np.stack, zip(*pairs))
    held_out = max(len(images) // 5, 1)
    return Data(
        path.name,
        images[held_out:],
        masks[held_out:],
        images[:held_out],
        masks[:held_out],
        class_names(masks, arguments.class_names),
    )


def tfds_dataset(name, arguments):
    """Returns a TFDS dataset with the features image and segmentation_mask."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f"There is no folder {name}, and for the data set of this name it takes "
            'pip install "keras-shift[train]".'
        ) from error
    try:
        splits, info = tfds.load(name, with_info=True)
    # What it raises depends on the data set, and on where a download stops.
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{name} is neither a folder nor a data set that TensorFlow Datasets "
            f"could load: {first}"
        ) from error
    if missing := {"image", "segmentation_mask"} - set(info.features):
        raise ValueError(
            f"{name} has no {' and no '.join(sorted(missing))}: {list(info.features)}"
        )
    held_out = "test" if "test" in splits else "validation"
    if not {"train", held_out} <= set(splits):
        raise ValueError(f"{name} has no split to hold out: {list(splits)}")
    sides = []
    for split, most in (
        ("train", arguments.images),
        (held_out, max(arguments.images // 5, 1)),
    ):
        pairs = []
        examples = splits[split].take(most).as_numpy_iterator()
        total = min(most, info.splits[split].num_examples)
        for example in rich.progress.track(examples, f"Reading {split}", total):
            where = f"Image {len(pairs)} of {name}'s {split}"
            pixels = example["image"]
            pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
            image = Image.fromarray(pixels).convert("RGB")
            values = np.squeeze(example["segmentation_mask"], -1).astype("int32")
            mask = Image.fromarray(values)
            check_size(image, where, mask, "its mask")
            pairs.append(fitted(image, mask, arguments.image_size, where))
        sides += map(np.stack, zip(*pairs))
    # Oxford-IIIT Pet counts classes from one.
    first = sides[1].min()
    for masks in sides[1::2]:
        masks[masks != IGNORED] -= first
    names = class_names(np.concatenate(sides[1::2]), arguments.class_names)
    return Data(name, *sides, names)


def read(path):
    """Returns an image file as a PIL image, turned as the camera was.

    Raises:
        ValueError: If the file is no image.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    # Pillow says SyntaxError of some broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def check_size(image, name, mask, mask_name):
    """Refuses an image that is too small, or whose mask has another size."""
    if min(image.size) < FEATURES[-1]:
        raise ValueError(
            f"{name} has {image.width}x{image.height} pixels, which is less than the "
            f"network's stride of {FEATURES[-1]}."
        )
    if image.size != mask.size:
        raise ValueError(
            f"{name} has {image.width}x{image.height} pixels, and {mask_name} has "
            f"{mask.width}x{mask.height}: they must have the same size."
        )


def fitted(image, mask, size, name):
    """Returns a square image and its mask as uint8 arrays."""
    image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    # Class numbers cannot be interpolated.
    mask = np.asarray(ImageOps.fit(mask, (size, size), Image.Resampling.NEAREST))
    if mask.min() < 0 or mask.max() > IGNORED:
        raise ValueError(
            f"The mask of {name} must hold class numbers from 0 to {IGNORED}. "
            f"Found: {mask.min()} to {mask.max()}"
        )
    return np.asarray(image), mask.astype("uint8")


def class_names(masks, path):
    """Returns the names of the classes in a file, or names made of their numbers."""
    highest = int(np.where(masks == IGNORED, 0, masks).max())
    if path is None:
        if highest == 0:
            raise ValueError("All masks have one class only, which is 0.")
        return [f"class {number}" for number in range(highest + 1)]
    names = Path(path).read_text("utf-8-sig").splitlines()
    if highest >= len(names):
        raise ValueError(
            f"{path} names {len(names)} classes, one a line, and there are more in the "
            f"masks: their numbers go up to {highest}, counted from 0."
        )
    return names


def build(head, classes, height, width, arguments):
    """Returns a network for images of this size."""
    backbone = keras_shift.zoo.FENet(
        (height, width, 3),
        alpha=arguments.alpha,
        include_top=False,
        weights=None if arguments.weights == "random" else arguments.weights,
        features=FEATURES,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
    )
    return keras_shift.zoo.SegmentationNet(
        backbone,
        classes,
        # Scores tell the class of a pixel as well as probabilities, and a file without
        # a softmax for every pixel is faster.
        classifier_activation=None,
        name=f"segmentation_{head}",
        spatial=HEADS[head],
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
    )


def fit(model, data, arguments):
    """Trains with Adam and a cosine schedule."""
    steps = arguments.epochs * -(-len(data.images) // arguments.batch_size)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(arguments.learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=IGNORED
        ),
        metrics=[
            keras.metrics.MeanIoU(
                len(data.classes),
                ignore_class=IGNORED,
                sparse_y_pred=False,
                name="mean_iou",
            )
        ],
    )
    model.fit(
        data.images,
        data.masks,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=(data.held_out_images, data.held_out_masks),
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            # The published weights shift few channels. Adam's steps are as large for
            # displacements as for kernels, and would have it shift many.
            keras_shift.callbacks.FreezeShifts(at_epoch=0),
        ],
    )


def mean_iou(masks, predicted, classes):
    """Returns the mean over the classes of intersection over union, by Keras."""
    metric = keras.metrics.MeanIoU(classes, ignore_class=IGNORED)
    for mask, prediction in zip(masks, predicted):
        metric.update_state(mask, prediction)
    return float(metric.result())


def majority(masks):
    """Returns the most frequent class."""
    return int(np.bincount(masks[masks != IGNORED]).argmax())


def time_files(models, data, size, quantize, arguments):
    """Times files of both networks for images of another size.

    Returns:
        A dict of `Timing`s by head.
    """
    width, height = size
    # One image is enough for ranges of activations if only the time counts.
    image = keras.ops.image.resize(data.images[:1].astype("float32"), (height, width))
    files = {}
    with tempfile.TemporaryDirectory() as place:
        for head, model in models.items():
            resized = build(head, len(data.classes), height, width, arguments)
            resized.set_weights(model.get_weights())
            path = Path(place) / f"{head}.tflite"
            to_tflite(resized, path, quantize, np.asarray(image))
            files[head] = LiteRTModel(path)
    start = time.perf_counter()
    for lite in files.values():
        warm_up(lite)
    repeats = int(np.clip(20 / (time.perf_counter() - start), 3, 30))
    return time_alternately(
        {head: lite.invoke for head, lite in files.items()}, repeats
    )


def draw(data, predictions, path):
    """Draws held-out images, their true masks, and those that were predicted."""
    count = min(DRAWN_IMAGES, len(data.held_out_images))
    rows = {
        "image": data.held_out_images,
        "true": np.ma.masked_equal(data.held_out_masks, IGNORED),
        **predictions,
    }
    figure, grid = pyplot.subplots(
        len(rows),
        count,
        squeeze=False,
        figsize=(1.7 * count + 1.6, 1.75 * len(rows)),
        layout="constrained",
    )
    shades = 10 if len(data.classes) <= 10 else 20
    colours = pyplot.get_cmap(f"tab{shades}", shades)
    for axes, (title, pictures) in zip(grid, rows.items()):
        axes[0].set_ylabel(title)
        for panel, picture in zip(axes, pictures):
            panel.set(xticks=[], yticks=[], frame_on=False)
            if title == "image":
                panel.imshow(picture)
            else:
                painted = colours(picture % shades)
                painted[picture == 0, :3] = BACKGROUND
                panel.imshow(painted, interpolation="nearest")
    handles = [
        matplotlib.patches.Patch(
            color=colours(number % shades) if number else (BACKGROUND,) * 3, label=name
        )
        for number, name in enumerate(data.classes[:20])
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(data, arguments):
    """Runs the whole way for both heads, and prints the table.

    Returns:
        The networks by head, and the table's rows.
    """
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    console = rich.console.Console()
    classes = len(data.classes)
    frequent = majority(data.masks)
    always = np.full_like(data.held_out_masks, frequent)
    rows = [
        {
            "network": f"always {data.classes[frequent]}",
            "Keras mean IoU": mean_iou(data.held_out_masks, always, classes),
        }
    ]
    models, predictions = {}, {}
    for head in HEADS:
        keras.utils.set_random_seed(arguments.seed)
        models[head] = model = build(head, classes, *data.images.shape[1:3], arguments)
        console.rule(f"{model.name} on {data.name}")
        fit(model, data, arguments)
        with replacing(output / f"{model.name}.keras") as path:
            model.save(path)
        predictions[head] = predicted = model.predict(
            data.held_out_images, arguments.batch_size, verbose=0
        ).argmax(-1)
        row = {
            "network": head,
            "million MAdds": keras_shift.analysis.multiply_adds(model) / 1e6,
            "Keras mean IoU": mean_iou(data.held_out_masks, predicted, classes),
        }
        for kind, lite in steps.export(model, data.images, output, "scores").items():
            answers = np.stack(
                [
                    lite.predict(image[None])[0].argmax(-1)
                    for image in data.held_out_images
                ]
            )
            row[f"{kind} mean IoU"] = mean_iou(data.held_out_masks, answers, classes)
            row[f"{kind} same class as Keras"] = float(np.mean(answers == predicted))
            row[f"{kind} kB"] = lite.bytes / 1000
        rows.append(row)
    with replacing(output / "segmentation.png") as path:
        draw(data, predictions, path)
    for size in arguments.sizes:
        name = "{}x{}".format(*size)
        for kind, quantize in steps.KINDS.items():
            with console.status(f"Timing {kind} files for {name} pixels"):
                timings = time_files(models, data, size, quantize, arguments)
            for row in rows[1:]:
                row[f"{name} {kind} ms"] = timings[row["network"]].median * 1000
    for row in rows[1:]:
        row["machine"] = machine()
    report_rows(rows, data, console)
    with replacing(output / "results.csv") as path:
        write_csv(rows, path)
    console.print(f"The picture is {output / 'segmentation.png'}.")
    console.print(f"The files are in {output}/.")
    return models, rows


def report_rows(rows, data, console):
    """Prints the table, networks side by side."""
    height, width = data.images.shape[1:3]
    table = rich.table.Table(
        title=f"{data.name}, {width}x{height} pixels, {len(data.classes)} classes",
        caption=f"On {len(data.held_out_images)} held-out images. Milliseconds: one "
        "image, one thread, LiteRT, median of calls in turns.",
    )
    table.add_column()
    for row in rows:
        table.add_column(row["network"], justify="right", overflow="fold")
    for key in rows[-1]:
        if key not in ("network", "machine"):
            table.add_row(key, *(_text(key, row.get(key, "")) for row in rows))
    console.print(table)


def _text(key, value):
    if value == "":
        return value
    if key.endswith(("mean IoU", "Keras")):
        return f"{value:.1%}"
    return f"{value:.2f}" if key.endswith(" ms") else f"{value:,.1f}"


def write_csv(rows, path):
    """Writes the table's numbers."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)


def image_size(text):
    """Returns the width and the height of a size such as 224 or 3840x2160."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text} is no size such as 224 or 3840x2160")
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="DATASET or FOLDER",
        help="a TFDS name, or a folder with images/ and masks/; digits if left out",
    )
    parser.add_argument(
        "--class-names", metavar="FILE", help="text file of one name a line"
    )
    parser.add_argument("--images", type=int, default=1600, help="read at most")
    parser.add_argument("--image-size", type=int, default=64, help="pixels")
    parser.add_argument("--alpha", type=float, default=0.75, help="FE-Net's width")
    parser.add_argument(
        "--weights",
        default="tiny_imagenet.sparse",
        help="FE-Net's start: published weights of this width, or random",
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument(
        "--sizes",
        type=image_size,
        nargs="*",
        default=[(224, 224)],
        metavar="SIZE",
        help="time files for these images, such as 224 or 3840x2160",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="segmentation_output")
    parsed = parser.parse_args(arguments)
    if parsed.image_size < FEATURES[-1]:
        parser.error(f"--image-size must be {FEATURES[-1]}, the stride, or more")
    for option, least in (("images", 2), ("epochs", 1), ("batch_size", 1)):
        if getattr(parsed, option) < least:
            parser.error(f"--{option.replace('_', '-')} must be {least} or more")
    if parsed.class_names and parsed.source is None:
        parser.error("--class-names is for a data set or a folder")
    return parsed


def main(arguments=None):
    """Does what the command line asks for."""
    arguments = parse(arguments)
    matplotlib.use("agg")
    source = arguments.source
    with steps.errors_in_one_line("segmentation.py"):
        if source is None:
            data = digits(arguments)
        elif os.path.isdir(source):
            data = folder(Path(source), arguments)
        elif os.sep in source:
            raise ValueError(f"There is no folder {source}.")
        else:
            data = tfds_dataset(source, arguments)
        run(data, arguments)


if __name__ == "__main__":
    main()
