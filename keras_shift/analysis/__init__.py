"""Counts what a network costs."""

from keras_shift.analysis.multiply_adds import multiply_adds
from keras_shift.analysis.summary import LayerSummary, Summary, summary

__all__ = ["LayerSummary", "Summary", "multiply_adds", "summary"]
