"""Where the command `keras-shift` starts.

Whatever one imports of keras_shift, keras_shift/__init__.py runs first and imports
Keras, which takes seconds: it has to, since `keras.models.load_model` must know our
layers after `import keras_shift`. `keras-shift --help` and `keras-shift list` need no
Keras. So the package is put in its place here without having run; `keras_shift.cli`
has it run before a command that needs it.
"""

import importlib.util
import sys


def main():
    """Runs `keras-shift` with the arguments of the command line."""
    spec = importlib.util.find_spec("keras_shift")
    assert spec is not None, "it is installed with this module"
    sys.modules.setdefault("keras_shift", importlib.util.module_from_spec(spec))
    from keras_shift import cli

    cli.main()
