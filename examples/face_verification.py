"""Tells whether two images show one person: from folders of people to a phone's file.

    python examples/face_verification.py
    python examples/face_verification.py PEOPLE_DIR
    python examples/face_verification.py lfw/images --training-people peopleDevTrain.txt
      --pairs pairsDevTest.txt --crop 0.58

Trains `keras_shift.zoo.ShiftFaceNet` by softmax with center loss, verifies pairs of
images of people that it was not trained on, and exports it to .tflite files as float32
and int8, which verify the same pairs. Prints accuracies and areas under the ROC curve
with bootstrap intervals of 95%, beside those of the network before its training, and
draws the ROC curves and the most confused pairs.

PEOPLE_DIR holds one folder of images for each person. A fifth of the people with two
images or more is held out, unless --training-people and --pairs name files such as
those of Labeled Faces in the Wild, which count a person's images from 1 on, in the
order of their names. Faces should be upright and of one size; --crop leaves out what is
around them.

Without a folder there are no faces: scikit-learn's handwritten digits stand in for
them, which need no download. The network is trained on the digits 0 to 6, and verifies
whether two images show the same of the digits 7 to 9. That shows the way, and says
nothing about faces: seven digits are too few to learn what tells others apart, and the
table shows the trained network to be no better at it than the untrained one.

Needs TensorFlow and `pip install "keras-shift[examples,plot]"`.
"""

import argparse
import dataclasses
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import finetune_and_export as workflow
import keras
import matplotlib
import numpy as np
import rich.console
import rich.progress
import rich.table
import steps
from matplotlib import pyplot
from PIL import Image, ImageOps
from segmentation import read

import keras_shift
from keras_shift.environment import machine
from keras_shift.files import replacing
from keras_shift.training import verification

STRIDE = 32  # Smaller images have no pixel for every stride.
MOST_IMAGES = 20  # A few people of LFW have hundreds.
MOST_PAIRS = 1000  # So many pairs of either kind are enough.
PEOPLE_TRAINED_ON = 7  # The other three digits are strangers.
DRAWN_PAIRS = 4


@dataclasses.dataclass(frozen=True)
class Data:
    """Images of people to train on, and pairs of images of other people.

    Attributes:
        name: What the images are of.
        images: Uint8 array of the images to train on.
        labels: The number of each image's person.
        held_out_images: Uint8 array of the images in the pairs.
        pairs: Array of shape `(pairs, 2)` of indices of held-out images.
        same: For each pair, whether both images are of one person.
        captions: Name of the person in each held-out image.
        mirrored: Whether a mirror image is still one of the same person.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    pairs: np.ndarray
    same: np.ndarray
    captions: list[str]
    mirrored: bool = True

    @property
    def people(self):
        """Returns the number of people to train on."""
        return int(self.labels.max()) + 1


def digits(arguments):
    """Returns scikit-learn's digits in the place of faces; three are held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            'Name a folder, or pip install "keras-shift[examples]" for the digits of '
            "scikit-learn."
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    glyphs = (pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype("float32")
    size = (arguments.image_size, arguments.image_size)
    images = keras.ops.convert_to_numpy(keras.ops.image.resize(glyphs, size))
    images = np.repeat(np.rint(images).astype("uint8"), 3, axis=-1)
    held_out = labels >= PEOPLE_TRAINED_ON
    pairs, same = drawn_pairs(labels[held_out], arguments.seed)
    return Data(
        "digits 7 to 9, after training on 0 to 6",
        images[~held_out],
        labels[~held_out],
        images[held_out],
        pairs,
        same,
        list(map(str, labels[held_out])),
        mirrored=False,
    )


def folder(path, arguments):
    """Returns a folder of people, some held out, as files say or by chance."""
    files = people_in(path)
    if arguments.pairs:
        training = dict.fromkeys(verification.read_people(arguments.training_people))
        pairs = sum(verification.read_pairs(arguments.pairs), [])
        verification.check_disjoint(training, pairs)
    else:
        several = sorted(name for name in files if len(files[name]) > 1)
        if len(several) < 4:
            raise ValueError(
                f"{path} must hold folders of four people with two images or more: two "
                "to train on, and two to verify. "
                f"Found: {len(several)} among {len(files)}"
            )
        random = np.random.default_rng(arguments.seed)
        random.shuffle(several)
        count = max(len(several) // 5, 2)
        held_out, training = sorted(several[:count]), sorted(several[count:])
        images = [
            (name, number)
            for name in held_out
            for number in range(1, 1 + len(files[name][:MOST_IMAGES]))
        ]
        indices, _ = drawn_pairs(np.array([name for name, _ in images]), arguments.seed)
        pairs = [verification.Pair(images[one], images[two]) for one, two in indices]
    held_out = sorted({image for pair in pairs for image in pair})
    place = {image: index for index, image in enumerate(held_out)}
    # Somebody with one image has nothing to be pulled together.
    people = [name for name in training if len(files.get(name, [])) > 1]
    if len(people) < 2:
        raise ValueError(
            f"{path} must hold two people to train on, with two images or more each. "
            f"Found: {len(people)}"
        )
    chosen = [
        (file, label)
        for label, name in enumerate(people)
        for file in files[name][:MOST_IMAGES]
    ]
    paths = [numbered(files, image, path) for image in held_out]
    # All files are read before anything is trained, so that a bad one is named at once.
    return Data(
        path.name,
        fitted([file for file, _ in chosen], "to train on", arguments),
        np.array([label for _, label in chosen]),
        fitted(paths, "to verify", arguments),
        np.array([[place[first], place[second]] for first, second in pairs]),
        np.array([pair.same for pair in pairs]),
        [name.replace("_", " ") for name, _ in held_out],
    )


def people_in(path):
    """Returns the image files of every folder, in the order of their names."""
    endings = Image.registered_extensions()
    found = {}
    for person in sorted(path.iterdir()):
        if person.is_dir():
            found[person.name] = [
                file
                for file in sorted(person.iterdir())
                if file.suffix.lower() in endings
            ]
    if not any(found.values()):
        raise ValueError(
            f"{path} must hold one folder of images for each person. Found: none"
        )
    return found


def numbered(files, image, path):
    """Returns the file of an image that a list of pairs names by its number."""
    name, number = image
    if number > len(files.get(name, [])):
        raise ValueError(
            f"A pair has image {number} of {name}, and {path / name} has "
            f"{len(files.get(name, []))}."
        )
    return files[name][number - 1]


def drawn_pairs(names, seed):
    """Draws pairs of one person and as many of two; returns indices and kinds."""
    random = np.random.default_rng(seed)
    one, two = np.triu_indices(len(names), 1)
    same = names[one] == names[two]
    count = min(same.sum(), (~same).sum(), MOST_PAIRS)
    chosen = np.concatenate(
        [random.choice(np.flatnonzero(kind), count, False) for kind in (same, ~same)]
    )
    return np.stack([one[chosen], two[chosen]], axis=1), same[chosen]


def fitted(files, purpose, arguments):
    """Returns square images of the middle of some files, as one uint8 array."""
    size = arguments.image_size
    images = np.empty((len(files), size, size, 3), "uint8")
    for index, file in enumerate(
        rich.progress.track(files, f"Reading images {purpose}")
    ):
        image = read(file).convert("RGB")
        edge = round(min(image.size) * arguments.crop)
        if edge < STRIDE:
            raise ValueError(
                f"{file} has {image.width}x{image.height} pixels, of which {edge}x"
                f"{edge} are left: less than the network's stride of {STRIDE}."
            )
        image = ImageOps.fit(image, (min(image.size),) * 2)
        image = ImageOps.crop(image, (image.width - edge) // 2)
        images[index] = image.resize((size, size), Image.Resampling.BILINEAR)
    return images


def build(arguments):
    """Returns a network for images of this size, with random weights."""
    size = arguments.image_size
    return keras_shift.zoo.ShiftFaceNet(
        (size, size, 3),
        arguments.embedding_dim,
        arguments.alpha,
        kernel_regularizer=keras.regularizers.L2(1e-4),
        batch_norm_momentum=workflow.BATCH_NORM_MOMENTUM,
    )


class Batches(keras_shift.training.TrainingBatches):
    """Batches for a model that takes the labels, too, for the centers of people."""

    def __getitem__(self, index):
        images, labels = super().__getitem__(index)
        return (images, labels), labels


def fit(model, data, arguments):
    """Trains with Adam and a cosine schedule, on people as classes."""
    classifier = keras_shift.training.embedding_classifier(
        model, data.people, center_loss=arguments.center_loss
    )
    batches = Batches(
        data.images,
        data.labels,
        # An incomplete batch is left out, and must not be all there is.
        min(arguments.batch_size, len(data.images)),
        "flip_crop" if data.mirrored else "none",
        crop_padding=arguments.image_size // 10,
        seed=arguments.seed,
    )
    steps = arguments.epochs * len(batches)
    classifier.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0,
                steps - steps // 20,
                warmup_target=arguments.learning_rate,
                warmup_steps=steps // 20,
            )
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(
        batches,
        epochs=arguments.epochs,
        callbacks=[keras.callbacks.TerminateOnNaN()],
        shuffle=False,  # The batches shuffle themselves, and Keras would warn.
    )


def verify(predict, data):
    """Verifies the pairs; returns their similarities, and what they are worth."""
    embeddings = predict(data.held_out_images.astype("float32"))
    first, second = data.pairs.T
    similarities = verification.similarities(embeddings[first], embeddings[second])
    return similarities, verification.evaluate_pairs(similarities, data.same)


def keras_predict(model):
    """Returns the function `model.predict`, which prints nothing."""
    return lambda images: model.predict(images, verbose=0)


def row_of(name, result):
    """Returns what the table has of some embeddings."""
    return {
        "embeddings": name,
        "accuracy": result.accuracy,
        "accuracy low": result.accuracy_interval[0],
        "accuracy high": result.accuracy_interval[1],
        "accuracy deviation": result.accuracy_deviation,
        "ROC area": result.roc_area,
        "ROC area low": result.roc_area_interval[0],
        "ROC area high": result.roc_area_interval[1],
    }


def draw(data, similarities, threshold, path):
    """Draws the ROC curves, and the pairs that are judged most wrongly.

    Args:
        data: A `Data`.
        similarities: Dict of arrays of similarities, by the names of embeddings. The
            pairs are those of "Keras".
        threshold: The similarity from which on two images count as those of one person.
        path: Path of the picture.
    """
    figure = pyplot.figure(figsize=(11, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    axes = left.subplots()
    for name, values in similarities.items():
        area = verification.roc_area(values, data.same)
        axes.plot(
            *verification.roc_curve(values, data.same), label=f"{name}, area {area:.3f}"
        )
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        title=data.name,
        xlabel="pairs that differ, taken for the same",
        ylabel="pairs that are the same, found",
        aspect="equal",
    )
    axes.legend(loc="lower right", frameon=False)
    values = similarities["Keras"]
    halves = right.subfigures(2, 1)
    for half, same, title in (
        (halves[0], False, "Most alike of those that differ"),
        (halves[1], True, "Least alike of those that are the same"),
    ):
        half.suptitle(f"{title} ({threshold:.2f} counts as the same)", size=10)
        own = np.flatnonzero(data.same == same)
        order = own[np.argsort(values[own] * (1 if same else -1), kind="stable")]
        grid = half.subplots(1, DRAWN_PAIRS, squeeze=False)[0]
        for panel in grid:
            panel.axis("off")
        for panel, index in zip(grid, order):
            first, second = data.pairs[index]
            gap = np.full_like(data.held_out_images[0, :2], 255)
            one, two = data.held_out_images[[first, second]]
            panel.imshow(np.concatenate([one, gap, two]))
            names = dict.fromkeys(data.captions[place] for place in (first, second))
            panel.set_title("\n".join([*names, f"{values[index]:.2f}"]), size=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(data, arguments):
    """Runs the whole way, and prints the table."""
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    console = rich.console.Console()
    console.print(
        f"Training on {len(data.images)} images of {data.people}, and verifying "
        f"{len(data.pairs)} pairs of {len(set(data.captions))} others."
    )
    keras.utils.set_random_seed(arguments.seed)
    model = build(arguments)
    untrained, result = verify(keras_predict(model), data)
    rows = [row_of("untrained", result)]
    fit(model, data, arguments)
    with replacing(output / f"{model.name}.keras") as path:
        model.save(path)
    trained, result = verify(keras_predict(model), data)
    rows.append(row_of("Keras", result))
    similarities = {"untrained": untrained, "Keras": trained}
    for kind, lite in steps.export(model, data.images, output, "embedding").items():
        similarities[kind], of_file = verify(lite.predict, data)
        difference = np.abs(similarities[kind] - trained).max()
        rows.append(
            row_of(f"{kind} file", of_file)
            | {"largest difference": float(difference), "kB": lite.bytes / 1000}
        )
    threshold = float(np.median(result.thresholds))
    curves = {name: similarities[name] for name in ("Keras", "int8", "untrained")}
    with replacing(output / "verification.png") as path:
        draw(data, curves, threshold, path)
    report_rows(rows, data, console)
    for row in rows:
        row["machine"] = machine()
    with replacing(output / "results.csv") as path:
        workflow.write_csv([dict.fromkeys(rows[-1], "") | row for row in rows], path)
    console.print(f"Held-out pairs, by Keras: {result}.", soft_wrap=True)
    console.print(f"The picture is {output / 'verification.png'}.")
    console.print(f"The files are in {output}/.")


def report_rows(rows, data, console):
    """Prints the table."""
    table = rich.table.Table(
        title=data.name,
        caption=f"On {len(data.pairs)} pairs of images of people that the training had "
        "not; half of the pairs are of one person. Bootstrap intervals of 95%. "
        "Differences are those of similarities to Keras'.",
    )
    table.add_column()
    for name in ("accuracy", "ROC area", "largest difference", "kB"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [
            f"{row[name]:.1%} ({row[f'{name} low']:.1%} to {row[f'{name} high']:.1%})"
            for name in ("accuracy", "ROC area")
        ]
        if "kB" in row:
            cells += [f"{row['largest difference']:.2g}", f"{row['kB']:,.1f}"]
        table.add_row(row["embeddings"], *cells)
    console.print(table)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="PEOPLE_DIR",
        help="folder of one folder of images for each person; digits if left out",
    )
    parser.add_argument(
        "--training-people", metavar="FILE", help="list of people, as LFW has them"
    )
    parser.add_argument(
        "--pairs", metavar="FILE", help="list of pairs of other people, as LFW has them"
    )
    parser.add_argument(
        "--crop",
        type=float,
        default=1.0,
        help="share of the largest square in the middle of an image that is kept",
    )
    parser.add_argument(
        "--image-size", type=int, help="pixels; 64 with a folder, 32 otherwise"
    )
    parser.add_argument("--embedding-dim", type=int, default=128)
    parser.add_argument("--alpha", type=float, default=1.0, help="the network's width")
    parser.add_argument(
        "--center-loss", type=float, default=0.5, help="strength of the center loss"
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="face_verification_output")
    parsed = parser.parse_args(arguments)
    if parsed.image_size is None:
        parsed.image_size = 64 if parsed.folder else 32
    if parsed.image_size < STRIDE:
        parser.error(f"--image-size must be {STRIDE}, the stride, or more")
    if not 0 < parsed.crop <= 1:
        parser.error("--crop must be above 0, and 1 at most")
    for option in ("embedding_dim", "epochs", "batch_size"):
        if getattr(parsed, option) < 1:
            parser.error(f"--{option.replace('_', '-')} must be 1 or more")
    if bool(parsed.pairs) != bool(parsed.training_people):
        parser.error("--pairs and --training-people go together")
    if parsed.pairs and not parsed.folder:
        parser.error("--pairs is for a folder")
    return parsed


def main(arguments=None):
    """Does what the command line asks for."""
    arguments = parse(arguments)
    matplotlib.use("agg")
    with steps.errors_in_one_line("face_verification.py"):
        if arguments.folder is None:
            data = digits(arguments)
        elif Path(arguments.folder).is_dir():
            data = folder(Path(arguments.folder), arguments)
        else:
            raise ValueError(f"There is no folder {arguments.folder}.")
        run(data, arguments)


if __name__ == "__main__":
    main()
