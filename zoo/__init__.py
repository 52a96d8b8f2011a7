"""Networks that get their spatial information from shifts."""

from keras_shift.zoo.fenet import FENet

__all__ = ["FENet"]
