"""The sub-command `keras-shift summary`."""

import argparse

from keras_shift import analysis
from keras_shift.cli import models


def run(arguments: argparse.Namespace) -> None:
    """Shows what each layer of a network costs.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If there is no such network, or it does not take the arguments.
    """
    result = analysis.summary(models.load(arguments), arguments.input_shape)
    if arguments.csv:
        result.to_csv(arguments.csv)
    elif arguments.markdown:
        result.to_markdown(arguments.markdown)
    else:
        print(result)
