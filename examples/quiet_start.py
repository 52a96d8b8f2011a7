"""Imports Keras without what its backend logs. Examples import this module first.

TensorFlow writes to the process's standard error before it reads its own switch,
TF_CPP_MIN_LOG_LEVEL, which is set here for all that comes later. With
TF_CPP_MIN_LOG_LEVEL=0, everything is shown.
"""

import os

STANDARD_ERROR = 2

if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0":
    user = os.dup(STANDARD_ERROR)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), STANDARD_ERROR)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(user, STANDARD_ERROR)
        os.close(user)
