"""Shows what a network looks at in images, and what networks look for.

    python examples/explain.py model.keras photographs/ --class-names names.txt
    python examples/explain.py fenet_0.75.tiny_imagenet.sparse cat.jpg dog.jpg
    python examples/explain.py --look-for goldfish "school bus" pizza

With a network and images, it draws Grad-CAM++ and saliency maps beside the images: the
maps of `keras_shift.analysis.explain`. With --look-for, it draws the images that FE-Net
and MobileNetV2, both trained on Tiny-ImageNet, take for these classes with most
certainty: those of `keras_shift.analysis.maximize_activation`.

A network is the path of a `.keras` file, or a name that `keras-shift list --weights`
lists. It gets pixel values in [0, 255]; whatever preprocessing it needs must be part of
it. Images are cropped around their centre to the network's aspect ratio, then resized.
Of a folder with one folder for each class, the first image of each class is taken.
Without images, scikit-learn's two photographs are. Needs TensorFlow and
`pip install "keras-shift[explain]"`.
"""

import argparse
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import keras
import numpy as np
import rich.progress

from keras_shift import analysis, zoo
from keras_shift.files import replacing

try:
    import matplotlib
    from matplotlib import pyplot
    from PIL import Image, ImageOps
except ImportError as error:
    raise SystemExit(
        f'This needs pip install "keras-shift[explain]" ({error}).'
    ) from error

# The same recipe trained both networks to about the same accuracy.
COMPARED = {
    "FE-Net 0.75": "fenet_0.75.tiny_imagenet.sparse",
    "MobileNetV2": "mobilenet_v2_1.0.tiny_imagenet",
}
IMAGE_SIZE = 224  # Networks that take any size get this one.
MAX_IMAGES = 100  # A picture with more rows is more than anyone looks at.
ENDINGS = (".png", ".jpg", ".pdf", ".svg")


def load_network(name):
    """Returns a network, and the names of its classes or `None`.

    Args:
        name: Path of a `.keras` file, or name of published weights.

    Raises:
        ValueError: If there is no such network.
    """
    if not name.endswith(".keras"):
        record = zoo.get_record(name)
        return zoo.models.model_of_record(record), record.names()
    try:
        return keras.saving.load_model(name, compile=False), None
    # What a damaged file raises depends on where the damage is.
    except Exception as error:
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def image_files(paths):
    """Returns the files, and the images of the folders, among `paths`.

    Raises:
        ValueError: If a folder has no images, or there are too many.
    """
    files = []
    for path in map(Path, paths):
        inside = [path]
        if path.is_dir():
            classes = sorted(folder for folder in path.iterdir() if folder.is_dir())
            first = [file for folder in classes for file in images_in(folder)[:1]]
            inside = images_in(path) or first
        if not inside:
            raise ValueError(f"There are no images in the folder {path}.")
        files += inside
    if len(files) > MAX_IMAGES:
        raise ValueError(f"{len(files)} images are too many: {MAX_IMAGES} at most.")
    return files


def images_in(folder):
    """Returns the files of a folder that are images by their names."""
    endings = Image.registered_extensions()
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings]


def read_image(path, height, width):
    """Returns an image file as the network will see it, `(height, width, 3)`.

    Raises:
        ValueError: If the file is no image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    # Pillow says SyntaxError of some broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return fit(upright, height, width)


def fit(image, height, width):
    """Returns a PIL image, cropped around its centre and resized, as an array."""
    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, "float32")


def sample_photographs(height, width):
    """Returns the names and the pixels of scikit-learn's two photographs."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError(
            'Name some images, or pip install "keras-shift[examples]" for those of '
            "scikit-learn."
        ) from error
    samples = datasets.load_sample_images()
    names = [Path(path).name for path in samples.filenames]
    return names, [
        fit(Image.fromarray(image), height, width) for image in samples.images
    ]


def draw_explanations(arguments):
    """Draws what a network looks at, and returns the figure."""
    model, names = load_network(arguments.model)
    if arguments.class_names:
        names = Path(arguments.class_names).read_text("utf-8-sig").splitlines()
        if len(names) != model.output_shape[-1]:
            raise ValueError(
                f"{arguments.class_names} names {len(names)} classes, one a line; "
                f"{arguments.model} has {model.output_shape[-1]}."
            )
    # What takes no images of height and width is refused below.
    sizes = [size or IMAGE_SIZE for size in (*model.inputs[0].shape, 1, 1)[1:3]]
    if arguments.images:
        files = image_files(arguments.images)
        titles = [file.name for file in files]
        images = [read_image(file, *sizes) for file in files]
    else:
        titles, images = sample_photographs(*sizes)
    explanations = analysis.explain(
        model, np.stack(images), arguments.explained, arguments.layer
    )
    explanations = list(rich.progress.track(explanations, "Images", len(images)))
    grid = analysis.plot_explanations(images, explanations, titles, names)
    figure = grid[0, 0].figure
    figure.suptitle(f"{Path(arguments.model).name}, {sizes[1]}x{sizes[0]} pixels")
    return figure


def draw_maxima(class_names):
    """Draws what FE-Net and MobileNetV2 look for, and returns the figure."""
    figure, grid = pyplot.subplots(
        len(COMPARED),
        len(class_names),
        squeeze=False,
        figsize=(1.8 * len(class_names) + 0.4, 2.1 * len(COMPARED)),
        layout="constrained",
    )
    networks = {title: load_network(name) for title, name in COMPARED.items()}
    for axes, (title, (model, names)) in zip(grid, networks.items()):
        if missing := [wanted for wanted in class_names if wanted not in names]:
            raise ValueError(f"--look-for must be of {names}. Received: {missing}")
        classes = [names.index(wanted) for wanted in class_names]
        print(f"Searching what {title} looks for.")
        images = analysis.maximize_activation(model, classes)
        scores = model.predict(images, verbose=0)
        for panel, image, index, scores in zip(axes, images, classes, scores):
            panel.imshow(image / 255)
            panel.set(xticks=[], yticks=[], frame_on=False)
            panel.set_title(f"{names[index]}: {scores[index]:.0%}", size=9, pad=3)
        axes[0].set_ylabel(title)
    return figure


def main(arguments=None):
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a .keras file, or published weights"
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, or folders of images"
    )
    parser.add_argument(
        "--look-for",
        nargs="+",
        metavar="CLASS",
        help="draw what FE-Net and MobileNetV2 look for, by names of classes",
    )
    parser.add_argument(
        "--class",
        type=int,
        dest="explained",
        metavar="INDEX",
        help="class to explain; each image's predicted one by default",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="layer that Grad-CAM++ looks at; the last map of features by default",
    )
    parser.add_argument(
        "--class-names", metavar="FILE", help="text file of one name a line"
    )
    parser.add_argument(
        "--output", default="explain.png", metavar="FILE", help="explain.png by default"
    )
    arguments = parser.parse_args(arguments)
    if (arguments.model is None) == (arguments.look_for is None):
        parser.error("name either a network or classes with --look-for")
    for option in ("explained", "layer", "class_names"):
        if arguments.look_for and getattr(arguments, option) is not None:
            parser.error("--class, --layer and --class-names are for a network")
    output = Path(arguments.output)
    if output.suffix.lower() not in ENDINGS:
        parser.error(f"--output must end in one of {ENDINGS}, not {output}")
    matplotlib.use("agg")
    try:
        if arguments.look_for:
            figure = draw_maxima(arguments.look_for)
        else:
            figure = draw_explanations(arguments)
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as path:
            figure.savefig(path, dpi=120)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"explain.py: {error}") from error
    except KeyboardInterrupt as error:
        raise SystemExit("\nInterrupted. No picture was written.") from error
    print(f"The picture is {output}.")


if __name__ == "__main__":
    main()
