"""Runs the command `keras-shift`: each sub-command is the function `run` of a file."""

import importlib
import os
import sys
import textwrap
import warnings
from collections.abc import Sequence

import keras_shift
from keras_shift.cli.parser import make_parser
from keras_shift.quiet import quiet

# Errors of these classes are the user's. All others are faults of the program.
_BAD_USE = (FloatingPointError, ImportError, OSError, RuntimeError, ValueError)

_WITHOUT_KERAS = ("list",)

# At most so many characters of an error's message are printed. Longer messages may hold
# the numbers of a whole array.
_LONGEST = 2000


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `keras-shift`.

    Args:
        arguments: List of strings, or `None` for the arguments of the command line.
            Defaults to `None`.

    Raises:
        SystemExit: With status 2 and a message, if the arguments are wrong; with
            status 1 and a message, if something else fails; with status 1 from
            `verify`, if file and model disagree, and from `evaluate`, if the figures
            are not those on record; with status 130, if the user interrupts it; with
            status 1, if nobody reads its output any more.
    """
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            if not parsed.verbose:
                # Only our own warnings are for the user.
                warnings.filterwarnings("ignore", module="(?!keras_shift)")
            _run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        parser.exit(130, "\nkeras-shift: interrupted\n")
    except BrokenPipeError:
        # The program that read the output, such as `head`, has ended. Without this,
        # Python would complain when it flushes the output at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit(1)
    except Exception as error:
        if parsed.traceback:
            raise
        parser.exit(*_last_words(error))


def _run(parsed):
    with quiet(parsed.verbose, passing=False):
        if parsed.command not in _WITHOUT_KERAS:
            if not parsed.verbose:
                os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            # keras_shift_command has not run the package's `__init__.py`, unlike
            # `python -m keras_shift`.
            if not hasattr(keras_shift, "__version__"):
                importlib.reload(keras_shift)
        command = importlib.import_module(f"keras_shift.cli.{parsed.command}")
    command.run(parsed)


def _last_words(error):
    """Returns the status and the message of a command that ends with an error."""
    message = textwrap.shorten(str(error), _LONGEST, placeholder=" ...")
    if isinstance(error, _BAD_USE):
        return 2, f"keras-shift: error: {message}\n"
    kind = type(error).__name__
    return 1, (
        f"keras-shift: error: {kind}{message and f': {message}'} (to report this, add "
        "what --traceback shows)\n"
    )
