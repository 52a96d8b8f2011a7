"""`keras-shift benchmark`."""

from keras_shift import deploy
from keras_shift.cli.limits import check_threads
from keras_shift.cli.quiet import quiet


def run(arguments):
    """Times .tflite files.

    Args:
        arguments: Those of the command line.
    """
    check_threads(arguments.threads)
    with quiet(arguments.verbose):
        result = deploy.benchmark(
            *arguments.files, threads=arguments.threads, repeats=arguments.repeats
        )
    print(result)
