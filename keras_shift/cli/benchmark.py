"""Runs the sub-command `keras-shift benchmark`."""

import argparse

from keras_shift import deploy
from keras_shift.quiet import quiet


def run(arguments: argparse.Namespace) -> None:
    """Times .tflite files.

    Args:
        arguments: Arguments of the command line.

    Raises:
        OSError: If there is no such file.
        ValueError: If a file is damaged or named twice, or a number is out of range.
    """
    with quiet(arguments.verbose):
        result = deploy.benchmark(
            *arguments.files, num_threads=arguments.threads, repeats=arguments.repeats
        )
    print(result)
