"""Loads the compiled TensorFlow op, if there is one that fits.

The op only makes the package faster. If something is missing for it (a compiler when
the package was installed, TensorFlow, a supported platform), `load` returns `None`,
and the package computes the same with `keras.ops`.
"""

import ctypes
import importlib.util
import os
import re
import runpy
import sys
import threading
import types
import warnings
from pathlib import Path

__all__ = ["load", "why_unavailable"]

_FOLDER = Path(__file__).resolve().parent
_LIBRARY = _FOLDER / "_shift_ops.so"
_DISABLE = "KERAS_SHIFT_DISABLE_NATIVE_OP"
_REBUILD = (
    "Reinstall keras_shift where a C++ compiler is at hand (in a source checkout: "
    f"`pip install -e .`), or set {_DISABLE}=1 to do without the op silently."
)

_lock = threading.Lock()
_done = False
_module: types.ModuleType | None = None
_reason: str | None = None


class _Unwanted(Exception):
    """Says why the op is not wanted here, which needs no warning."""


class _Broken(Exception):
    """Says why the op cannot be loaded, of which the user is warned once."""


def load() -> types.ModuleType | None:
    """Returns the module of the compiled ops, or `None` if they are unavailable.

    Only the first call tries to load them. If the compiled file is missing, stale or
    damaged, it issues a `RuntimeWarning`, which says what to do. Later calls return
    the same result.
    """
    global _done, _module, _reason
    with _lock:
        if _done:
            return _module
        try:
            _module = _load()
        except (_Unwanted, _Broken) as error:
            _reason = str(error)
            broken = isinstance(error, _Broken)
        else:
            broken = False
        _done = True
    if not broken:
        return _module
    # The lock is released before, since a filter may turn the warning into an error.
    warnings.warn(
        f"keras_shift runs without its compiled op, more slowly: {_reason}. {_REBUILD}",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def why_unavailable() -> str | None:
    """Returns the reason why `load` returns `None`, or `None` if there is none."""
    load()
    return _reason


def _load() -> types.ModuleType:
    if os.environ.get(_DISABLE, "0") not in ("", "0"):
        raise _Unwanted(f"the environment variable {_DISABLE} is set")
    if importlib.util.find_spec("tensorflow") is None:
        raise _Unwanted("TensorFlow is not installed")
    backend = _keras_backend()
    if backend != "tensorflow":
        raise _Unwanted(f"Keras runs on {backend}, and the op is TensorFlow's")
    if sys.platform == "win32":
        raise _Unwanted("it is not built on Windows")
    if not _LIBRARY.exists():
        raise _Broken(f"it was not compiled ({_LIBRARY} does not exist)")
    _check_stamp()
    try:
        import tensorflow as tf
    except Exception as error:  # A broken installation may raise anything.
        raise _Unwanted(f"TensorFlow cannot be imported ({error})") from error
    _expose_c_api(tf)
    try:
        # Nothing may load the file before this call: ops register themselves when it
        # is loaded, and a module made for a file that is loaded already is empty.
        module = tf.load_op_library(str(_LIBRARY))
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise _Broken(f"{_LIBRARY} cannot be loaded ({error})") from error
    for name in (
        "keras_shift_shift2d",
        "keras_shift_sparse_shift2d_grad",
        "keras_shift_fused_unit2d",
        "keras_shift_fused_chain2d",
    ):
        if not hasattr(module, name):
            raise _Broken(f"{_LIBRARY} does not register {name}")
    return module


def _keras_backend() -> str:
    import keras

    return keras.backend.backend()


def _check_stamp() -> None:
    """Refuses a compiled file if its sources differ from those beside it."""
    namespace = runpy.run_path(str(_FOLDER / "source_stamp.py"))
    expected = namespace["source_stamp"]()
    stamp = re.search(rb"keras_shift_stamp=(\w+)", _LIBRARY.read_bytes())
    actual = stamp[1].decode() if stamp else "none"
    # An installed file has no sources beside it, and one compiled by hand no stamp.
    if expected is not None and actual not in (expected, "unstamped"):
        raise _Broken(
            f"{_LIBRARY} is stale (compiled from sources with the stamp {actual}, "
            f"while those in {_FOLDER / 'cc'} have {expected})"
        )


def _expose_c_api(tf: types.ModuleType) -> None:
    """Makes TensorFlow's C API visible to the op.

    TensorFlow up to 2.19 loads the library that holds it with local symbols, which
    other libraries cannot see.
    """
    for library in Path(tf.sysconfig.get_lib()).glob("libtensorflow_framework*"):
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError:  # If that matters, load_op_library reports it.
            pass
