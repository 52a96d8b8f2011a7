"""`keras-shift summary`."""

from keras_shift import analysis
from keras_shift.cli import models


def run(arguments):
    """Shows what each layer of a network costs.

    Args:
        arguments: Those of the command line.
    """
    result = analysis.summary(models.load(arguments), arguments.input_shape)
    if arguments.csv:
        result.to_csv(arguments.csv)
    elif arguments.markdown:
        result.to_markdown(arguments.markdown)
    else:
        print(result)
