"""Runs the command `keras-shift`, for `python -m keras_shift`."""

from keras_shift.cli import main

main()
