"""Runs the sub-command `keras-shift verify`."""

import argparse

import rich.console
import rich.progress

from keras_shift import deploy
from keras_shift.cli import models
from keras_shift.cli.images import load_images
from keras_shift.cli.messages import disagree, say
from keras_shift.image_files import naming_unreadable
from keras_shift.quiet import quiet


def run(arguments: argparse.Namespace) -> None:
    """Compares a .tflite file with its network.

    Args:
        arguments: Arguments of the command line.

    Raises:
        SystemExit: With status 1, if they disagree more than the arguments allow.
        OSError: If there is no such file.
        ValueError: If the file is damaged, or file, network and images do not fit
            together.
    """
    model = models.load_with_weights(arguments)
    data = paths = None
    if arguments.data is not None:
        dataset = load_images(arguments.data, model, shuffle=False)
        data, paths = _batches(dataset, model, arguments.data), dataset.file_paths
    with quiet(arguments.verbose), naming_unreadable(paths):
        result = deploy.verify(arguments.file, model, data)
    print(result)
    if result.accuracy is not None:
        say(
            f"The accuracies are those on {arguments.data}: they say what to expect of "
            "new images only if the network was trained on none of these."
        )
    _judge(result.agreement, arguments)


def _batches(dataset, model, folder):
    """Returns batches of images, with labels if there are as many classes."""
    classes = len(dataset.class_names)
    if classes == model.output_shape[-1]:
        return _progress(dataset)
    say(
        f"{folder} has {classes} folders and the network {model.output_shape[-1]} "
        "classes, so there is no accuracy."
    )
    return (images for images, labels in _progress(dataset))


def _progress(dataset):
    console = rich.console.Console(stderr=True)
    return rich.progress.track(
        dataset,
        "Comparing",
        total=len(dataset),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _judge(same, arguments):
    # Values that are NaN do not pass either of these comparisons.
    if not same.top1 >= arguments.min_agreement:
        disagree(
            f"They agree on {same.top1:.1%} of the images, which is less than "
            f"--min-agreement {arguments.min_agreement:g}."
        )
    most = arguments.max_difference
    if most is not None and not same.relative_difference <= most:
        disagree(
            f"The largest difference is {same.relative_difference:.2g} of the "
            f"largest output, which is more than --max-difference {most:g}."
        )
