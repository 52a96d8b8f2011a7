"""Counts what a network costs; shows what its shifts learned and what it looks at."""

from keras_shift.analysis.activation_maximization import maximize_activation
from keras_shift.analysis.arithmetic_intensity import (
    ArithmeticIntensity,
    convolution_intensity,
    depthwise_convolution_intensity,
    shift_intensity,
)
from keras_shift.analysis.channels import (
    ChannelContribution,
    ChannelCorrelation,
    channel_contribution,
    channel_correlation,
)
from keras_shift.analysis.collapse import FeatureCollapse, feature_collapse
from keras_shift.analysis.displacement_distribution import (
    DisplacementDistribution,
    displacement_distribution,
)
from keras_shift.analysis.explanation import Explanation, explain, plot_explanations
from keras_shift.analysis.history import TrainingHistory, training_history
from keras_shift.analysis.multiply_adds import multiply_adds
from keras_shift.analysis.receptive_field import (
    ReceptiveField,
    effective_receptive_field,
)
from keras_shift.analysis.removal import least_important_shifts, remove_shifts
from keras_shift.analysis.shift_histogram import (
    ShiftHistogram,
    plot_shifts,
    shift_histogram,
)
from keras_shift.analysis.sparsity import plot_sparsity
from keras_shift.analysis.summary import LayerSummary, Summary, summary

__all__ = [
    "ArithmeticIntensity",
    "ChannelContribution",
    "ChannelCorrelation",
    "DisplacementDistribution",
    "Explanation",
    "FeatureCollapse",
    "LayerSummary",
    "ReceptiveField",
    "ShiftHistogram",
    "Summary",
    "TrainingHistory",
    "channel_contribution",
    "channel_correlation",
    "convolution_intensity",
    "depthwise_convolution_intensity",
    "displacement_distribution",
    "effective_receptive_field",
    "explain",
    "feature_collapse",
    "least_important_shifts",
    "maximize_activation",
    "multiply_adds",
    "plot_explanations",
    "plot_shifts",
    "plot_sparsity",
    "remove_shifts",
    "shift_histogram",
    "shift_intensity",
    "summary",
    "training_history",
]
