"""What a network costs and what its shifts have learned."""

from keras_shift.analysis.multiply_adds import multiply_adds

__all__ = ["multiply_adds"]
