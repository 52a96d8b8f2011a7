"""Turns a trained model into a file for phones, and into a fast model for CPUs."""

from keras_shift.deploy.agreement import Agreement
from keras_shift.deploy.costs import ShiftCost, ShiftCosts, shift_costs
from keras_shift.deploy.fusing import fuse
from keras_shift.deploy.interpreter import LiteRTModel
from keras_shift.deploy.porting import portable
from keras_shift.deploy.tflite import TFLiteReport, to_tflite
from keras_shift.deploy.timing import Benchmark, Timing, benchmark, with_random_biases
from keras_shift.deploy.units import Unit, Units, find_units
from keras_shift.deploy.verification import Verification, verify

__all__ = [
    "Agreement",
    "Benchmark",
    "LiteRTModel",
    "ShiftCost",
    "ShiftCosts",
    "TFLiteReport",
    "Timing",
    "Unit",
    "Units",
    "Verification",
    "benchmark",
    "find_units",
    "fuse",
    "portable",
    "shift_costs",
    "to_tflite",
    "verify",
    "with_random_biases",
]
