"""Trains networks by recipes."""

from keras_shift.recipe import Recipe
from keras_shift.training import distribution, verification
from keras_shift.training.center_loss import CenterLoss, embedding_classifier
from keras_shift.training.data import Data, TrainingBatches, load_data
from keras_shift.training.dataset import Dataset
from keras_shift.training.evaluation import Accuracy, evaluate
from keras_shift.training.feature_extractors import perceptual_features
from keras_shift.training.optimizer import ShiftSGD
from keras_shift.training.penalty import penalize_shifts
from keras_shift.training.sparsify import SparsifyShifts
from keras_shift.training.streaming import StreamedData
from keras_shift.training.style_transfer import StyleTransfer, gram_matrix
from keras_shift.training.trainer import train

__all__ = [
    "Accuracy",
    "CenterLoss",
    "Data",
    "Dataset",
    "Recipe",
    "ShiftSGD",
    "SparsifyShifts",
    "StreamedData",
    "StyleTransfer",
    "TrainingBatches",
    "distribution",
    "embedding_classifier",
    "evaluate",
    "gram_matrix",
    "load_data",
    "penalize_shifts",
    "perceptual_features",
    "train",
    "verification",
]
