"""Paints photographs in the style of a picture: from images to a phone's file.

    python examples/style_transfer.py
    python examples/style_transfer.py STYLE.jpg FOLDER

Trains both networks of Table 10 of the ShiftNet paper to paint the photographs in a
folder in the style of a picture, with convolutions and with shifts, all else but the
learning rate alike. While they train, it shows the losses and paints held-out
photographs after every epoch. In the end it prints the losses of the held-out
photographs as they are and as both networks paint them; exports both to .tflite files
as float32 and int8, which are compared with Keras and timed; and draws photographs
beside what became of them.

Without arguments, it makes do with parts of scikit-learn's two photographs, and with
strokes of a brush that it draws itself: enough to see that it works, and not what a
network would learn of a painter and thousands of photographs.

What the losses compare are maps of a trained network, `--features`. "vgg16" is the
paper's, which Keras downloads; the others need no download. A fifth of the photographs
are held out, at most 12. Photographs are cropped around their centre to squares, then
resized; the training sees parts of them. Needs TensorFlow and `pip install
"keras-shift[examples,plot]"`.
"""

import argparse
import dataclasses
import functools
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import keras
import numpy as np
import rich.console
import rich.progress
import rich.table
import segmentation as workflow
import steps
import tensorflow as tf
from PIL import Image, ImageDraw, ImageOps

import keras_shift
from keras_shift.deploy.timing import time_alternately
from keras_shift.environment import machine
from keras_shift.files import replacing

LEAST_PIXELS = 16  # The shorter side of every picture has at least as many.
HELD_OUT = 12  # At most so many photographs are held out.
# The stand-in for a painting has so many strokes. They are broad: of thin ones,
# networks learn no colour for what is flat in a photograph.
STROKES = 900
CALIBRATION_IMAGES = 8
DRAWN_IMAGES = 4
# Columns of the stand-in's photograph from this one on are held out.
PARTED_AT = 400
NETWORKS = {"convolutions": "conv", "shifts": "grouped_shift"}
# These are multiples of --learning-rate. Kernels with nine times the inputs start at a
# third of the size, but Adam's steps do not depend on it. With the shifts' learning
# rate, the convolutions' ReLUs died.
LEARNING_RATES = {"style_convolutions": 1 / 3, "style_shifts": 1.0}
FEATURES = ("mobilenet_v2", "fenet", "hed", "vgg16")
LOSSES = ("style loss", "content loss")


@dataclasses.dataclass(frozen=True)
class Data:
    """Photographs and a picture as uint8 arrays."""

    name: str
    photographs: np.ndarray
    held_out: np.ndarray
    style: np.ndarray


def stand_in(arguments):
    """Parts of scikit-learn's photographs, and a picture that is drawn here."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ValueError(
            'Name a picture and a folder of photographs, or pip install "keras-shift'
            '[examples]" for those of scikit-learn.'
        ) from error
    random = np.random.default_rng(arguments.seed)
    size = arguments.image_size
    pictures = datasets.load_sample_images().images
    photographs, held_out = [], []
    for index in range(arguments.images):
        left = Image.fromarray(pictures[index % 2][:, :PARTED_AT])
        side = random.integers(min(left.size) // 2, min(left.size) + 1)
        x, y = (random.integers(length - side + 1) for length in left.size)
        photographs.append(resized(left.crop((x, y, x + side, y + side)), size))
    for picture in pictures:
        right = Image.fromarray(picture[:, PARTED_AT:])
        side = min(right.size)
        for y in (0, right.height - side):
            held_out.append(resized(right.crop((0, y, side, y + side)), size))
    style = np.asarray(strokes(arguments.style_size, arguments.seed))
    return Data("stand-in", np.stack(photographs), np.stack(held_out), style)


def strokes(size, seed=0):
    """Returns a square picture of short strokes of a brush, which follow whirls."""
    random = np.random.default_rng(seed)
    palette = np.array(
        [(16, 37, 92), (30, 86, 160), (94, 160, 204), (244, 196, 48), (232, 120, 32)]
    )
    scale = 4  # Drawn larger, lines get smooth edges.
    picture = Image.new("RGB", (size * scale, size * scale), tuple(palette[0]))
    draw = ImageDraw.Draw(picture)
    whirls = random.uniform(0, 1, (5, 2))
    for _ in range(STROKES):
        place = random.uniform(-0.05, 1.05, 2)
        shade = np.sin(8 * place[0] + 5 * np.sin(4 * place[1])) + random.normal(0, 0.7)
        colour = palette[int(np.clip(2 + shade, 0, 4))] + random.normal(0, 12, 3)
        points = [place]
        for _ in range(6):
            away = points[-1] - whirls
            distance = (away**2).sum(1, keepdims=True)
            flow = (away[:, ::-1] * (1, -1) / (distance + 0.01)).sum(0)
            points.append(points[-1] + 0.02 * flow / (np.hypot(*flow) + 1e-6))
        draw.line(
            [tuple(point * size * scale) for point in points],
            tuple(int(value) for value in np.clip(colour, 0, 255)),
            width=round(size * scale * 0.05),
            joint="curve",
        )
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def folder(style_path, path, arguments):
    """Returns the photographs in a folder, a fifth held out, and a picture."""
    style = checked(style_path)
    shorter = min(style.size)
    size = [round(length * arguments.style_size / shorter) for length in style.size]
    style = style.resize(size, Image.Resampling.LANCZOS)
    if not path.is_dir():
        raise ValueError(f"There is no folder {path}.")
    endings = Image.registered_extensions()
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in endings]
    if len(files) < 2:
        raise ValueError(
            f"{path} must hold two photographs at least. Found: {len(files)}"
        )
    random = np.random.default_rng(arguments.seed)
    files = [files[index] for index in random.permutation(len(files))]
    # The files are read before anything is trained, so that a bad one is named at once.
    photographs = np.stack(
        [
            resized(checked(file), arguments.image_size)
            for file in rich.progress.track(
                files[: arguments.images], "Reading photographs"
            )
        ]
    )
    held_out = min(max(len(photographs) // 5, 1), HELD_OUT)
    return Data(
        f"{path.name} in the style of {style_path.name}",
        photographs[held_out:],
        photographs[:held_out],
        np.asarray(style),
    )


def checked(path):
    """Returns an image file as a PIL image of colours that is not too small.

    Raises:
        ValueError: If the file is no image, or too small.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    image = workflow.read(path)
    if min(image.size) < LEAST_PIXELS:
        raise ValueError(
            f"{path} has {image.width}x{image.height} pixels, and {LEAST_PIXELS} are "
            "the least for either side."
        )
    return image.convert("RGB")


def resized(image, size):
    """Returns a square image as an uint8 array."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def build(network, height=None, width=None):
    """Returns a network for images of this size, or of any."""
    return keras_shift.zoo.StyleTransferNet(
        (height, width, 3), name=f"style_{network}", spatial=NETWORKS[network]
    )


def fit(model, features, data, arguments, output):
    """Trains with Adam, and paints held-out photographs after every epoch."""
    trainer = keras_shift.training.StyleTransfer(
        model,
        features,
        data.style,
        content_weight=arguments.content_weight,
        style_weight=arguments.style_weight,
    )
    crop = keras.layers.RandomCrop(arguments.crop_size, arguments.crop_size, seed=0)
    photographs = (
        tf.data.Dataset.from_tensor_slices(data.photographs)
        .shuffle(len(data.photographs), seed=arguments.seed)
        .batch(arguments.batch_size)
        .map(functools.partial(crop, training=True))
        .prefetch(1)
    )
    steps = arguments.epochs * int(photographs.cardinality())
    # Adam's first steps are large for all weights.
    learning_rate = arguments.learning_rate * LEARNING_RATES[model.name]
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 30,
        steps,
        alpha=0.05,
        warmup_target=learning_rate,
        warmup_steps=min(10, steps // 2),
    )
    trainer.compile(keras.optimizers.Adam(schedule), jit_compile=False)

    def draw_progress(epoch, logs):
        with replacing(output / f"{model.name}_epoch{epoch + 1}.jpg") as path:
            strip(paint(model, data.held_out[:DRAWN_IMAGES])).save(path)

    trainer.fit(
        photographs,
        epochs=arguments.epochs,
        shuffle=False,  # `photographs` shuffles itself, and Keras would warn.
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LambdaCallback(on_epoch_end=draw_progress),
        ],
    )
    return trainer


def paint(model, photographs):
    """Returns what a network makes of photographs."""
    return model.predict(photographs.astype("float32"), batch_size=1, verbose=0)


def losses(trainer, photographs, painted):
    """Returns both losses of held-out photographs, without their weights."""
    found = [
        trainer.losses_of(
            photograph[None].astype("float32"), image[None].astype("float32")
        )
        for photograph, image in zip(photographs, painted)
    ]
    content, style = np.array(
        [
            [float(keras.ops.convert_to_numpy(loss)[0]) for loss in pair]
            for pair in found
        ]
    ).mean(0)
    return {"style loss": style, "content loss": content}


def strip(images):
    """Images side by side."""
    pixels = np.concatenate(list(images), axis=1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype("uint8"))


def export(model, network, data, output):
    """Writes float32 and int8 files for the photographs' size, by kind."""
    fixed = build(network, *data.photographs.shape[1:3])
    fixed.set_weights(model.get_weights())
    photographs = data.photographs[:CALIBRATION_IMAGES]
    return steps.export(fixed, photographs, output, "painted")


def draw(data, painted, path):
    """Draws the style, held-out photographs, and what both networks make of them."""
    from matplotlib import pyplot

    count = min(DRAWN_IMAGES, len(data.held_out))
    rows = {"photograph": data.held_out, **painted}
    figure, grid = pyplot.subplots(
        len(rows),
        count + 1,
        squeeze=False,
        figsize=(2.4 * (count + 1), 2.45 * len(rows)),
        layout="constrained",
    )
    for panel in grid.flat:
        panel.set(xticks=[], yticks=[], frame_on=False)
    grid[0, 0].imshow(data.style)
    grid[0, 0].set_xlabel("style")
    for axes, (title, pictures) in zip(grid, rows.items()):
        axes[1].set_ylabel(title)
        for panel, picture in zip(axes[1:], pictures):
            panel.imshow(np.clip(np.rint(picture), 0, 255).astype("uint8"))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(data, features, arguments):
    """Runs the whole way for both networks, and prints the table."""
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    console = rich.console.Console()
    rows, painted = [], {}
    files: dict[str, dict] = {kind: {} for kind in steps.KINDS}
    for network in NETWORKS:
        keras.utils.set_random_seed(arguments.seed)
        model = build(network)
        console.rule(f"{model.name} on {data.name}")
        trainer = fit(model, features, data, arguments, output)
        with replacing(output / f"{model.name}.keras") as path:
            model.save(path)
        painted[network] = paint(model, data.held_out)
        if not rows:
            as_is = losses(trainer, data.held_out, data.held_out)
            rows.append({"network": "photographs", **as_is})
        row = {
            "network": network,
            **losses(trainer, data.held_out, painted[network]),
            "parameters": model.count_params(),
            "million MAdds": keras_shift.analysis.multiply_adds(
                model, data.photographs.shape[1:]
            )
            / 1e6,
        }
        for kind, lite in export(model, network, data, output).items():
            files[kind][network] = lite.invoke
            answers = np.concatenate(
                [lite.predict(image[None]) for image in data.held_out]
            )
            row[f"{kind} differs by"] = float(abs(answers - painted[network]).mean())
            row[f"{kind} kB"] = lite.bytes / 1000
        rows.append(row)
    with replacing(output / "style_transfer.png") as path:
        draw(data, painted, path)
    with console.status("Timing the files"):
        for kind, calls in files.items():
            for network, timing in time_alternately(calls, arguments.rounds).items():
                (row,) = [row for row in rows if row["network"] == network]
                row[f"{kind} ms"] = timing.median * 1000
                row[f"{kind} time"] = timing.ratio
                row[f"{kind} time, low"] = timing.ratio_low
                row[f"{kind} time, high"] = timing.ratio_high
    for row in rows[1:]:
        row["machine"] = machine()
    report_rows(rows, data, arguments, console)
    with replacing(output / "results.csv") as path:
        workflow.write_csv(rows, path)
    console.print(f"The picture is {output / 'style_transfer.png'}.")
    console.print(f"The files are in {output}/.")
    return rows


def report_rows(rows, data, arguments, console):
    """Prints the table, networks side by side."""
    height, width = data.photographs.shape[1:3]
    table = rich.table.Table(
        title=f"{data.name}, {width}x{height} pixels, features of {arguments.features}",
        caption=f"On {len(data.held_out)} held-out images. A file differs by the mean "
        "of absolute differences of pixel values from Keras. Milliseconds: one image, "
        "one thread, LiteRT, median of calls in turns; time as a share of the first.",
    )
    table.add_column()
    for row in rows:
        table.add_column(row["network"], justify="right", overflow="fold")
    for key in rows[-1]:
        if key not in ("network", "machine") and not key.endswith(("low", "high")):
            table.add_row(key, *(_text(key, row.get(key, "")) for row in rows))
    console.print(table)
    before = rows[0]["style loss"]
    for row in rows[1:]:
        share = row["style loss"] / before
        console.print(
            f"The {row['network']} leave {share:.0%} of the photographs' style loss."
        )


def _text(key, value):
    if value == "":
        return value
    if key in LOSSES:
        return f"{value:.3g}"
    if key.endswith(("differs by", " ms", " time")):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "style", nargs="?", type=Path, metavar="STYLE", help="picture with the style"
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="folder of photographs"
    )
    parser.add_argument(
        "--features",
        default="mobilenet_v2",
        choices=FEATURES,
        help="the network whose maps the losses compare",
    )
    parser.add_argument("--images", type=int, default=100, help="read at most")
    parser.add_argument("--image-size", type=int, default=192, help="pixels")
    parser.add_argument(
        "--crop-size", type=int, default=96, help="pixels of the parts for the training"
    )
    parser.add_argument(
        "--style-size", type=int, default=192, help="the style's shorter side in pixels"
    )
    parser.add_argument("--style-weight", type=float, default=1e9)
    parser.add_argument("--content-weight", type=float, default=1e5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=0.003,
        help="of the network with shifts; a third of it is that of convolutions",
    )
    parser.add_argument("--rounds", type=int, default=10, help="of timing the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="style_transfer_output")
    parsed = parser.parse_args(arguments)
    if parsed.style and not parsed.folder:
        parser.error("STYLE needs a FOLDER of photographs")
    for option, least in (
        ("images", 2),
        ("image_size", LEAST_PIXELS),
        ("crop_size", LEAST_PIXELS),
        ("style_size", LEAST_PIXELS),
        ("epochs", 1),
        ("batch_size", 1),
        ("rounds", 1),
    ):
        if getattr(parsed, option) < least:
            parser.error(f"--{option.replace('_', '-')} must be {least} or more")
    if parsed.crop_size > parsed.image_size:
        parser.error("--crop-size must be --image-size or less")
    for option in ("style_weight", "content_weight", "learning_rate"):
        if not 0 <= getattr(parsed, option) < float("inf"):
            parser.error(f"--{option.replace('_', '-')} must be zero or positive")
    return parsed


def main(arguments=None):
    """Does what the command line asks for."""
    arguments = parse(arguments)
    with steps.errors_in_one_line("style_transfer.py"):
        if arguments.style is None:
            data = stand_in(arguments)
        else:
            data = folder(arguments.style, arguments.folder, arguments)
        features = keras_shift.training.perceptual_features(arguments.features)
        run(data, features, arguments)


if __name__ == "__main__":
    main()
