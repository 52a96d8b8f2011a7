"""The command `keras-shift`: every sub-command is the function `run` of one file."""

import importlib
import os
import sys
import textwrap
import warnings

import keras_shift
from keras_shift.cli.parser import make_parser
from keras_shift.cli.quiet import quiet

# What is wrong with what the user gave. Anything else is a fault.
_BAD_USE = (FloatingPointError, ImportError, OSError, RuntimeError, ValueError)

_WITHOUT_KERAS = ("list",)

# Of an error's message; the numbers of a whole array are none.
_LONGEST = 2000


def main(arguments=None):
    """Runs `keras-shift`.

    Args:
        arguments: Strings, or `None` for those of the command line.

    Raises:
        SystemExit: With status 2 and a message, if the arguments are wrong; with
            status 1 and a message, if something else fails; with status 1 from
            `verify`, if file and model disagree, and from `evaluate`, if the figures
            are not those on record.
    """
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            if not parsed.verbose:
                # Those of other libraries; ours are for the user.
                warnings.filterwarnings("ignore", module="(?!keras_shift)")
            _run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        parser.exit(130, "\nkeras-shift: interrupted\n")
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Python would complain
        # when it flushes at its end.
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
            # keras_shift_command has left this to us, but `python -m keras_shift`
            # has not.
            if not hasattr(keras_shift, "__version__"):
                importlib.reload(keras_shift)
        command = importlib.import_module(f"keras_shift.cli.{parsed.command}")
    command.run(parsed)


def _last_words(error):
    """Status and message of a command that ends with an error."""
    message = textwrap.shorten(str(error), _LONGEST, placeholder=" ...")
    if isinstance(error, _BAD_USE):
        return 2, f"keras-shift: error: {message}\n"
    kind = type(error).__name__
    return 1, (
        f"keras-shift: error: {kind}{message and f': {message}'} (to report this, add "
        "what --traceback shows)\n"
    )
