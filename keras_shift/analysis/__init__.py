"""What a network costs."""

from keras_shift.analysis.multiply_adds import multiply_adds

__all__ = ["multiply_adds"]
