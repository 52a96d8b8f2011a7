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
# threads, so whoever comes later leaves the decision as it is.
_DECIDED = threading.Lock()


@contextlib.contextmanager
def quiet(verbose: bool = False, passing: bool = True) -> Iterator[None]:
    """Hides from the user what libraries write to standard error.

    TensorFlow and LiteRT write to the file descriptor, and some of their messages do
    not depend on TF_CPP_MIN_LOG_LEVEL. If an exception is raised, it gets what they
    wrote as a note, which tracebacks show. What other threads write meanwhile is
    hidden, too, if they write to a `sys.stderr` that they found before, as loggers do.
    Inside of another `quiet`, of any thread, nothing changes.

    Args:
        verbose: Whether to hide nothing. Nothing is hidden either if the environment
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
    with contextlib.ExitStack() as stack:
        stream = sys.stderr
        try:
            kept = stack.enter_context(tempfile.TemporaryFile())
            user = os.dup(_STANDARD_ERROR)
            stack.callback(os.close, user)
            ours = _ours() if passing and _is_standard_error(stream) else stream
        except OSError:
            ours = None
        if ours is None:
            # Without a descriptor or a place for the file, nothing is hidden.
            yield
            return
        _flush(stream)
        stack.callback(os.dup2, user, _STANDARD_ERROR)
        os.dup2(kept.fileno(), _STANDARD_ERROR)
        sys.stderr = ours
        try:
            yield
        except Exception as error:
            _flush(stream)
            kept.seek(0)
            if text := kept.read().decode(errors="replace").strip():
                error.add_note(f"Libraries wrote before that:\n{text}")
            raise
        finally:
            _flush(sys.stderr)
            sys.stderr = stream
            _flush(stream)


def _flush(stream):
    # Nobody may read it any more, or it may be closed.
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _is_standard_error(stream):
    try:
        return stream.fileno() == _STANDARD_ERROR
    except (AttributeError, OSError, ValueError):
        # It has no descriptor, such as a stream in memory, or is closed.
        return False


def _ours():
    """Returns a stream to where standard error leads now."""
    stream = _never_closed()
    os.dup2(_STANDARD_ERROR, stream.fileno(), inheritable=False)
    return stream


@functools.cache
def _never_closed():
    """Returns the one stream for all calls, since loggers may keep it."""
    descriptor = os.dup(_STANDARD_ERROR)
    return open(descriptor, "w", buffering=1, errors="backslashreplace")
