"""Decides which channels of a unit are computed apart from others in a .tflite file."""

import math

import numpy as np

from keras_shift.deploy.shift_kernels import shift_convolutions
from keras_shift.deploy.units import Unit

# XNNPACK's depthwise kernels compute so many channels at a time, and its matrix kernels
# so many output channels.
_DEPTHWISE_TILE = 16
_FLOAT_TILE = 32
_INT8_TILE = 16

# A wide tensor of more bytes comes from outside a core's caches, so that each further
# channel that is convolved costs more than a further tile of a matrix ("split" and
# "wider" of 64 channels with 112x112 pixels, and of 96 with 56x56, in
# benchmarks/results/lowering_forms.csv). Phones' cores have smaller caches.
_CACHE = 2**21

# From this share of unshifted channels on, a unit is split, which adds two convolutions
# and an addition. Grouped shifts leave one channel in nine unshifted and gain nothing
# from it; with six in ten, files are faster (benchmarks/results/tflite_lowering.csv).
_LEAST_APART = 0.25

# Weights of fewer numbers stay float32 in a dynamically quantized file. XNNPACK cannot
# run that file's depthwise convolutions with int8 weights, and LiteRT's own kernels for
# them are slow.
_DYNAMIC_NUMBERS = 1024


def apart(unit: Unit, quantize: str | None) -> int:
    """Returns how many of the unshifted channels are computed apart from the others.

    The other unshifted channels fill the last tile of the depthwise kernel, if that
    leaves enough. Float32 tensors that stay in the cache fill further tiles of it where
    the matrices would otherwise have more of theirs.

    Args:
        unit: The unit.
        quantize: As in `to_tflite`.
    """
    channels = len(unit.unshifted)
    shifted = channels - int(np.count_nonzero(unit.unshifted))
    if unit.displacements is None:
        return channels
    most = math.floor((1 - _LEAST_APART) * channels)
    if shifted > most:
        return 0
    least = math.ceil(shifted / _DEPTHWISE_TILE) * _DEPTHWISE_TILE
    filled = range(least, most + 1, _DEPTHWISE_TILE)
    # A side that is not known counts as one pixel.
    numbers = math.prod(side or 1 for side in unit.map_size) * channels
    is_float = quantize in (None, "float16")
    tile = _FLOAT_TILE if is_float else _INT8_TILE

    def tiles(together):
        return math.ceil(together / tile) + math.ceil((channels - together) / tile)

    key = tiles if is_float and 4 * numbers <= _CACHE else None
    # Less than a tile is not worth convolutions of its own.
    unfilled = shifted if channels - shifted >= tile else channels
    return channels - min(filled, key=key, default=unfilled)


def parts(unit: Unit, quantize: str | None) -> list[Unit]:
    """Divides the wide channels of a unit into those that are computed together.

    Args:
        unit: The unit.
        quantize: As in `to_tflite`.

    Returns:
        A list of units. The sum of what they project is what the unit projects, but
        each of them has the whole `project_bias`, which must be added once.
    """
    unit = unit.by_displacement()
    channels = np.arange(len(unit.expand_bias))
    first = apart(unit, quantize)
    groups = [channels[:first]] if first else []
    groups += _together(unit.take(channels[first:]), channels[first:], quantize)
    return [unit.take(group) for group in groups]


def _together(unit, channels, quantize):
    """Divides the other channels into groups, each with convolutions of its own."""
    if quantize != "dynamic" or unit.displacements is None:
        return [channels] if len(channels) else []
    convolutions = shift_convolutions(unit.displacements, quantize, unit.strides)
    taps = max(math.prod(part.kernel.shape[:2]) for part in convolutions)
    most = max(1, (_DYNAMIC_NUMBERS - 1) // taps)
    most = max(min(most, _INT8_TILE), most // _INT8_TILE * _INT8_TILE)
    return [channels[i : i + most] for i in range(0, len(channels), most)]
