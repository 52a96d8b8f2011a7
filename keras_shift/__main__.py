"""`python -m keras_shift` is `keras-shift`."""

from keras_shift.cli import main

main()
