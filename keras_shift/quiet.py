"""Hides from the user what libraries write to standard error."""

import contextlib
import functools
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_STANDARD_ERROR = 2

# Held by whoever has decided what the user sees. There is one standard error for all
# threads, so who comes later leaves the decision as it is.
_DECIDED = threading.Lock()


@contextlib.contextmanager
def quiet(verbose: bool = False, passing: bool = True) -> Iterator[None]:
    """Hides from the user what libraries write to standard error.

    TensorFlow and LiteRT write to the file descriptor, and some of their messages do
    not depend on TF_CPP_MIN_LOG_LEVEL. If an exception is raised, it gets what they
    wrote as a note, which tracebacks show. Inside of another `quiet`, of any thread,
    nothing changes.

    Args:
        verbose: Whether to hide nothing. So it is in any case if the environment
            variable TF_CPP_MIN_LOG_LEVEL is 0, which asks for all messages. Defaults to
            `False`.
        passing: Whether the user still sees what is written to `sys.stderr`, such as
            our warnings and progress. Pass `False` while libraries are imported, since
            their loggers keep the `sys.stderr` that they find then. Defaults to `True`.
    """
    if not _DECIDED.acquire(blocking=False):
        yield
        return
    try:
        verbose = verbose or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
        if verbose or sys.stderr is None:
            yield
        else:
            with _hidden(passing):
                yield
    finally:
        _DECIDED.release()


@contextlib.contextmanager
def _hidden(passing):
    try:
        kept = tempfile.TemporaryFile()
    except OSError:  # There is no place for it, which others will tell of.
        yield
        return
    stream = sys.stderr
    stream.flush()
    if passing and _is_standard_error(stream):
        sys.stderr = _ours()
    user = os.dup(_STANDARD_ERROR)
    with kept:
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
