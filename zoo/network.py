"""What all networks share: images at one end, a classifier at the other."""

import numbers

import keras

from keras_shift.zoo import arguments, blocks, pretrained


def assemble(
    body,
    *,
    name,
    input_shape,
    include_top,
    weights,
    input_tensor,
    pooling,
    classes,
    classifier_activation,
    include_preprocessing,
    kernel_regularizer,
    default_size=224,
    default_classes=1000,
    dropout_rate=0.0,
):
    """Makes a model of a function from images to maps.

    Args:
        body: Function from a batch of images to the last map.
        name: Name of the model.
        input_shape: Shape of one image, or `None` for the default.
        include_top: Whether to classify.
        weights: `None` or the path of a `.weights.h5` file; constructors turn names
            into paths (see `pretrained.accepts_names`).
        input_tensor: Keras tensor to use as the images, or `None`.
        pooling: `None`, `"avg"` or `"max"`; without the top only.
        classes: Number of classes, or `None` for the default.
        classifier_activation: Activation of the classifier.
        include_preprocessing: Whether to scale pixel values from [0, 255] to
            [-1, 1] first.
        kernel_regularizer: Regularizer of the classifier's kernel.
        default_size: Height and width of an image, in pixels.
        default_classes: Number of classes.
        dropout_rate: Rate of the dropout before the classifier, if it is not 0.

    Returns:
        A `keras.Model`.
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
        # In float32 also under a mixed dtype policy, where logits lose digits.
        x = keras.layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_regularizer=kernel_regularizer,
            dtype="float32" if _mixed() else None,
            name="predictions",
        )(x)
    elif pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    model = keras.Model(source, x, name=name)
    if weights is not None:
        pretrained.load(model, weights)
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
        if input_shape is not None and _checked_shape(input_shape) != shape:
            raise ValueError(
                "Arguments `input_shape` and `input_tensor` must agree. Received: "
                f"input_shape={tuple(input_shape)}, "
                f"input_tensor.shape={tuple(input_tensor.shape)}"
            )
        input_shape = shape
    elif input_shape is None:
        size = (default_size, default_size) if include_top else (None, None)
        input_shape = (*size, 3) if channels_last else (3, *size)
    input_shape = _checked_shape(input_shape)
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(input_tensor)
        return input_tensor, sources[0] if len(sources) == 1 else sources
    x = keras.Input(input_shape, name="image")
    return x, x


def _checked_shape(shape):
    """The shape of an image as a tuple of integers and `None`.

    There is no smallest size but one pixel, to which maps are padded: images may be as
    small as those of digits.
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


def _mixed():
    policy = keras.config.dtype_policy()
    return policy.compute_dtype != policy.variable_dtype
