"""Builds the parts that all networks share: the input and the classifier."""

import dataclasses
import functools
import inspect
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec

import keras

from keras_shift.graph_walk import source_inputs
from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, loading

Arguments = ParamSpec("Arguments")

# Constructors take these arguments, and `assemble` handles them.
_SHARED = (
    "input_shape",
    "include_top",
    "weights",
    "input_tensor",
    "pooling",
    "classes",
    "classifier_activation",
    "include_preprocessing",
    "kernel_regularizer",
)


@dataclasses.dataclass(frozen=True)
class Body:
    """What a network does not share with others.

    Attributes:
        name: Name of the model if its user gives none.
        function: The argument `body` of `assemble`.
    """

    name: str
    function: Callable[[Tensor], Tensor | dict[str, Tensor]]


def constructor(
    name: str, size: int = 224, classes: int = 1000
) -> Callable[[Callable[Arguments, Body]], Callable[Arguments, keras.Model]]:
    """Makes a function that returns a `Body` a constructor of the whole network.

    The function has all arguments of the constructor in its signature and its
    docstring, but uses only those of the body. The input, the classifier, published
    weights and what placeholders in the docstring stand for (see
    `arguments.document`) come from here.

    Args:
        name: Name of the constructor.
        size: Default height and width of an image, in pixels. Defaults to `224`.
        classes: Default number of classes. Defaults to `1000`.

    Returns:
        A decorator.
    """

    def decorator(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def construct(*args, **kwargs):
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            values = given.arguments
            body = function(*args, **kwargs)
            try:
                return assemble(
                    body.function,
                    name=values["name"] or body.name,
                    default_size=size,
                    default_classes=classes,
                    dropout_rate=values.get("dropout_rate", 0.0),
                    **{argument: values[argument] for argument in _SHARED},
                )
            except Exception:
                # This comes last, since making an initializer takes a random seed.
                arguments.check_objects(values)
                raise

        # `help` shows what is returned in the end.
        returns = signature.replace(return_annotation=keras.Model)
        setattr(construct, "__signature__", returns)
        arguments.document(construct, name, size, classes)
        return loading.loads_published_weights(construct)

    return decorator


def assemble(
    body: Callable[[Tensor], Tensor | dict[str, Tensor]],
    *,
    name: str,
    input_shape: Sequence[int | None] | None,
    include_top: bool,
    weights: str | os.PathLike[str] | None,
    input_tensor: keras.KerasTensor | None,
    pooling: Literal["avg", "max"] | None,
    classes: int | None,
    classifier_activation: str | Callable[[Tensor], Tensor] | None,
    include_preprocessing: bool,
    kernel_regularizer: str | keras.regularizers.Regularizer | None,
    default_size: int = 224,
    default_classes: int = 1000,
    dropout_rate: float = 0.0,
) -> keras.Model:
    """Makes a model from a function from images to maps.

    Args:
        body: Function from a batch of images to the last map or, without the top, to
            a dict of maps.
        name: Name of the model.
        input_shape: Shape of one image, or `None` for the default.
        include_top: Whether to include the classifier.
        weights: `None` or the path of a `.weights.h5` file. Constructors turn names
            into paths (see `loading.loads_published_weights`).
        input_tensor: Keras tensor to use as the images, or `None`.
        pooling: `None`, `"avg"` or `"max"`. It is used only without the top.
        classes: Number of classes, or `None` for the default.
        classifier_activation: Activation of the classifier, or `None`.
        include_preprocessing: Whether to scale pixel values from [0, 255] to
            [-1, 1] first.
        kernel_regularizer: Regularizer of the classifier's kernel, or `None`.
        default_size: Default height and width of an image, in pixels. Defaults to
            `224`.
        default_classes: Default number of classes. Defaults to `1000`.
        dropout_rate: Rate of the dropout before the classifier, or `0` for none.
            Defaults to `0.0`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an argument is none of the above, or if the weights do not fit
            the network.
    """
    arguments.check_choice("include_top", include_top, (True, False))
    arguments.check_choice("pooling", pooling, (None, "avg", "max"))
    arguments.check_choice(
        "include_preprocessing", include_preprocessing, (True, False)
    )
    classes = default_classes if classes is None else classes
    classes = arguments.integer("classes", classes)
    x, source = _images(input_shape, input_tensor, include_top, default_size)
    if include_preprocessing:
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(x)
    x = body(x)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
        if dropout_rate:
            x = keras.layers.Dropout(dropout_rate, name="dropout")(x)
        # The classifier computes in float32 even under a mixed dtype policy, in which
        # logits would lose digits.
        x = keras.layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_regularizer=kernel_regularizer,
            dtype="float32" if is_mixed() else None,
            name="predictions",
        )(x)
    elif pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    model = keras.Model(source, x, name=name)
    if weights is not None:
        loading.load(model, weights)
    return model


def _images(input_shape, input_tensor, include_top, default_size):
    """Returns the tensor to compute on, and the inputs for `keras.Model`."""
    channels_last = blocks.channel_axis() == -1
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "Argument `input_tensor` must be a Keras tensor, such as the result "
                f"of `keras.Input()`. Received: input_tensor={input_tensor}"
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and checked_shape(input_shape) != shape:
            raise ValueError(
                "Arguments `input_shape` and `input_tensor` must agree. Received: "
                f"input_shape={tuple(input_shape)}, "
                f"input_tensor.shape={tuple(input_tensor.shape)}"
            )
        input_shape = shape
    elif input_shape is None:
        size = (default_size, default_size) if include_top else (None, None)
        input_shape = (*size, 3) if channels_last else (3, *size)
    input_shape = checked_shape(input_shape)
    if input_tensor is not None:
        sources = source_inputs(input_tensor)
        return input_tensor, sources[0] if len(sources) == 1 else sources
    x = keras.Input(input_shape, name="image")
    return x, x


def checked_shape(shape: Any) -> tuple[int | None, ...]:
    """Returns the shape of an image as a tuple of integers and `None`.

    Images may be as small as one pixel, since a map of one pixel is padded before it is
    halved.

    Args:
        shape: The argument `input_shape` of a constructor.

    Raises:
        ValueError: If it is not the shape of one image.
    """
    channels_last = blocks.channel_axis() == -1
    channels = 2 if channels_last else 0
    if (
        not isinstance(shape, (tuple, list))
        or len(shape) != 3
        or shape[channels] is None
        or any(
            size is not None
            and not (isinstance(size, numbers.Integral) and 0 < int(size))
            for size in shape
        )
    ):
        order = (
            "height, width, channels" if channels_last else "channels, height, width"
        )
        raise ValueError(
            f"Argument `input_shape` must be ({order}), positive integers, and only "
            f"height and width may be None. Received: input_shape={shape!r}"
        )
    return tuple(None if size is None else int(size) for size in shape)


def is_mixed() -> bool:
    """Returns whether layers compute in another type than their weights have."""
    policy = keras.config.dtype_policy()
    return policy.compute_dtype != policy.variable_dtype
