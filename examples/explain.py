"""What a network looks at: Grad-CAM++ and saliency maps beside the images.

Grad-CAM++ shows where the last map of features, in front of the global pooling,
speaks for a class. Saliency shows which pixels the class depends on: its gradient,
averaged over noisy copies of the image (SmoothGrad). Needs the TensorFlow backend and
`pip install "keras-shift[explain]"`.

    python examples/explain.py
    python examples/explain.py model.keras photographs/ --class-names names.txt
    python examples/explain.py FENet cat.jpg dog.jpg --weights fenet.weights.h5

A network of the zoo goes by its name, any other by its `.keras` file. It gets pixel
values in [0, 255]; whatever preprocessing it needs must be part of it. Images are
cropped around their centre to the network's aspect ratio, then resized; without any,
scikit-learn's two photographs are taken. Without arguments at all, this explains the
network of examples/finetune_and_export.py if that has run here, or else an untrained
one, whose maps say nothing about classes.
"""

import argparse
import dataclasses
import os
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.progress  # noqa: E402

import keras_shift  # noqa: E402
from keras_shift.files import replacing  # noqa: E402

try:
    from matplotlib.figure import Figure
    from PIL import Image, ImageOps
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.saliency import Saliency
except ImportError as error:
    raise SystemExit(
        f'This needs pip install "keras-shift[explain]" ({error}).'
    ) from error

DEMO = Path("finetune_and_export_output") / "fenet_0.75.keras"
IMAGE_SIZE = 224  # for networks that take any
BATCH_SIZE = 4
MAX_IMAGES = 100  # A picture with more rows is more than anyone looks at.
NOISY_COPIES = 25
NOISE = 0.1  # Standard deviation, as part of the image's range of pixel values.


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image as the network gets it."""

    name: str
    pixels: np.ndarray  # (height, width, 3), in [0, 255]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a network predicts for an image, and why it might say so of a class."""

    scores: np.ndarray  # the network's output
    explained: int  # the class that the maps are about
    grad_cam: np.ndarray  # (height, width), its largest value 1 unless all are 0
    saliency: np.ndarray  # likewise


# From names to a network and images


def load_network(name, weights=None, classes=None):
    """Returns a network of the zoo by its name, or that of a `.keras` file.

    Args:
        name: The name or the path.
        weights: Path of a `.weights.h5` file, or `None` for the file's weights, or
            random ones.
        classes: Number of classes of a network of the zoo, or `None` for its own.

    Returns:
        A `keras.Model`.
    """
    try:
        if not name.endswith(".keras"):
            return keras_shift.zoo.get_model(name, weights=weights, classes=classes)
        model = keras.saving.load_model(name, compile=False)
        if weights is not None:
            model.load_weights(weights)
        return model
    # What a damaged file raises depends on where the damage is.
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{name} cannot be loaded: {error}") from error


def check_network(model):
    """Stops where a network is none that this example can explain."""
    problem = None
    if not getattr(model, "inputs", None):
        problem = "is neither a functional nor a sequential model"
    elif len(model.inputs) != 1 or len(model.outputs) != 1:
        problem = "has more than one input or output"
    elif len(model.outputs[0].shape) != 2:
        problem = f"classifies nothing: its outputs are {model.outputs[0].shape}"
    elif len(model.inputs[0].shape) != 4 or model.inputs[0].shape[-1] != 3:
        problem = (
            f"takes inputs of shape {model.inputs[0].shape[1:]}. This example shows "
            "colour images, (height, width, 3)"
        )
    elif any(isinstance(layer, keras.Model) for layer in model.layers):
        problem = "contains another model, into which tf-keras-vis does not look"
    elif not any(layer.output is model.outputs[0] for layer in model.layers):
        problem = "ends in an operation instead of a layer, such as Softmax"
    if problem:
        raise SystemExit(f"The network {model.name} {problem}.")


def image_files(paths):
    """Returns the files, and those in the folders that are images by their names.

    Of a folder with one folder of images for each class, the first image of each.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                classes = sorted(f for f in path.iterdir() if f.is_dir())
                inside = [f for folder in classes for f in images_in(folder)[:1]]
            if not inside:
                raise SystemExit(f"There are no images in the folder {path}.")
            files += inside
        else:
            files.append(path)
    if len(files) > MAX_IMAGES:
        raise SystemExit(f"{len(files)} images are too many: {MAX_IMAGES} at most.")
    return files


def images_in(folder):
    """Returns the files of a folder that are images by their names."""
    endings = Image.registered_extensions()
    return [f for f in sorted(folder.iterdir()) if f.suffix.lower() in endings]


def read_image(path, height, width):
    """Reads an image file as the network will see it."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    # Pillow says SyntaxError of some broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SystemExit(f"{path} cannot be read as an image: {error}") from error
    return fit(upright, Path(path).name, height, width)


def fit(image, name, height, width):
    """Crops an image around its centre to the aspect ratio, and resizes it."""
    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return Picture(name, np.asarray(image, "float32"))


def sample_images(digits, height, width):
    """Images that scikit-learn brings: its two photographs, or digits."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise SystemExit(
            'Name some images, or pip install "keras-shift[examples]" for those of '
            "scikit-learn."
        ) from error
    if digits:
        pixels, labels = datasets.load_digits(return_X_y=True)
        pixels = (pixels[:5].reshape(-1, 8, 8) * (255 / 16)).astype("uint8")
        names = [f"digit {label}" for label in labels]
    else:
        photographs = datasets.load_sample_images()
        pixels = photographs.images
        names = [Path(path).name for path in photographs.filenames]
    return [
        fit(Image.fromarray(image).convert("RGB"), name, height, width)
        for image, name in zip(pixels, names)
    ]


# From an image to its maps


def with_logits(model):
    """Returns a copy of a classifier without its softmax or sigmoid.

    Where a softmax is sure of a class, its gradients vanish. The input is a list
    because tf-keras-vis passes one, and Keras 3 warns of a structure that differs.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    (outputs,) = copy.outputs
    (last,) = [layer for layer in copy.layers if layer.output is outputs]
    if isinstance(last, keras.layers.Softmax):
        outputs = last.input
    elif hasattr(last, "activation"):
        last.activation = keras.activations.linear
    return keras.Model([copy.inputs[0]], [outputs], name=model.name)


def last_map(model):
    """Returns the name of the last layer whose output has height and width."""
    for layer in reversed(model.layers):
        shape = output_shape(layer)
        if len(shape) == 4 and shape[1:3] != (1, 1):
            return layer.name
    raise SystemExit(f"The network {model.name} has no map of features to look at.")


def output_shape(layer):
    """Returns the shape of a layer's output, () if that is not one tensor."""
    if isinstance(layer, keras.layers.InputLayer):
        return ()
    return tuple(getattr(layer.output, "shape", ()))


def score_of(classes):
    """Returns a function from logits to those of `classes`, one for each image.

    Grad-CAM++ multiplies its map by exp(score), which a large logit makes infinite,
    and a small one zero. Without its value, the score's gradients are what they were,
    and the factor is 1; maps are scaled to their largest value anyhow.
    """

    def score(logits):
        chosen = keras.ops.take_along_axis(logits, np.reshape(classes, (-1, 1)), axis=1)
        return chosen[:, 0] - keras.ops.stop_gradient(chosen[:, 0])

    return score


def explain(model, images, explained=None, layer=None):
    """Explains a classifier's decisions.

    Args:
        model: The network.
        images: Array of images, (batch, height, width, 3), values in [0, 255].
        explained: Index of the class to explain, or `None` for each image's
            predicted one.
        layer: Name of the layer whose output Grad-CAM++ looks at. Defaults to the
            last map in front of the global pooling.

    Yields:
        An `Explanation` for each image.
    """
    model = keras.Model(model.inputs[0], model.outputs[0])  # not a list or dict
    logits_model = with_logits(model)
    grad_cam = GradcamPlusPlus(logits_model)
    saliency = Saliency(logits_model)
    layer = layer or last_map(logits_model)
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        scores = keras.ops.cast(model(batch, training=False), "float32")
        scores = keras.ops.convert_to_numpy(scores)
        classes = scores.argmax(-1) if explained is None else [explained] * len(batch)
        maps = grad_cam(
            score_of(classes),
            batch,
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
            # It would stretch the map from corner to corner. A pixel of the map
            # stands for a square of the image, though.
            expand_cam=False,
            normalize_cam=False,
        )
        maps = keras.ops.cast(maps, "float32")[..., np.newaxis]
        maps = keras.ops.image.resize(maps, batch.shape[1:3], "bilinear")
        maps = keras.ops.convert_to_numpy(maps)[..., 0]
        gradients = saliency(
            score_of(classes),
            batch,
            smooth_samples=NOISY_COPIES,
            smooth_noise=NOISE,
            normalize_map=False,
        )
        for row in zip(scores, classes, maps, gradients):
            yield Explanation(row[0], int(row[1]), to_one(row[2]), to_one(row[3]))


def to_one(image_map):
    """Scales a map to a largest value of 1, unless it is zero throughout."""
    return image_map / max(image_map.max(), np.finfo(np.float32).tiny)


# From maps to a picture


def draw(pictures, explanations, title, names=None, warn=False):
    """Draws a row for each image: the image, Grad-CAM++ on it, and saliency.

    Args:
        pictures: The images.
        explanations: An `Explanation` of each.
        title: What stands above it all.
        names: Names of the classes, or `None` for their indices.
        warn: Whether the title is a warning.

    Returns:
        A Matplotlib figure.
    """
    height, width = pictures[0].pixels.shape[:2]
    # In inches, so that a picture of many rows looks like many of one.
    side, between, head, foot = 2.2, 0.3, 0.75, 0.5
    row = side * height / width + between
    size = (3 * side + 0.5, len(pictures) * row + head + foot - between)
    figure = Figure(size, dpi=120, facecolor="white")
    grid = figure.subplots(len(pictures), 3, squeeze=False)
    figure.subplots_adjust(
        left=0.35 / size[0],
        right=1 - 0.1 / size[0],
        bottom=foot / size[1],
        top=1 - head / size[1],
        wspace=0.04,
        hspace=between / (row - between),
    )
    figure.text(
        0.5,
        1 - 0.2 / size[1],
        title,
        ha="center",
        va="top",
        size=11,
        color="firebrick" if warn else "black",
    )
    figure.text(
        0.5,
        0.15 / size[1],
        "Yellow to red on an image: what speaks most for the class. Bright: the pixels "
        "it depends on.\nEvery map is scaled to its own largest value.",
        ha="center",
        va="bottom",
        size=7.5,
        color="dimgray",
    )
    for axes, picture, explanation in zip(grid, pictures, explanations):
        draw_row(axes, picture, explanation, names)
    return figure


def draw_row(axes, picture, explanation, names):
    """Draws one image and its maps."""
    predicted = explanation.scores.argmax()
    explained = label(explanation.explained, names)
    titles = [
        f"{label(predicted, names)}: {score_text(explanation.scores, predicted)}",
        f"Grad-CAM++ for {explained}",
        f"saliency for {explained}",
    ]
    for panel, title in zip(axes, titles):
        panel.set_title(title, size=9, pad=3)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_frame_on(False)
    image = picture.pixels / 255
    axes[0].imshow(image)
    axes[0].set_ylabel(shorten(picture.name, 28), size=8, color="dimgray")
    # A faded image, so that the only colours are the map's.
    axes[1].imshow(image.mean(-1), cmap="gray", vmin=-0.3, vmax=1.3)
    axes[1].imshow(
        explanation.grad_cam,
        cmap="turbo",
        vmin=0,
        vmax=1.1,  # above it, turbo's red is dark
        alpha=0.65 * explanation.grad_cam,
    )
    # Few pixels are far above all others, and would leave the rest dark.
    brightest = np.quantile(explanation.saliency, 0.995)
    axes[2].imshow(explanation.saliency, cmap="inferno", vmin=0, vmax=brightest or 1)


def label(index, names):
    """Returns what a class is called in the picture."""
    return f"class {index}" if names is None else shorten(names[index], 20)


def shorten(text, length):
    """Cuts a text that is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def score_text(scores, index):
    """Returns a score, as a percentage if the network gives probabilities."""
    softmax = scores.min() >= 0 and abs(scores.sum() - 1) < 0.01
    sigmoid = len(scores) == 1 and 0 <= scores[0] <= 1
    return format(scores[index], ".0%" if softmax or sigmoid else ".2f")


# The command line


def check_output(path):
    """Stops early where the picture could not be written in the end."""
    if path.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise SystemExit(f"--output must end in .png, .jpg, .pdf or .svg, not {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)


def read_names(path):
    """Reads a file of class names, one a line."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read as class names: {error}") from error


def check_arguments(model, arguments, names):
    """Stops where the command line asks for what the network does not have."""
    classes = model.outputs[0].shape[-1]
    if names is not None and len(names) != classes:
        raise SystemExit(
            f"{arguments.class_names} names {len(names)} classes, one a line; the "
            f"network {model.name} has {classes}."
        )
    explained = arguments.explained
    if explained is not None and not 0 <= explained < classes:
        raise SystemExit(
            f"--class must be from 0 to {classes - 1} for the network {model.name}, "
            f"not {explained}."
        )
    if arguments.layer is not None:
        shapes = {layer.name: output_shape(layer) for layer in model.layers}
        if len(shapes.get(arguments.layer, ())) != 4:
            maps = [name for name, shape in shapes.items() if len(shape) == 4]
            raise SystemExit(
                f"--layer must be one with height and width, not {arguments.layer}. "
                f"The last ones: {', '.join(maps[-5:])}."
            )


def main(arguments):
    """Explains the images and writes the picture."""
    if keras.backend.backend() != "tensorflow":
        raise SystemExit("tf-keras-vis needs Keras' TensorFlow backend.")
    output = Path(arguments.output)
    check_output(output)
    demo = arguments.model is None and DEMO.exists()
    name = arguments.model or (str(DEMO) if demo else "FENet")
    names = read_names(arguments.class_names) if arguments.class_names else None
    model = load_network(name, arguments.weights, None if names is None else len(names))
    check_network(model)
    check_arguments(model, arguments, names)

    height, width = (size or IMAGE_SIZE for size in model.inputs[0].shape[1:3])
    if arguments.images:
        files = image_files(arguments.images)
        pictures = [read_image(path, height, width) for path in files]
    else:
        pictures = sample_images(demo, height, width)
    untrained = not name.endswith(".keras") and arguments.weights is None
    if untrained:
        title = f"{name} with random weights: the maps say nothing about classes"
    else:
        title = f"{shorten(Path(name).name, 60)}, {width}x{height} pixels"
    print(title)

    keras.utils.set_random_seed(0)  # for SmoothGrad's noise
    explanations = explain(
        model,
        np.stack([picture.pixels for picture in pictures]),
        arguments.explained,
        arguments.layer,
    )
    explanations = rich.progress.track(explanations, "Images", len(pictures))
    figure = draw(pictures, list(explanations), title, names, warn=untrained)
    with replacing(output) as path:
        figure.savefig(path)
    print(f"The picture is {output}.")


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="name in the zoo, or a .keras file"
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, or folders of images"
    )
    parser.add_argument(
        "--output",
        default="explain.png",
        metavar="FILE",
        help="the picture (default: explain.png)",
    )
    parser.add_argument(
        "--class",
        type=int,
        dest="explained",
        metavar="INDEX",
        help="class to explain (default: each image's predicted one)",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer that Grad-CAM++ looks at (default: the last map of features)",
    )
    parser.add_argument("--weights", metavar="FILE", help="path of a .weights.h5 file")
    parser.add_argument(
        "--class-names", metavar="FILE", help="text file of one name a line"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main(parse())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. No picture was written.")
