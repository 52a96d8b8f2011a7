"""Runs the sub-command `keras-shift export`."""

import argparse

from keras_shift import deploy
from keras_shift.cli import models
from keras_shift.cli.images import load_images
from keras_shift.cli.limits import check_memory
from keras_shift.cli.messages import say
from keras_shift.image_files import naming_unreadable
from keras_shift.quiet import quiet


def run(arguments: argparse.Namespace) -> None:
    """Writes a network as a .tflite file.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If the arguments do not fit together, or there is no such network,
            image or label.
    """
    if arguments.quantize == "int8" and arguments.data is None:
        raise ValueError(
            "--quantize int8 learns the ranges of activations from images: name "
            "a folder of some of the training images with --data."
        )
    labels = None if arguments.labels is None else _lines(arguments.labels)
    model = models.load_with_weights(arguments)
    check_memory(model, arguments.batch_size)
    images = paths = None
    if arguments.data is not None:
        dataset = load_images(arguments.data, model, shuffle=True)
        paths = dataset.file_paths
        images = dataset.map(lambda images, labels: images)
        if labels is None and len(dataset.class_names) == model.output_shape[-1]:
            labels = dataset.class_names
    if labels is None:
        labels = _labels_of_weights(arguments, model)
    say(f"Converting {model.name}, running the file and comparing it with Keras.")
    with quiet(arguments.verbose), naming_unreadable(paths):
        report = deploy.to_tflite(
            model,
            arguments.out,
            arguments.quantize,
            images,
            arguments.batch_size,
            input_type=arguments.input_type,
            output_type=arguments.output_type,
            labels=labels,
        )
    print(report)


def _lines(path):
    # Some editors write a byte order mark at the beginning of a file.
    with open(path, encoding="utf-8-sig") as file:
        return file.read().splitlines()


def _labels_of_weights(arguments, model):
    """Returns class names of published weights, or `None` if they do not fit."""
    record = models.record_of(arguments)
    if record is None or record.classes != model.output_shape[-1]:
        return None
    return record.labels()
