"""A model as a .tflite file of builtin operations, checked before it is kept."""

import collections
import dataclasses
import functools
import os
import re
import warnings

import keras
import numpy as np

from keras_shift.deploy import flatbuffer
from keras_shift.deploy.flatbuffer import always_zero, operations, output_step
from keras_shift.deploy.images import collect, random_pixels
from keras_shift.deploy.lowering import lower_layers, lower_units
from keras_shift.deploy.metadata import annotate
from keras_shift.deploy.rewriting import is_its_graph
from keras_shift.deploy.verification import Verification, verify
from keras_shift.files import replacing

_QUANTIZE = (None, "float16", "dynamic", "int8")
_TYPES = ("float32", "uint8", "int8")

# Enough for a comparison, few enough for a large network.
_COMPARED_IMAGES = 32

# Of layers in what is printed.
_NAMED = 4

# Of what an output ranges over, and of all images: what a right file never has, not
# with int8 and not of random weights. An int8 file that is right may still flip single
# images' probabilities, but not most of them. Where all outputs are nearly the same,
# they may be closer than rounding can tell: than some steps of an int8 file, or than a
# share of the largest output.
_WRONG_DIFFERENCE = 0.5
_WRONG_TOP1 = 0.5
_STEPS = 2
_ROUNDING = 0.01

# Scales of an uint8 input, whose inverse is `std`, that LiteRT survives; those of any
# network are near one.
_LEAST_STD, _LARGEST_STD = 1e-6, 1e6

# More hardly change the ranges of activations; a whole training set takes hours.
_CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class TFLiteReport(Verification):
    """What `to_tflite` wrote, and how it compares with the Keras model.

    Attributes beside those of a `keras_shift.deploy.Verification`:
        quantize: How it was quantized.
        labels: Number of class names in the file.
        units: What became of every unit that was found, by the name of its first
            layer: `"split"` (only wide channels that move go through a depthwise
            convolution), `"depthwise"` (all of them do), `"pooling"` or
            `"no shift"`.
        left_alone: Names of the shift layers outside of units, which became
            depthwise convolutions; those of other classes than `keras_shift.layers`
            has run as they are.
    """

    quantize: str | None
    labels: int
    units: dict[str, str]
    left_alone: tuple[str, ...]

    def _rows(self):
        rows = super()._rows()
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
    model,
    path,
    quantize=None,
    representative_data=None,
    batch_size=1,
    *,
    input_type="float32",
    output_type="float32",
    input_name="image",
    output_name="predictions",
    labels=None,
    normalization=(0.0, 1.0),
):
    """Writes a model as a .tflite file, runs it, and compares it with Keras.

    The file holds builtin operations only, so that every LiteRT runtime can run
    it; shifts become depthwise convolutions, in units (see `find_units`) of only the
    channels that move. It tells Android's tools, such as MediaPipe's Image
    Classifier, how pixels become its input and what its outputs are called. Nothing
    is written at `path` before the interpreter has run the new file. If its answers
    are others than the model's, a `UserWarning` says so.

    Example:

    >>> model = keras_shift.zoo.FENet(input_shape=(96, 96, 3))
    >>> report = keras_shift.deploy.to_tflite(model, "fenet.tflite")
    >>> report.partitions
    1

    Args:
        model: A functional or sequential `keras.Model` with one input, of a
            known image size, and one output. TensorFlow must be Keras' backend.
        path: Path of the file, ending in `.tflite`.
        quantize: `None` for float32; `"float16"` for weights in half the size, with
            which processors that have half-precision arithmetic compute in it;
            `"dynamic"` for int8 weights with activations quantized at run time;
            `"int8"` for int8 weights and activations.
        representative_data: Images like those the model will see, in the range
            the model expects: an array, or an iterable (such as a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator) of images,
            of batches, or of tuples `(images, labels)`. Needed
            for `"int8"`, which learns the ranges of activations from the first
            512 of them at most; otherwise used for the comparison, and random
            pixels in their place.
        batch_size: Number of images the file takes at once. One is what a phone
            needs.
        input_type: Type of the file's input: `"float32"`, or with
            `quantize="int8"` also `"uint8"`, which takes pixels as a camera gives
            them, and `"int8"`.
        output_type: Type of the file's output, one of the same.
        input_name: Name of the input, in the signature `"serving_default"` and of
            the tensor.
        output_name: Name of the output.
        labels: A list with the name of every class, which is kept inside of the
            file, or `None`.
        normalization: Pair of numbers `(mean, std)`: the model's input is
            `(pixel - mean) / std` for pixel values in [0, 255]. Networks of the zoo
            take pixel values as they are. In front of an uint8 input, the mean is
            rounded to a pixel value. `std` is from 1e-6 to 1e6.

    Returns:
        A `TFLiteReport`; print it.

    Raises:
        ValueError: If an argument is none of the above, or a layer was quantized or
            has LoRA.
        RuntimeError: If the model cannot be converted: it needs operations that
            are not builtin, or one of its activations is always zero (int8).
    """
    _check(model, path, quantize, representative_data, batch_size)
    _check_interface(quantize, input_type, output_type, input_name, output_name)
    _check_normalization(normalization)
    labels = _checked_labels(labels, model)
    # Without a list around the one input, as in models of keras.applications.
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
    content = convert(lowered.model)
    if quantize == "int8" and lowered.units and always_zero(content):
        # Of the channels that move, none may ever be on, but then of all some are.
        lowered = lower_layers(model, quantize)
        content = convert(lowered.model)
    _, other = operations(content)
    if other:
        raise _NotBuiltin(other)
    if quantize == "int8" and (dead := always_zero(content)):
        raise RuntimeError(
            "For all of the representative images, nothing but zeros comes out of "
            f"{', '.join(dead)}, and LiteRT cannot run an int8 file with that. Are "
            "these real images, and larger than their shifts where they are smallest?"
        )
    content = _described(
        content, model.name, (input_name, output_name), normalization, labels
    )
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        verification = verify(temporary, model, images[:_COMPARED_IMAGES])
        _warn_if_wrong(verification.agreement, quantize, output_step(content), path)
    found = {**vars(verification), "path": os.fspath(path), "compared_on": compared_on}
    return TFLiteReport(
        **found,
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
    # Written so that what is not a number is too far away.
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
    if not is_its_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
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


def _check_interface(quantize, input_type, output_type, input_name, output_name):
    allowed = _TYPES if quantize == "int8" else _TYPES[:1]
    for argument, value in {
        "input_type": input_type,
        "output_type": output_type,
    }.items():
        if value not in allowed:
            raise ValueError(
                f"Argument `{argument}` must be one of {allowed} with "
                f'quantize={quantize!r}; quantize="int8" allows {_TYPES}. '
                f"Received: {argument}={value!r}"
            )
    for argument, value in {
        "input_name": input_name,
        "output_name": output_name,
    }.items():
        if not isinstance(value, str) or not value.isidentifier():
            raise ValueError(
                f"Argument `{argument}` must be a name of letters, digits and "
                f"underscores. Received: {argument}={value!r}"
            )


def _check_normalization(normalization):
    try:
        mean, std = map(float, normalization)
        right = 0 <= mean <= 255 and _LEAST_STD <= std <= _LARGEST_STD
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "Argument `normalization` must be a pair of numbers (mean, std), a pixel "
            f"value from 0 to 255 and a positive number from {_LEAST_STD:g} to "
            f"{_LARGEST_STD:g}. Received: normalization={normalization!r}"
        )


def _checked_labels(labels, model):
    if labels is None:
        return None
    classes = model.outputs[0].shape[-1]
    names = [] if isinstance(labels, (str, dict)) else list(labels)
    lines = all(isinstance(name, str) and len(name.splitlines()) == 1 for name in names)
    if not lines or len(names) != classes:
        raise ValueError(
            f"Argument `labels` must be a list of the names of {classes} classes, each "
            f"on one line. Received: {len(names)} names, labels={labels!r}"
        )
    return names


def _images(model, representative_data):
    shape = tuple(model.inputs[0].shape[1:])
    if representative_data is None:
        return random_pixels(shape), "random pixels"
    name = "representative_data"
    return collect(representative_data, shape, name, _CALIBRATION_IMAGES), name


def _convert(model, quantize, images, batch_size, types, names):
    import tensorflow as tf

    constants = [(variable, np.asarray(variable)) for variable in model.variables]
    shape = (batch_size, *model.inputs[0].shape[1:])
    input_name, output_name = names

    @tf.function(
        input_signature=[tf.TensorSpec(shape, "float32", input_name)], autograph=False
    )
    def serve(image):
        # Through model.export, weights would pass through a SavedModel's variables,
        # which takes most of the time, and only end as constants, too.
        with keras.StatelessScope([(v, tf.constant(value)) for v, value in constants]):
            return {output_name: model(image, training=False)}

    # Of anything else than the function, the converter makes a SavedModel, which
    # takes as long again.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], serve
    )
    _configure(converter, tf, quantize, images, batch_size)
    if quantize == "int8":
        converter.inference_input_type, converter.inference_output_type = (
            tf.as_dtype(type) for type in types
        )
    try:
        return converter.convert()
    except Exception as error:  # its class is not public
        refused = re.findall(r"'tf\.(\w+)' op is neither", str(error))
        if refused:
            raise _NotBuiltin(refused) from error
        raise RuntimeError(f"LiteRT's converter failed: {error}") from error


def _described(content, model_name, names, normalization, labels):
    """The file with names, metadata and labels in it."""
    model = flatbuffer.parse(content)
    (graph,) = model.subgraphs
    given, returned = graph.inputs[0], graph.outputs[0]
    for index, name in zip((given, returned), names):
        graph.tensors[index].name = name.encode()
    flatbuffer.sign(model, names)
    if graph.tensors[given].type == flatbuffer.type_number("UINT8"):
        _take_pixels(graph.tensors[given].quantization, normalization)
    return annotate(model, model_name, normalization, labels)


def _take_pixels(quantization, normalization):
    """Makes an input's steps those of pixel values, whatever was calibrated.

    Cameras' pixels go into an uint8 input as they are. It is read by one operation,
    QUANTIZE, which goes over to the calibrated range.
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
            # Of too few images for a batch, the converter would silently make a
            # float file.
            batches = -(-len(images) // batch_size)
            for batch in np.resize(images, (batches, batch_size, *images.shape[1:])):
                yield [batch]

        converter.representative_dataset = calibration
