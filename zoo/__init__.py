"""Provides networks that exchange information between pixels by shifts."""

from keras_shift.zoo import recipes
from keras_shift.zoo.fenet import FENet
from keras_shift.zoo.mobilenet_v2 import MobileNetV2
from keras_shift.zoo.models import get_model, list_models, model_counts
from keras_shift.zoo.predictions import decode_predictions, preprocess_input
from keras_shift.zoo.published_weights import get_record, list_weights
from keras_shift.zoo.resnet import ResNet20, ResNet50, ResNet56, ResNet110
from keras_shift.zoo.segmentation import SegmentationNet
from keras_shift.zoo.shiftfacenet import ShiftFaceNet
from keras_shift.zoo.shiftnet import ShiftNetA, ShiftNetB, ShiftNetC
from keras_shift.zoo.shiftresnet import (
    ShiftResNet20,
    ShiftResNet50,
    ShiftResNet56,
    ShiftResNet110,
)
from keras_shift.zoo.style_transfer import StyleTransferNet

__all__ = [
    "FENet",
    "MobileNetV2",
    "ResNet110",
    "ResNet20",
    "ResNet50",
    "ResNet56",
    "SegmentationNet",
    "ShiftFaceNet",
    "ShiftNetA",
    "ShiftNetB",
    "ShiftNetC",
    "ShiftResNet110",
    "ShiftResNet20",
    "ShiftResNet50",
    "ShiftResNet56",
    "StyleTransferNet",
    "decode_predictions",
    "get_model",
    "get_record",
    "list_models",
    "list_weights",
    "model_counts",
    "preprocess_input",
    "recipes",
]
