"""What libraries write to standard error is not for the user."""

import contextlib
import functools
import os
import sys
import tempfile

_STANDARD_ERROR = 2


@contextlib.contextmanager
def quiet(verbose, passing=True):
    """Keeps from the user what libraries write to standard error.

    TensorFlow and LiteRT write to the file descriptor, some of it whatever
    TF_CPP_MIN_LOG_LEVEL says. If an exception is raised, it gets what they wrote as a
    note, which tracebacks show.

    Args:
        verbose: Whether to keep nothing.
        passing: Whether the user still sees what is written to `sys.stderr`: our
            warnings and progress. Not while libraries are imported, since their
            loggers stay with the `sys.stderr` that they find then.
    """
    if verbose or sys.stderr is None:
        yield
        return
    stream = sys.stderr
    stream.flush()
    if passing and _is_standard_error(stream):
        sys.stderr = _ours()
    user = os.dup(_STANDARD_ERROR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STANDARD_ERROR)
        try:
            yield
        except Exception as error:
            stream.flush()
            kept.seek(0)
            if text := kept.read().decode(errors="replace").strip():
                error.add_note(f"Libraries wrote before that:\n{text}")
            raise
        finally:
            sys.stderr.flush()
            sys.stderr = stream
            stream.flush()
            os.dup2(user, _STANDARD_ERROR)
            os.close(user)


def _is_standard_error(stream):
    try:
        return stream.fileno() == _STANDARD_ERROR
    except OSError:  # a stream in memory
        return False


@functools.cache
def _ours():
    """A stream to the user that is never closed: a logger may hold it for ever."""
    return open(os.dup(_STANDARD_ERROR), "w", buffering=1, errors="backslashreplace")
