"""From images to a phone's file, and how it compares with MobileNetV2.

Fine-tunes FE-Net with `model.fit`, exports it to TFLite as float32 and int8, runs
both files on the held-out images, does the same with MobileNetV2, and prints one
table. FE-Net takes part in two widths: 0.75, which is as accurate as MobileNetV2 on
Tiny-ImageNet in much less time, and 1.0, which has as many multiply-adds. The images
are scikit-learn's handwritten digits, which need no download, unless you name others:

    python examples/finetune_and_export.py
    python examples/finetune_and_export.py --data photographs/
    python examples/finetune_and_export.py --dataset cifar10 --epochs 20

`--data` takes a folder with one folder of images for each class, and holds a
fifth of them out; `--dataset` takes a name in TensorFlow Datasets.
"""

import argparse
import csv
import dataclasses
import os
import sys
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import keras
import numpy as np
import rich.console
import rich.table
import tensorflow as tf

import keras_shift
from keras_shift.deploy import LiteRTModel, to_tflite
from keras_shift.deploy.timing import time_alternately
from keras_shift.environment import machine
from keras_shift.files import replacing

BATCH_NORM_MOMENTUM = 0.9  # Keras' 0.99 and 0.999 are slow for a short training.
CALIBRATION_IMAGES = 200

# The printed table has these in its title, or leaves them to its file.
NOT_IN_TABLE = {"network", "pixels", "total stride", "epochs", "machine"}


@dataclasses.dataclass(frozen=True)
class Data:
    """Images with pixel values in [0, 255], in batches, and their labels."""

    name: str
    train: tf.data.Dataset
    held_out: tf.data.Dataset
    classes: int
    image_size: int


def digits(image_size, batch_size, seed):
    """Returns scikit-learn's 1797 digits of 8x8 pixels, a fifth of them held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype("float32")
    images = tf.image.resize(images, (image_size, image_size)).numpy()
    images = np.repeat(images, 3, axis=-1)
    x, x_held_out, y, y_held_out = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    train = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed)
    held_out = tf.data.Dataset.from_tensor_slices((x_held_out, y_held_out))
    return Data(
        "digits", train.batch(batch_size), held_out.batch(batch_size), 10, image_size
    )


def folder(path, image_size, batch_size, seed):
    """Returns the images in a folder of class folders, a fifth of them held out."""
    train, held_out = keras.utils.image_dataset_from_directory(
        path,
        validation_split=0.2,
        subset="both",
        seed=seed,
        image_size=(image_size, image_size),
        batch_size=batch_size,
        crop_to_aspect_ratio=True,
    )
    return Data(
        Path(path).name,
        train.prefetch(tf.data.AUTOTUNE),
        held_out.prefetch(tf.data.AUTOTUNE),
        len(train.class_names),
        image_size,
    )


def tfds_dataset(name, image_size, batch_size, seed):
    """Returns a dataset of TensorFlow Datasets with images and labels."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise SystemExit(
            '--dataset needs TensorFlow Datasets: pip install "keras-shift[train]"'
        ) from error

    splits, info = tfds.load(name, as_supervised=True, with_info=True)
    held_out = "test" if "test" in splits else "validation"
    if held_out not in splits:
        raise SystemExit(f"--dataset {name} has no split to hold out: {list(splits)}")

    def resize(image, label):
        if image.shape[-1] == 1:
            image = tf.image.grayscale_to_rgb(image)
        return tf.image.resize(image, (image_size, image_size)), label

    def prepare(split):
        return split.map(resize, tf.data.AUTOTUNE).batch(batch_size).prefetch(1)

    train = splits["train"].shuffle(10_000, seed=seed)
    return Data(
        name,
        prepare(train),
        prepare(splits[held_out]),
        info.features[info.supervised_keys[1]].num_classes,
        image_size,
    )


def load(arguments):
    """Returns the images that the command line names."""
    options = (
        arguments.image_size or (96 if arguments.data else 32),
        arguments.batch_size,
        arguments.seed,
    )
    if arguments.data:
        return folder(arguments.data, *options)
    if arguments.dataset:
        return tfds_dataset(arguments.dataset, *options)
    return digits(*options)


def start_of(constructor, alpha, weights):
    """Returns what a network starts from; `None` stands for random weights."""
    if weights == "random":
        return None
    if os.path.exists(weights):
        return weights if constructor == "FENet" else None
    records = list(map(keras_shift.zoo.get_record, keras_shift.zoo.list_weights()))
    if weights not in {"published", *(record.weights for record in records)}:
        raise SystemExit(
            "--weights must be published, random, a name that `keras-shift list "
            "--weights` shows, or the path of a .weights.h5 file. "
            f"Received: --weights {weights}"
        )
    own = [
        record
        for record in records
        if (record.constructor, record.arguments.get("alpha")) == (constructor, alpha)
    ]
    if weights != "published":
        # Where there are no such weights, others of the same dataset take their place.
        for name in (weights, weights.split(".")[0]):
            if name in {record.weights for record in own}:
                return name
        return None
    # All networks start from the dataset whose images are most like photographs.
    own = [record for record in own if record.dataset == "tiny_imagenet"]
    few = [record for record in own if (record.shift_sparsity or 0.0) >= 0.8] or own
    best = max(few, key=lambda record: record.top1, default=None)
    return best and best.weights


def build(constructor, alpha, data, output_stride, weights, seed):
    """Returns a network with those weights, or random ones where there are none."""
    keras.utils.set_random_seed(seed)
    name = constructor.__name__
    start = start_of(name, alpha, weights)
    model = constructor(
        (data.image_size, data.image_size, 3),
        alpha=alpha,
        weights=start,
        classes=data.classes,
        output_stride=output_stride,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
        name=f"{name}_{alpha}",
    )
    return model, start or f"random (seed {seed})"


def unshifted(model):
    """Returns the share of unshifted channels, or nothing without shift layers."""
    share = keras_shift.analysis.summary(model).unshifted
    return "" if share is None else share


def fit(model, data, epochs, learning_rate, callbacks=()):
    """Trains with momentum and a cosine schedule; returns the held-out accuracy."""
    steps = epochs * int(data.train.cardinality())
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps), momentum=0.9
        ),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks = [
        *callbacks,
        keras.callbacks.TerminateOnNaN(),
        keras_shift.callbacks.ShiftSparsityLogger(),
    ]
    model.fit(
        data.train,
        validation_data=data.held_out,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,  # `data.train` shuffles itself, and Keras would warn.
    )
    return model.evaluate(data.held_out, verbose=0, return_dict=True)["accuracy"]


def collect(dataset, count=None):
    """Returns the first `count` images and labels of a dataset, as arrays."""
    if count is not None:
        dataset = dataset.unbatch().take(count).batch(count)
    batches = list(dataset.as_numpy_iterator())
    return tuple(np.concatenate(part) for part in zip(*batches))


def export(model, data, output):
    """Writes float32 and int8 files; returns their reports."""
    images, _ = collect(data.train, CALIBRATION_IMAGES)
    return {
        kind: to_tflite(
            model,
            output / f"{model.name.lower()}_{kind}.tflite",
            quantize=None if kind == "float32" else kind,
            representative_data=images,
        )
        for kind in ("float32", "int8")
    }


def main(arguments):
    """Runs the whole way for all networks and prints the table."""
    data = load(arguments)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    held_out_images, held_out_labels = collect(data.held_out)
    console = rich.console.Console()

    networks = [(keras_shift.zoo.FENet, alpha) for alpha in arguments.alpha]
    networks.append((keras_shift.zoo.MobileNetV2, 1.0))
    rows, files = [], {}
    for constructor, alpha in networks:
        model, start = build(
            constructor,
            alpha,
            data,
            arguments.output_stride,
            arguments.weights,
            arguments.seed,
        )
        console.rule(f"{model.name} on {data.name}")
        accuracy = fit(model, data, arguments.epochs, arguments.learning_rate)
        with replacing(output / f"{model.name.lower()}.keras") as path:
            model.save(path)
        row = {
            "network": model.name,
            "start": start,
            "pixels": data.image_size,
            "total stride": arguments.output_stride,
            "epochs": arguments.epochs,
            "million MAdds": keras_shift.analysis.multiply_adds(model) / 1e6,
            "unshifted": unshifted(model),
            "Keras top-1": accuracy,
        }
        for kind, report in export(model, data, output).items():
            console.print(str(report), highlight=False, soft_wrap=True)
            lite = LiteRTModel(report.path)
            files[model.name, kind] = lite
            predictions = lite.predict(held_out_images).argmax(-1)
            row[f"{kind} top-1"] = float(np.mean(predictions == held_out_labels))
            row[f"{kind} kB"] = report.bytes / 1000
        rows.append(row)
    timings = time_alternately({name: lite.invoke for name, lite in files.items()})
    for row in rows:
        for kind in ("float32", "int8"):
            row[f"{kind} ms"] = timings[row["network"], kind].median * 1000
        row["machine"] = machine()
    stride = f"total stride {arguments.output_stride}"
    report_rows(rows, data, f"{arguments.epochs} epochs, {stride}", console)
    with replacing(output / "results.csv") as path:
        write_csv(rows, path)
    console.print(f"The files are in {output}/.")


def report_rows(rows, data, how, console):
    """Prints the table, networks side by side."""
    table = rich.table.Table(
        title=f"{data.name}, {data.image_size}x{data.image_size} pixels, {how}",
        caption="Top-1 on the held-out images. Milliseconds: one image, one thread, "
        "LiteRT, median of calls in turns.",
    )
    table.add_column()
    for row in rows:
        table.add_column(row["network"], justify="right", overflow="fold")
    for key in rows[0]:
        if key not in NOT_IN_TABLE:
            table.add_row(key, *(_text(key, row[key]) for row in rows))
    console.print(table)


def _text(key, value):
    if "top-1" in key or key == "unshifted":
        return value and f"{value:.1%}"
    if key == "start":
        # Names of weights may be longer than a column, and break best at the dot.
        return value.replace(".", ".\n")
    if key.endswith(" ms"):
        return f"{value:.2f}"
    return f"{value:,.1f}" if isinstance(value, float) else value


def write_csv(rows, path):
    """Writes the table's numbers."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_data_arguments(parser):
    """Adds the options that `load` reads."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help="folder of class folders")
    source.add_argument("--dataset", metavar="NAME", help="TFDS name, like cifar10")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--image-size", type=int, help="pixels; 96 with --data, 32 otherwise"
    )
    parser.add_argument("--seed", type=int, default=0)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--weights",
        default="published",
        help="the networks' start: published, of which those with the fewest shifts; "
        "their name; FE-Net's .weights.h5 file (with its --alpha); or random",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        nargs="+",
        default=[0.75, 1.0],
        help="FE-Net's widths; MobileNetV2's is 1.0",
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument(
        "--output-stride",
        type=int,
        default=16,
        choices=[32, 16, 8, 4],
        help="the networks' total stride; 16 suits the demo's small images, and costs "
        "four times the work of 32, which suits photographs",
    )
    parser.add_argument("--output", default="finetune_and_export_output")
    parsed = parser.parse_args(arguments)
    if os.path.exists(parsed.weights) and len(parsed.alpha) > 1:
        parser.error("--weights with a file needs --alpha with its width, and no other")
    return parsed


if __name__ == "__main__":
    try:
        main(parse())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The files written so far are complete.")
