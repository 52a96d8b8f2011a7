"""Documents and checks the arguments that the constructors of networks share."""

import inspect
import math
import numbers
import operator
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_shift import initializers
from keras_shift.zoo import variants

_SHARED = {
    "input_shape": """
        input_shape: Tuple, the shape of one image without the batch, such as
            `(96, 96, 3)`. Height and width may be `None`, and any number of
            channels is allowed. Channels come first if Keras'
            `image_data_format()` says so. Defaults to `None`: the images of
            published weights, otherwise `{size}`, or `(None, None, 3)` without
            the top.
        """,
    "top": """
        include_top: Whether to include the classifier. Defaults to `True`.
        weights: `None` for random weights, the name of published weights, such
            as `"tiny_imagenet"` (`keras_shift.zoo.list_weights` lists them), or
            the path of a `.weights.h5` file of the same network. Published
            weights set the arguments that they were trained with. Without the
            top, or with other `classes`, all layers but the classifier get
            published weights. Their terms, and those of the images that they
            were trained on, are `keras_shift.zoo.get_record(name).licence`.
            Defaults to `None`.
        input_tensor: Keras tensor to use as the images (the output of
            `keras.Input()` or of layers), or `None`. Defaults to `None`.
        pooling: What follows the last map if `include_top` is `False`: `None`
            for nothing (the output is a 4D tensor), `"avg"` or `"max"` for
            global pooling (the output is a 2D tensor). Defaults to `None`.
        classes: Int, number of classes if `include_top` is `True`. Defaults to
            `None`: the classes of published weights, otherwise {classes}.
        classifier_activation: Activation of the classifier, or `None` for
            logits. Defaults to `"softmax"`.
        name: Name of the model, or `None` for the network's own name. Defaults
            to `None`.
        include_preprocessing: Whether to scale pixel values from [0, 255] to
            [-1, 1] in the model's first layer. Defaults to `True`.
        """,
    "displacements": """
        displacement_initializer: Initializer of learned displacements.
            `"grouped"` is the pattern of the grouped shift. Defaults to
            `"grouped"`.
        displacement_regularizer: Regularizer of learned displacements
            (Eq. 4 of the SSL paper), such as `keras.regularizers.L2(1e-4)`, or
            `None`. Defaults to `None`.
        max_displacement: Int, the largest learned displacement in pixels, or
            `None` for no bound. Defaults to `2`.
        """,
    "kernels": """
        kernel_initializer: Initializer of all kernels but the classifier's.
            Defaults to `"he_normal"`.
        kernel_regularizer: Regularizer of all kernels, or `None`. Defaults to
            `None`.
        batch_norm_momentum: Float, momentum of batch normalization. Defaults to
            `0.99`.
        """,
}


# These functions make an object of Keras from the value of an argument.
_READERS = {
    "classifier_activation": keras.activations.get,
    "displacement_initializer": initializers.get,
    "displacement_regularizer": keras.regularizers.get,
    "kernel_initializer": keras.initializers.get,
    "kernel_regularizer": keras.regularizers.get,
}


def shared_arguments(size: int, classes: int) -> dict[str, str]:
    """Returns the documentation of the arguments that constructors share.

    Args:
        size: Default height and width of an image, in pixels.
        classes: Default number of classes.

    Returns:
        A dict of texts by the names of their placeholders, see `document`.
    """
    return {
        key: inspect.cleandoc(text.format(size=(size, size, 3), classes=classes))
        for key, text in _SHARED.items()
    }


def document(
    constructor: Callable[..., Any], name: str, size: int, classes: int
) -> None:
    """Names a constructor and completes its docstring.

    A table of the papers' figures and the networks' own comes in front of the example.
    Where functions are made by a function, their docstring has placeholders: `<name>`
    for the name, and `<input_shape>`, `<top>`, `<displacements>` and `<kernels>` for
    the documentation of shared arguments. An editor shows a docstring as it stands, so
    functions that it can find have the documentation itself
    (tests/test_zoo.py compares it).

    Args:
        constructor: A function with a docstring.
        name: Name of the constructor.
        size: Default height and width of an image, in pixels.
        classes: Default number of classes.
    """
    constructor.__name__ = constructor.__qualname__ = name
    texts = shared_arguments(size, classes)
    texts["name"] = name
    docstring = inspect.cleandoc(constructor.__doc__ or "")
    for key, text in texts.items():
        docstring = re.sub(
            rf"^( *)<{key}>$",
            lambda match: textwrap.indent(text, match[1]),
            docstring,
            flags=re.MULTILINE,
        ).replace(f"<{key}>", text)
    if any(variant.constructor == name for variant in variants.VARIANTS.values()):
        figures = variants.figures(name)
        docstring = docstring.replace("\n\nExample:", f"\n\n{figures}\n\nExample:", 1)
    constructor.__doc__ = docstring


def is_number(value: Any) -> bool:
    """Returns whether a value is a real number and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_positive(argument: str, value: Any) -> None:
    """Checks that an argument is a positive and finite number.

    Args:
        argument: Name of the argument.
        value: The value that was received.

    Raises:
        ValueError: If it is not.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(
            f"Argument `{argument}` must be positive. "
            f"Received: {argument}={value!r}"
        )


def check_share(argument: str, value: Any) -> None:
    """Checks that an argument is a number from 0 to 1.

    Args:
        argument: Name of the argument.
        value: The value that was received.

    Raises:
        ValueError: If it is not.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"Argument `{argument}` must be a number from 0 to 1. "
            f"Received: {argument}={value!r}"
        )


def integer(argument: str, value: Any, least: int = 1) -> int:
    """Checks that an argument is an integer and returns it as a Python int.

    Args:
        argument: Name of the argument.
        value: The value that was received. NumPy's integers are allowed, too.
        least: The smallest integer that is allowed. Defaults to `1`.

    Returns:
        An int.

    Raises:
        ValueError: If the value is not an integer or is too small.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"Argument `{argument}` must be an integer, {least} or more. "
            f"Received: {argument}={value!r}"
        )
    return operator.index(value)


def check_choice(argument: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Checks that an argument has one of the values that are allowed.

    Args:
        argument: Name of the argument.
        value: The value that was received.
        allowed: Tuple of the values that are allowed.

    Raises:
        ValueError: If the value is none of them.
    """
    if value not in allowed:
        raise ValueError(
            f"Argument `{argument}` must be one of {allowed}. "
            f"Received: {argument}={value}"
        )


def check_names(argument: str, value: Any, known: Sequence[str]) -> None:
    """Checks that an argument is a tuple or list of some of the names that there are.

    Args:
        argument: Name of the argument.
        value: The value that was received.
        known: Names of what the argument may choose from.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, (tuple, list)) or any(name not in known for name in value):
        raise ValueError(
            f"Argument `{argument}` must be a tuple of some of the names "
            f"{list(known)}. Received: {argument}={value!r}"
        )


def check_objects(values: Mapping[str, Any]) -> None:
    """Checks the arguments of which Keras makes initializers and the like.

    Its own errors do not name them.

    Args:
        values: The values of all arguments by name.

    Raises:
        ValueError: If Keras does not know what a value stands for.
    """
    for argument in sorted(_READERS.keys() & values.keys()):
        try:
            _READERS[argument](values[argument])
        # Which error Keras raises depends on the value's type.
        except Exception as error:
            reason, _, _ = str(error).partition("\n")
            raise ValueError(
                f"Argument `{argument}` must be an object of Keras, its name or its "
                f"configuration ({reason}). "
                f"Received: {argument}={values[argument]!r}"
            ) from error
