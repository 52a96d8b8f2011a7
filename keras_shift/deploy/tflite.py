"""A model as a .tflite file of builtin operations, checked before it is kept."""

import collections
import dataclasses
import os
import re

import keras
import numpy as np

from keras_shift.deploy.agreement import Agreement, compare
from keras_shift.deploy.interpreter import LiteRTModel, always_zero, operations
from keras_shift.deploy.lowering import lower_layers, lower_units

_QUANTIZE = (None, "float16", "dynamic", "int8")

# Enough for a comparison, few enough for a large network.
_COMPARED_IMAGES = 32

# Of layers in what is printed.
_NAMED = 4

# More hardly change the ranges of activations; a whole training set takes hours.
_CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class TFLiteReport:
    """What `to_tflite` wrote, and how it compares with the Keras model.

    Attributes:
        path: Where the file is.
        quantize: How it was quantized.
        input_shape: Shape of its input, the batch included.
        bytes: Its size.
        operations: Number of operations by name, most frequent first.
        partitions: Into how many parts XNNPACK cut it, see
            `keras_shift.deploy.LiteRTModel.partitions`.
        agreement: Agreement with the Keras model.
        compared_on: `"representative_data"` or `"random pixels"`.
        units: What became of every unit that was found, by the name of its first
            layer: `"split"` (only wide channels that move go through a depthwise
            convolution), `"depthwise"` (all of them do), `"pooling"` or
            `"no shift"`.
        left_alone: Names of the shift layers outside of units, which became
            depthwise convolutions.
    """

    path: str
    quantize: str | None
    input_shape: tuple[int, ...]
    bytes: int
    operations: dict[str, int]
    partitions: int | None
    agreement: Agreement
    compared_on: str
    units: dict[str, str]
    left_alone: tuple[str, ...]

    def __str__(self):
        same = self.agreement
        ops = ", ".join(f"{count} {name}" for name, count in self.operations.items())
        partitions = "not known" if self.partitions is None else self.partitions
        kinds = collections.Counter(self.units.values()).most_common()
        units = ", ".join(f"{count} {kind}" for kind, count in kinds) or "none"
        other = ", ".join(self.left_alone[:_NAMED])
        if len(self.left_alone) > _NAMED:
            other += f" and {len(self.left_alone) - _NAMED} more"
        return "\n".join(
            [
                f"{self.path}",
                f"  size                 {self.bytes / 1e6:.2f} MB "
                f"({self.quantize or 'float32'})",
                f"  input                {self.input_shape}",
                f"  same top-1 as Keras  {same.top1:.1%} of {same.images} images "
                f"({self.compared_on})",
                f"  largest difference   {same.largest_difference:.2g} "
                f"({same.relative_difference:.2g} of the largest output)",
                f"  XNNPACK partitions   {partitions}",
                f"  units                {units}",
                f"  other shift layers   {other or 'none'}",
                f"  operations           {ops}",
            ]
        )


def to_tflite(model, path, quantize=None, representative_data=None, batch_size=1):
    """Writes a model as a .tflite file, runs it, and compares it with Keras.

    The file holds builtin operations only, so that every LiteRT runtime can run
    it; shifts become depthwise convolutions, in units (see `find_units`) of only the
    channels that move. Nothing is written at `path` before
    the interpreter has run the new file.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(96, 96, 3))
    >>> report = keras_shift.deploy.to_tflite(model, "fenet.tflite")
    >>> report.partitions
    1

    Args:
        model: A functional or sequential `keras.Model` with one input, of a
            known image size, and one output. TensorFlow must be Keras' backend.
        path: Path of the file, ending in `.tflite`.
        quantize: `None` for float32; `"float16"` for weights in half the size;
            `"dynamic"` for int8 weights with activations quantized at run time;
            `"int8"` for int8 weights and activations. Inputs and outputs are
            float32 in all of them.
        representative_data: Images like those the model will see, in the range
            the model expects: an array, or an iterable (such as a
            `tf.data.Dataset`) of batches or of `(images, labels)` pairs. Needed
            for `"int8"`, which learns the ranges of activations from the first
            512 of them at most; otherwise used for the comparison, and random
            pixels in their place.
        batch_size: Number of images the file takes at once. One is what a phone
            needs.

    Returns:
        A `TFLiteReport`; print it.

    Raises:
        ValueError: If an argument is none of the above.
        RuntimeError: If the model cannot be converted: it needs operations that
            are not builtin, or one of its activations is always zero (int8).
    """
    _check(model, path, quantize, representative_data, batch_size)
    # Without a list around the one input, as in models of keras.applications.
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    images, compared_on = _images(model, representative_data)
    lowered = lower_units(model, quantize)
    content = _convert(lowered.model, quantize, images, batch_size)
    if quantize == "int8" and lowered.units and always_zero(content):
        # Of the channels that move, none may ever be on, but then of all some are.
        lowered = lower_layers(model, quantize)
        content = _convert(lowered.model, quantize, images, batch_size)
    builtin, other = operations(content)
    if other:
        raise _NotBuiltin(other)
    if quantize == "int8" and (dead := always_zero(content)):
        raise RuntimeError(
            "For all of the representative images, nothing but zeros comes out of "
            f"{', '.join(dead)}, and LiteRT cannot run an int8 file with that. Are "
            "these real images, and larger than their shifts where they are smallest?"
        )
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}.unfinished"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        lite = LiteRTModel(temporary)
        some = images[:_COMPARED_IMAGES]
        agreement = compare(lite.predict(some), _predict(model, some))
        partitions = lite.partitions()
        input_shape = lite.input_shape
        del lite  # releases its hold on the file
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return TFLiteReport(
        path=path,
        quantize=quantize,
        input_shape=input_shape,
        bytes=len(content),
        operations=dict(builtin.most_common()),
        partitions=partitions,
        agreement=agreement,
        compared_on=compared_on,
        units=lowered.units,
        left_alone=lowered.left_alone,
    )


def _check(model, path, quantize, representative_data, batch_size):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "LiteRT's converter reads TensorFlow's graphs. Save the model as .keras "
            "and load it in a process with KERAS_BACKEND=tensorflow. "
            f"Received: backend {keras.backend.backend()}"
        )
    if quantize not in _QUANTIZE:
        raise ValueError(
            f"Argument `quantize` must be one of {_QUANTIZE}. "
            f"Received: quantize={quantize}"
        )
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            'quantize="int8" learns the ranges of activations from images. '
            "Received: representative_data=None. Pass some of the training images."
        )
    if batch_size != int(batch_size) or batch_size < 1:
        raise ValueError(
            "Argument `batch_size` must be a positive integer. "
            f"Received: batch_size={batch_size}"
        )
    if not os.fspath(path).endswith(".tflite"):
        raise ValueError(
            f"Argument `path` must end in .tflite. Received: path={os.fspath(path)}"
        )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(
            "Argument `path` must lie in a folder that exists. "
            f"Received: path={os.fspath(path)}"
        )
    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "Argument `model` must be a functional or sequential model with one "
            f"input and one output. Received: model={model}"
        )
    if None in model.inputs[0].shape[1:]:
        raise ValueError(
            "A .tflite file has a fixed image size, so the model must be built with "
            "one, such as `input_shape=(224, 224, 3)`. "
            f"Received: a model for images of shape {model.inputs[0].shape[1:]}"
        )


def _images(model, representative_data):
    shape = tuple(model.inputs[0].shape[1:])
    if representative_data is None:
        random = np.random.default_rng(0)
        pixels = random.uniform(0, 255, (8, *shape)).astype("float32")
        return pixels, "random pixels"
    if isinstance(representative_data, np.ndarray):
        representative_data = [representative_data]
    batches, count = [], 0
    for batch in representative_data:
        if isinstance(batch, (tuple, list)):
            batch = batch[0]
        batch = np.asarray(batch)
        if batch.shape == shape:
            batch = batch[None]
        if batch.shape[1:] != shape:
            raise ValueError(
                f"Argument `representative_data` must hold images of shape {shape}. "
                f"Received: a batch of shape {batch.shape}"
            )
        batches.append(batch[: _CALIBRATION_IMAGES - count].astype("float32"))
        count += len(batches[-1])
        if count >= _CALIBRATION_IMAGES:
            break
    if not count:
        raise ValueError(
            "Argument `representative_data` must hold one image at least. "
            "Received: none"
        )
    return np.concatenate(batches), "representative_data"


def _convert(model, quantize, images, batch_size):
    import tensorflow as tf

    constants = [(variable, np.asarray(variable)) for variable in model.variables]
    shape = (batch_size, *model.inputs[0].shape[1:])

    @tf.function(
        input_signature=[tf.TensorSpec(shape, "float32", "image")], autograph=False
    )
    def serve(image):
        # Through model.export, weights would pass through a SavedModel's variables,
        # which takes most of the time, and only end as constants, too.
        with keras.StatelessScope([(v, tf.constant(value)) for v, value in constants]):
            return model(image, training=False)

    # The module, which holds nothing, makes the converter keep the signature's names.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], tf.Module()
    )
    _configure(converter, tf, quantize, images, batch_size)
    try:
        return converter.convert()
    except Exception as error:  # its class is not public
        refused = re.findall(r"'tf\.(\w+)' op is neither", str(error))
        if refused:
            raise _NotBuiltin(refused) from error
        raise RuntimeError(f"LiteRT's converter failed: {error}") from error


class _NotBuiltin(RuntimeError):
    def __init__(self, names):
        super().__init__(
            "The model needs operations that a plain LiteRT runtime does not have: "
            f"{', '.join(sorted(set(names)))}. Replace the layers they come from."
        )


def _configure(converter, tf, quantize, images, batch_size):
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]

        def calibration():
            # Of too few images for a batch, the converter would silently make a
            # float file.
            batches = -(-len(images) // batch_size)
            for batch in np.resize(images, (batches, batch_size, *images.shape[1:])):
                yield [batch]

        converter.representative_dataset = calibration


def _predict(model, images):
    outputs = [
        np.asarray(model(images[start : start + 32], training=False), "float32")
        for start in range(0, len(images), 32)
    ]
    return np.concatenate(outputs)
