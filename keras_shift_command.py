"""Starts the command `keras-shift`.

To import any module of keras_shift, Python runs keras_shift/__init__.py first. That
imports Keras, since `keras.models.load_model` must know our layers after
`import keras_shift`, and takes seconds. `keras-shift --help` and `keras-shift list`
need no Keras. So the package is put into `sys.modules` here without running its
`__init__.py`. `keras_shift.cli` runs that before a command that needs it.
"""

import importlib.util
import sys


def main() -> None:
    """Runs `keras-shift` with the arguments of the command line."""
    spec = importlib.util.find_spec("keras_shift")
    assert spec is not None, "it is installed with this module"
    sys.modules.setdefault("keras_shift", importlib.util.module_from_spec(spec))
    from keras_shift import cli

    cli.main()
