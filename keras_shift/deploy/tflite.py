"""Writes a model as a .tflite file of builtin operations, which is then checked."""

import collections
import dataclasses
import functools
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.deploy import flatbuffer
from keras_shift.deploy.export_arguments import (
    check_export,
    check_interface,
    check_labels,
    check_normalization,
)
from keras_shift.deploy.flatbuffer import TFLiteFile
from keras_shift.deploy.interpreter import LiteRTModel
from keras_shift.deploy.lowering import lower_layers, lower_units
from keras_shift.deploy.metadata import annotate
from keras_shift.deploy.verification import Verification, compare_with_model
from keras_shift.files import replacing
from keras_shift.image_batches import CALIBRATION_IMAGES, collect, random_pixels
from keras_shift.integers import positive_integer
from keras_shift.quiet import quiet

# This number of images is compared, which is small enough for a large network.
_COMPARED_IMAGES = 32

# A printed report names at most this many layers.
_NAMED = 4

# A file is wrong if its outputs differ from the model's by more than this share of the
# range of the model's outputs.
_WRONG_DIFFERENCE = 0.5

# A file with int8 weights may still be right if at least this share of the images have
# the same top-1: rounding may flip the probabilities of single images.
_WRONG_TOP1 = 0.5

# If all outputs are nearly the same, rounding can exceed their range. So a difference
# is always allowed up to this number of steps of an int8 output, and up to this share
# of the largest output.
_STEPS = 2
_ROUNDING = 0.01


@dataclasses.dataclass(frozen=True)
class TFLiteReport(Verification):
    """What `to_tflite` wrote, and how it compares with the Keras model.

    It also has all attributes of a `keras_shift.deploy.Verification`.

    Attributes:
        quantize: How the file was quantized, as in `keras_shift.deploy.to_tflite`.
        labels: Number of class names in the file.
        units: What became of every unit that was found, by the name of its first
            layer: `"split"` (only wide channels that move go through a depthwise
            convolution), `"depthwise"` (all of them do), `"pooling"` or
            `"no shift"`.
        left_alone: Names of the shift layers outside of units, which became depthwise
            convolutions. Subclasses of the layers in `keras_shift.layers` are converted
            as they are.
    """

    quantize: str | None
    labels: int
    units: dict[str, str]
    left_alone: tuple[str, ...]

    def rows(self) -> dict[str, str]:
        """Returns what is printed: texts by their names."""
        rows = super().rows()
        operations = rows.pop("operations")
        kinds = collections.Counter(self.units.values()).most_common()
        other = ", ".join(self.left_alone[:_NAMED])
        if len(self.left_alone) > _NAMED:
            other += f" and {len(self.left_alone) - _NAMED} more"
        rows["size"] += f" ({self.quantize or 'float32'})"
        if self.labels:
            rows["output"] += f", with {self.labels} labels"
        rows["units"] = ", ".join(f"{n} {kind}" for kind, n in kinds) or "none"
        rows["other shift layers"] = other or "none"
        return {**rows, "operations": operations}


def to_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantize: Literal["float16", "dynamic", "int8"] | None = None,
    representative_data: (
        ArrayLike | Iterable[Any] | keras.utils.PyDataset | None
    ) = None,
    batch_size: int = 1,
    *,
    input_type: Literal["float32", "uint8", "int8"] = "float32",
    output_type: Literal["float32", "uint8", "int8"] = "float32",
    input_name: str = "image",
    output_name: str = "predictions",
    labels: Sequence[str] | None = None,
    normalization: tuple[float, float] = (0.0, 1.0),
) -> TFLiteReport:
    """Writes a model as a .tflite file, runs it, and compares it with Keras.

    The file holds builtin operations only, so that every LiteRT runtime can run it.
    Shifts become depthwise convolutions. In units (see `find_units`), only the channels
    that move go through them. The file tells Android's tools, such as MediaPipe's Image
    Classifier, how pixels become its input and what its classes are called. Nothing is
    written at `path` before the interpreter has run the new file. If its outputs are
    not those of the model, a `UserWarning` says so. While the converter runs, what is
    written to the file descriptor of standard error is hidden, unless the environment
    variable TF_CPP_MIN_LOG_LEVEL is 0.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(96, 96, 3))
    >>> report = keras_shift.deploy.to_tflite(model, "fenet.tflite")
    >>> report.partitions
    1

    Args:
        model: A functional or sequential `keras.Model` with one input, of a
            known image size, and one output. TensorFlow must be Keras' backend.
        path: Path of the file, which ends in `.tflite`.
        quantize: `None` for float32; `"float16"` for weights of half the size (and
            half-precision arithmetic on processors that have it); `"dynamic"` for int8
            weights with activations quantized at run time; `"int8"` for int8 weights
            and activations. Defaults to `None`.
        representative_data: Images like those that the model will get, in the range
            that it expects: an array, or an iterable (such as a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or a generator) of images, of batches, or of tuples
            `(images, labels)`. The first 512 images at most are read. `"int8"` needs
            them, to learn the ranges of activations. The comparison uses them as well,
            and uses random pixels if this is `None`. Defaults to `None`.
        batch_size: Int, number of images that the file takes at once. A phone needs
            one. Defaults to 1.
        input_type: Type of the file's input: `"float32"`, or with `quantize="int8"`
            also `"uint8"`, which takes pixels as a camera gives them, and `"int8"`.
            Defaults to `"float32"`.
        output_type: Type of the file's output: `"float32"`, or with `quantize="int8"`
            also `"uint8"` and `"int8"`. Defaults to `"float32"`.
        input_name: Name of the input, in the signature `"serving_default"` and of
            the tensor. Defaults to `"image"`.
        output_name: Name of the output, likewise. Defaults to `"predictions"`.
        labels: A list with the name of every class, which is kept inside of the
            file, or `None` for no labels. Defaults to `None`.
        normalization: Pair of numbers `(mean, std)`: the model's input is
            `(pixel - mean) / std` for pixel values in [0, 255]. `std` is from 1e-6 to
            1e6. For an uint8 input, the mean is rounded to a pixel value. Networks of
            the zoo take pixel values as they are. Defaults to `(0.0, 1.0)`.

    Returns:
        A `TFLiteReport`, which prints as a table.

    Raises:
        ImportError: If LiteRT's interpreter is not installed.
        ValueError: If an argument is none of the above, a layer was quantized or
            has LoRA, or displacements of an `ActiveShift2D` are not numbers.
        RuntimeError: If the model cannot be converted: it needs operations that
            are not builtin, or one of its activations is always zero (int8).
    """
    check_export(model, path, quantize, representative_data)
    batch_size = positive_integer("batch_size", batch_size)
    check_interface(quantize, input_type, output_type, input_name, output_name)
    normalization = check_normalization(normalization)
    labels = check_labels(labels, model)
    # Models of keras.applications have a list around their one input. Without it, the
    # model can be called with a tensor.
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    images, compared_on = _images(model, representative_data)
    convert = functools.partial(
        _convert,
        quantize=quantize,
        images=images,
        batch_size=batch_size,
        types=(input_type, output_type),
        names=(input_name, output_name),
    )
    lowered = lower_units(model, quantize)
    file = convert(lowered.model)
    if quantize == "int8" and lowered.units and file.always_zero:
        # In a split unit, all channels that move may be always zero. Without the split,
        # they are in one tensor with others that are not.
        lowered = lower_layers(model, quantize)
        file = convert(lowered.model)
    if file.not_builtin:
        raise _NotBuiltin(file.not_builtin)
    if quantize == "int8" and (dead := file.always_zero):
        names, others = ", ".join(dead[:3]), len(dead) - 3
        names += f" and {others} more" if others > 0 else ""
        raise RuntimeError(
            "For all of the representative images, nothing but zeros comes out of "
            f"{names}, and LiteRT cannot run an int8 file with that. Are these real "
            "images, and larger than their shifts where they are smallest? (A network "
            "that was never trained may be like that: to time it, pass "
            "keras_shift.deploy.with_random_biases(model).)"
        )
    _describe(file.model, (input_name, output_name), normalization)
    content = annotate(file.model, model.name, normalization, labels)
    file = TFLiteFile(content, file.model)
    lite = LiteRTModel.from_file(file, path)
    verification = compare_with_model(
        lite, model, images[:_COMPARED_IMAGES], compared_on
    )
    _warn_if_wrong(verification.agreement, quantize, file.output_step, path)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return TFLiteReport(
        **vars(verification),
        quantize=quantize,
        labels=len(labels or ()),
        units=lowered.units,
        left_alone=lowered.left_alone,
    )


def _warn_if_wrong(same, quantize, step, path):
    """Warns of a file whose outputs have little to do with the model's."""
    allowed = max(
        _WRONG_DIFFERENCE * (same.highest - same.lowest),
        _ROUNDING * same.largest_output,
        _STEPS * step,
    )
    # A difference that is NaN is not less than anything, so a warning follows.
    if same.largest_difference <= allowed:
        return
    if quantize in ("int8", "dynamic") and same.top1 >= _WRONG_TOP1:
        return
    warnings.warn(
        f"The file does not compute what the model does: of {same.images} images, they "
        f"have the same top-1 for {same.top1:.1%}, and their outputs differ by up to "
        f"{same.largest_difference:.3g}, where those of the model range from "
        f"{same.lowest:.3g} to {same.highest:.3g}. Do the representative images and "
        f"`normalization` suit the model? Received: path={os.fspath(path)}",
        UserWarning,
        stacklevel=3,
    )


def _images(model, representative_data):
    shape = tuple(model.inputs[0].shape[1:])
    if representative_data is None:
        return random_pixels(shape), "random pixels"
    name = "representative_data"
    return collect(representative_data, shape, name, CALIBRATION_IMAGES), name


def _convert(model, quantize, images, batch_size, types, names):
    import tensorflow as tf

    constants = [(variable, np.asarray(variable)) for variable in model.variables]
    shape = (batch_size, *model.inputs[0].shape[1:])
    input_name, output_name = names

    @tf.function(
        input_signature=[tf.TensorSpec(shape, "float32", input_name)], autograph=False
    )
    def serve(image):
        # `model.export` would pass weights through the variables of a SavedModel. That
        # takes most of the time, and they end up as constants all the same.
        with keras.StatelessScope([(v, tf.constant(value)) for v, value in constants]):
            return {output_name: model(image, training=False)}

    # The converter makes a SavedModel of anything else than the function, which takes
    # as long again.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], serve
    )
    _configure(converter, tf, quantize, images, batch_size)
    if quantize == "int8":
        converter.inference_input_type, converter.inference_output_type = (
            tf.as_dtype(type) for type in types
        )
    try:
        with quiet(), warnings.catch_warnings():
            # The converter misses statistics that calibration makes needless.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            content = converter.convert()
    except Exception as error:  # The class of the error is not public.
        refused = re.findall(r"'tf\.(\w+)' op is neither", str(error))
        if refused:
            raise _NotBuiltin(refused) from error
        raise RuntimeError(f"LiteRT's converter failed: {error}") from error
    return TFLiteFile.parse(content)


def _describe(model, names, normalization):
    """Names the input and the output of a file's model, and has it take pixels."""
    (graph,) = model.subgraphs
    given, returned = graph.inputs[0], graph.outputs[0]
    for index, name in zip((given, returned), names):
        graph.tensors[index].name = name.encode()
    flatbuffer.sign(model, names)
    if graph.tensors[given].type == flatbuffer.type_number("UINT8"):
        _take_pixels(graph.tensors[given].quantization, normalization)


def _take_pixels(quantization, normalization):
    """Sets the quantization of an input to steps of pixel values.

    So an uint8 input takes a camera's pixels as they are. One operation reads it,
    QUANTIZE, which converts them to the calibrated range.
    """
    mean, std = normalization
    quantization.scale = np.array([1 / std], "float32")
    quantization.zeroPoint = np.array([round(mean)])


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
        # XNNPACK's documentation names this attribute. Without it, the file asks for
        # sums in float32, and XNNPACK then computes everything in float32.
        converter.target_spec._experimental_supported_accumulation_type = tf.float16
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]

        def calibration():
            # If there were too few images for a batch, the converter would silently
            # make a float file.
            batches = -(-len(images) // batch_size)
            for batch in np.resize(images, (batches, batch_size, *images.shape[1:])):
                yield [batch]

        converter.representative_dataset = calibration
