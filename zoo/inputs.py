"""Where a network begins and ends: its images and its classifier."""

import keras

from keras_shift.zoo import blocks


def images(input_shape, input_tensor, include_top):
    """Returns a network's first tensor and the model's inputs for it.

    Args:
        input_shape: Shape of one image, or `None` for the default: 224x224
            pixels of 3 channels, without the top any number of pixels.
        input_tensor: Keras tensor to use, or `None`.
        include_top: Whether the network has its classifier.

    Returns:
        A pair: the tensor to compute on, and the inputs for `keras.Model`.
    """
    channels_last = blocks.channel_axis() == -1
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "Argument `input_tensor` must be a Keras tensor, such as the result "
                f"of `keras.Input()`. Received: input_tensor={input_tensor}"
            )
        if input_shape is not None and tuple(input_tensor.shape[1:]) != tuple(
            input_shape
        ):
            raise ValueError(
                "Arguments `input_shape` and `input_tensor` must agree. Received: "
                f"input_shape={tuple(input_shape)}, "
                f"input_tensor.shape={tuple(input_tensor.shape)}"
            )
        input_shape = tuple(input_tensor.shape[1:])
    elif input_shape is None:
        size = (224, 224) if include_top else (None, None)
        input_shape = (*size, 3) if channels_last else (3, *size)
    input_shape = tuple(input_shape)
    if (
        len(input_shape) != 3
        or input_shape[blocks.channel_axis() if channels_last else 0] is None
        or any(size is not None and size < 1 for size in input_shape)
    ):
        order = (
            "height, width, channels" if channels_last else "channels, height, width"
        )
        raise ValueError(
            f"Argument `input_shape` must be ({order}), and only height and width "
            f"may be None. Received: input_shape={input_shape}"
        )
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(input_tensor)
        return input_tensor, sources[0] if len(sources) == 1 else sources
    x = keras.Input(input_shape, name="image")
    return x, x


def top(
    x,
    include_top,
    pooling,
    classes,
    classifier_activation,
    dropout_rate,
    kernel_regularizer,
):
    """Pools and classifies the last map, or what `include_top=False` asks for.

    Args:
        x: The last map.
        include_top: Whether to classify.
        pooling: `None`, `"avg"` or `"max"`; without the top only.
        classes: Number of classes, 1000 if `None`.
        classifier_activation: Activation of the classifier.
        dropout_rate: Rate of the dropout before the classifier.
        kernel_regularizer: Regularizer of the classifier's kernel.

    Returns:
        The network's output tensor.
    """
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            'Argument `pooling` must be None, "avg" or "max". '
            f"Received: pooling={pooling}"
        )
    if include_top:
        classes = 1000 if classes is None else classes
        if classes < 1:
            raise ValueError(
                f"Argument `classes` must be positive. Received: classes={classes}"
            )
        x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
        x = keras.layers.Dropout(dropout_rate, name="dropout")(x)
        # In float32 also under a mixed dtype policy, where logits lose digits.
        return keras.layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_regularizer=kernel_regularizer,
            dtype="float32" if _mixed() else None,
            name="predictions",
        )(x)
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    return x


def _mixed():
    policy = keras.config.dtype_policy()
    return policy.compute_dtype != policy.variable_dtype
