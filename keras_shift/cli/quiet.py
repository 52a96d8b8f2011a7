"""Hides from the user what libraries write to standard error."""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator

_STANDARD_ERROR = 2


@contextlib.contextmanager
def quiet(verbose: bool, passing: bool = True) -> Iterator[None]:
    """Hides from the user what libraries write to standard error.

    TensorFlow and LiteRT write to the file descriptor, and some of their messages do
    not depend on TF_CPP_MIN_LOG_LEVEL. If an exception is raised, it gets what they
    wrote as a note, which tracebacks show.

    Args:
        verbose: Whether to hide nothing.
        passing: Whether the user still sees what is written to `sys.stderr`, such as
            our warnings and progress. Pass `False` while libraries are imported, since
            their loggers keep the `sys.stderr` that they find then. Defaults to `True`.
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
    except OSError:  # It is a stream in memory.
        return False


@functools.cache
def _ours():
    """Returns a stream to the user. It is never closed, since loggers may keep it."""
    return open(os.dup(_STANDARD_ERROR), "w", buffering=1, errors="backslashreplace")
