"""Keras layers of shift networks."""

from keras_shift.layers.active_shift2d import ActiveShift2D
from keras_shift.layers.fused_batch_normalization import FusedBatchNormalization
from keras_shift.layers.fused_chain2d import FusedChain2D
from keras_shift.layers.fused_unit2d import FusedUnit2D
from keras_shift.layers.grouped_shift2d import GroupedShift2D
from keras_shift.layers.shift_layer import LearnedShift, ShiftLayer
from keras_shift.layers.slice_channels import SliceChannels
from keras_shift.layers.sparse_shift2d import SparseShift2D
from keras_shift.layers.squeeze_excite2d import SqueezeExcite2D

__all__ = [
    "ActiveShift2D",
    "FusedBatchNormalization",
    "FusedChain2D",
    "FusedUnit2D",
    "GroupedShift2D",
    "LearnedShift",
    "ShiftLayer",
    "SliceChannels",
    "SparseShift2D",
    "SqueezeExcite2D",
]
