"""What the constructors of all networks take: its documentation, and its checks."""

import inspect
import math
import numbers
import operator
import re
import textwrap

from keras_shift.zoo import pretrained, variants

_SHARED = {
    "input_shape": """
        input_shape: Shape tuple of one image without the batch, such as
            `(96, 96, 3)`; height and width may be `None`. Defaults to
            `{size}`, without the top to `(None, None, 3)` (channels first
            where Keras' `image_data_format()` says so). Any number of channels.
        """,
    "top": """
        include_top: Whether to include the classifier.
        weights: `None` for random weights; the name of published weights, which
            `keras_shift.zoo.list_weights` lists, such as `"tiny_imagenet"`; or
            the path of a `.weights.h5` file of the same network. Published
            weights bring the arguments that they were trained with. Without the
            top, or with other `classes`, those of the other layers are loaded.
        input_tensor: Optional Keras tensor (the output of `keras.Input()` or
            of layers) to use as the images.
        pooling: What follows the last map if `include_top` is `False`: `None`
            for nothing (a 4D tensor), `"avg"` or `"max"` for global pooling (a
            2D tensor).
        classes: Number of classes if `include_top` is `True`; by default those
            of published weights, and {classes} without.
        classifier_activation: Activation of the classifier; `None` for logits.
        name: Name of the model.
        include_preprocessing: Whether to scale pixel values from [0, 255] to
            [-1, 1] in the model's first layer.
        """,
    "displacements": """
        displacement_initializer: Initializer of learned displacements;
            `"grouped"` is the pattern of the grouped shift.
        displacement_regularizer: Regularizer of learned displacements
            (Eq. 4 of the SSL paper), such as `keras.regularizers.L2(1e-4)`.
        max_displacement: Int, bound of learned displacements in pixels, or
            `None`.
        """,
    "kernels": """
        kernel_initializer: Initializer of all kernels but the classifier's.
        kernel_regularizer: Regularizer of all kernels.
        batch_norm_momentum: Momentum of batch normalization.
        """,
}


def documented(name, size="(224, 224, 3)", classes=1000):
    """Names a constructor, documents it, and lets it take published weights.

    In the docstring `<name>` stands for the name, `<input_shape>`, `<top>`,
    `<displacements>` and `<kernels>` for the documentation of shared arguments,
    and `<figures>` for what the papers print and what the networks have.

    Args:
        name: Name of the constructor.
        size: Default shape of an image.
        classes: Default number of classes.

    Returns:
        A decorator.
    """
    texts = {
        key: inspect.cleandoc(text.format(size=size, classes=classes))
        for key, text in _SHARED.items()
    }
    texts |= {"name": name, "figures": variants.figures(name)}

    def decorator(constructor):
        constructor.__name__ = constructor.__qualname__ = name
        docstring = inspect.cleandoc(constructor.__doc__)
        for key, text in texts.items():
            docstring = re.sub(
                rf"^( *)<{key}>$",
                lambda match: textwrap.indent(text, match[1]),
                docstring,
                flags=re.MULTILINE,
            ).replace(f"<{key}>", text)
        constructor.__doc__ = docstring
        return pretrained.accepts_names(constructor)

    return decorator


def is_number(value):
    """Returns whether something is a real number, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_positive(argument, value):
    """Refuses what is no positive and finite number.

    Args:
        argument: Name of the argument.
        value: What was received.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(
            f"Argument `{argument}` must be positive. "
            f"Received: {argument}={value!r}"
        )


def check_share(argument, value):
    """Refuses what is no number from 0 to 1.

    Args:
        argument: Name of the argument.
        value: What was received.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"Argument `{argument}` must be a number from 0 to 1. "
            f"Received: {argument}={value!r}"
        )


def integer(argument, value, least=1):
    """Returns an integer, such as NumPy's, as Python's.

    Args:
        argument: Name of the argument.
        value: What was received.
        least: The smallest integer that is allowed.

    Raises:
        ValueError: If it is none, or too small.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"Argument `{argument}` must be an integer, {least} or more. "
            f"Received: {argument}={value!r}"
        )
    return operator.index(value)


def check_choice(argument, value, allowed):
    """Refuses what is not allowed.

    Args:
        argument: Name of the argument.
        value: What was received.
        allowed: Tuple of what is allowed.
    """
    if value not in allowed:
        raise ValueError(
            f"Argument `{argument}` must be one of {allowed}. "
            f"Received: {argument}={value}"
        )
