"""The command `keras-shift`, without the seconds that importing Keras takes.

Importing keras_shift.cli imports keras_shift first, and with it Keras; running the file
does not. So `keras-shift --help` and mistyped commands are answered at once.
"""

import importlib.util
import os
import runpy


def main():
    """Runs keras_shift/cli.py as a script."""
    package = importlib.util.find_spec("keras_shift").submodule_search_locations[0]
    runpy.run_path(os.path.join(package, "cli.py"), run_name="__main__")
