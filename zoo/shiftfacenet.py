"""Defines ShiftFaceNet of "Shift: A Zero FLOP, Zero Parameter Alternative"."""

import os
from collections.abc import Sequence
from typing import Literal

import keras

from keras_shift.zoo import arguments, loading, network, shiftnet


def ShiftFaceNet(
    input_shape: Sequence[int | None] | None = None,
    embedding_dim: int = 128,
    alpha: float = 1.0,
    weights: str | os.PathLike[str] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    name: str = "shiftfacenet",
    *,
    include_preprocessing: bool = True,
    spatial: Literal[
        "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
    ] = "grouped_shift",
    kernel_initializer: str | keras.initializers.Initializer = "he_normal",
    kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """Instantiates ShiftFaceNet, which maps the image of a face to an embedding.

    It is ShiftNet-C with a dense layer of `embedding_dim` outputs in the classifier's
    place, whose result is divided by its length (Section 3.3 of the paper). The scalar
    product of two embeddings, from -1 to 1, says how similar two faces are, and
    `keras_shift.training.verification` how well it tells people apart.
    `keras_shift.training.embedding_classifier` trains it.

    The paper prints 0.78 M parameters (Table 9), which ShiftNet-C has with 1000
    outputs. With `embedding_dim=128` they are 0.56 M. There are no trained weights:
    LFW, with which they could be compared, states no licence.

    The model expects images with pixel values in [0, 255]; preprocessing is part of
    it.

    Example:

    >>> model = keras_shift.zoo.ShiftFaceNet((96, 96, 3))
    >>> faces = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3))
    >>> embeddings = model.predict(faces, verbose=0)
    >>> embeddings.shape
    (2, 128)
    >>> bool(embeddings[0] @ embeddings[1] <= 1.0)
    True

    Args:
        input_shape: Tuple, the shape of one image without the batch, such as
            `(96, 96, 3)`. Height and width may be `None`, and any number of channels
            is allowed. Channels come first if Keras' `image_data_format()` says so.
            Defaults to `None`: `(None, None, 3)`.
        embedding_dim: Int, length of an embedding. Defaults to `128`.
        alpha: Float, the width, which scales the number of channels of all layers but
            the embedding. Defaults to `1.0`.
        weights: `None` for random weights, or the path of a `.weights.h5` file of the
            same network. Defaults to `None`.
        input_tensor: Keras tensor to use as the images (the output of `keras.Input()`
            or of layers), or `None`. Defaults to `None`.
        name: Name of the model. Defaults to `"shiftfacenet"`.
        include_preprocessing: Whether to scale pixel values from [0, 255] to [-1, 1]
            in the model's first layer. Defaults to `True`.
        spatial: What exchanges information between pixels: `"grouped_shift"` (the
            paper's), `"sparse_shift"`, `"active_shift"`, `"depthwise"` or `"none"`.
            Defaults to `"grouped_shift"`.
        kernel_initializer: Initializer of all kernels but the embedding's. Defaults to
            `"he_normal"`.
        kernel_regularizer: Regularizer of all kernels, or `None`. Defaults to `None`.
        batch_norm_momentum: Float, momentum of batch normalization. Defaults to
            `0.99`.

    Input shape:
        4D tensor with shape:
        - If Keras' `image_data_format()` is `"channels_last"`:
          `(batch_size, height, width, channels)`
        - If it is `"channels_first"`:
          `(batch_size, channels, height, width)`

    Output shape:
        2D tensor with shape `(batch_size, embedding_dim)`, whose rows have length 1.

    Returns:
        A `keras.Model`, flat (not nested), without compilation.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 3.3
    - [FaceNet: A Unified Embedding for Face Recognition and Clustering](
        https://arxiv.org/abs/1503.03832): the length of embeddings
    """
    embedding_dim = arguments.integer("embedding_dim", embedding_dim)
    # Only published weights have names, and there are none of ShiftNet-C, so that
    # `weights` are those of the whole network or none.
    backbone = shiftnet.ShiftNetC(
        input_shape,
        alpha=alpha,
        include_top=False,
        input_tensor=input_tensor,
        pooling="avg",
        include_preprocessing=include_preprocessing,
        spatial=spatial,
        kernel_initializer=kernel_initializer,
        kernel_regularizer=kernel_regularizer,
        batch_norm_momentum=batch_norm_momentum,
    )
    # Like a classifier, the embedding is computed in float32 even under a mixed dtype
    # policy, in which similarities would lose digits.
    dtype = "float32" if network.is_mixed() else None
    x = keras.layers.Dense(
        embedding_dim,
        kernel_regularizer=kernel_regularizer,
        dtype=dtype,
        name="embedding",
    )(backbone.output)
    x = keras.layers.UnitNormalization(dtype=dtype, name="unit_normalization")(x)
    model = keras.Model(backbone.input, x, name=name)
    if weights is not None:
        loading.load(model, weights)
    return model
