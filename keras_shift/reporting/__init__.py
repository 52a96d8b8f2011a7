"""Writes what is known of a network into one page, to be read in a browser."""

from keras_shift.reporting.page import write_report

__all__ = ["write_report"]
