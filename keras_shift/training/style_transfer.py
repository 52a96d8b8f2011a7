"""Trains networks that paint photographs in the style of a picture."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.typing import Tensor

# A map that shows anything has a larger scale.
_TINY = 1e-12


class StyleTransfer(keras.Model):
    """Trains a network to paint photographs in the style of a picture.

    The loss is perceptual: it compares maps of a feature extractor. With `F_l(image)`
    for the map `l`, divided by its root mean square for the style's picture, and
    `G_l = gram_matrix(F_l)`,

    ```
    content_loss = mean((F_content(painted) - F_content(photograph))**2)
    style_loss = sum over l of mean((G_l(painted) - G_l(style))**2)
    loss = content_weight * content_loss + style_weight * style_loss
    ```

    Call `fit` with batches of photographs, which need no labels. It trains `network`,
    which is what to save and to use afterwards.

    Example:

    >>> network = keras_shift.zoo.StyleTransferNet((32, 32, 3), alpha=0.25)
    >>> features = keras_shift.training.perceptual_features("fenet")
    >>> style = np.random.default_rng(0).uniform(0, 255, (48, 48, 3))
    >>> trainer = keras_shift.training.StyleTransfer(network, features, style)
    >>> trainer.compile(keras.optimizers.Adam(0.003))
    >>> history = trainer.fit(images, verbose=0)
    >>> sorted(history.history)
    ['content_loss', 'loss', 'style_loss']

    Args:
        network: A `keras.Model` from photographs to images of their shape, both with
            pixel values in [0, 255], such as `keras_shift.zoo.StyleTransferNet`.
        features: A `keras.Model` from images with pixel values in [0, 255] to a dict of
            4D maps, such as `keras_shift.training.perceptual_features` returns it. All
            of them take part in the style. It is frozen.
        style_image: Array of shape `(height, width, channels)` (or channels first), the
            picture with the style, with pixel values in [0, 255]. Its size need not be
            that of the photographs; how large its strokes are decides how large those
            of the painted photographs become.
        content_map: Name of the map that tells the content, or `None` for the second of
            `features`. Defaults to `None`.
        content_weight: Float, the factor of the content's loss. Defaults to `1e5`, the
            paper's.
        style_weight: Float, the factor of the style's loss. Defaults to `1e9`. The
            paper has `1e10`, `5e10` and `1e11`, and prints no units. Ours make both
            losses independent of a feature extractor's scale; in them, `1e10` leaves
            strokes in which nobody finds the photograph.
        **kwargs: Further arguments of `keras.Model`, such as `name`.

    Raises:
        ValueError: If an argument is none of the above.

    References:

    - [Perceptual Losses for Real-Time Style Transfer and Super-Resolution](
        https://arxiv.org/abs/1603.08155), Section 3.2
    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 3.4
    """

    def __init__(
        self,
        network: keras.Model,
        features: keras.Model,
        style_image: ArrayLike,
        content_map: str | None = None,
        content_weight: float = 1e5,
        style_weight: float = 1e9,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        maps = getattr(features, "output", None)
        if not isinstance(maps, Mapping) or not maps:
            raise ValueError(
                "Argument `features` must be a model from images to a dict of maps, as "
                "`keras_shift.training.perceptual_features` returns it. "
                f"Received: features={features!r}"
            )
        names = list(maps)
        if content_map is None:
            content_map = names[min(1, len(names) - 1)]
        if content_map not in names:
            raise ValueError(
                f"Argument `content_map` must be one of {names}. "
                f"Received: content_map={content_map!r}"
            )
        for name, weight in (
            ("content_weight", content_weight),
            ("style_weight", style_weight),
        ):
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"Argument `{name}` must be zero or positive. "
                    f"Received: {name}={weight!r}"
                )
        style_image = np.asarray(style_image, "float32")
        if style_image.ndim != 3:
            raise ValueError(
                "Argument `style_image` must be one image, an array of three axes. "
                f"Received: style_image.shape={style_image.shape}"
            )
        features.trainable = False
        self.network = network
        self.features = features
        self.content_map = content_map
        self.content_weight = content_weight
        self.style_weight = style_weight
        style_maps = features(style_image[None], training=False)
        self.scales: dict[str, float] = {}
        self.style_matrices: dict[str, np.ndarray] = {}
        for name, values in style_maps.items():
            values = keras.ops.convert_to_numpy(values)
            scale = float(np.sqrt(np.mean(np.square(values, dtype="float64"))))
            if scale < _TINY:
                raise ValueError(
                    "Argument `features` must see something in the style's picture. "
                    f"Received: a map {name!r} of nothing but zeros"
                )
            self.scales[name] = scale
            self.style_matrices[name] = keras.ops.convert_to_numpy(
                gram_matrix(values / scale)
            )
        self.content_tracker = keras.metrics.Mean(name="content_loss")
        self.style_tracker = keras.metrics.Mean(name="style_loss")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.network(inputs, training=training)

    def losses_of(self, photographs: Tensor, painted: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the content's and the style's loss, without their weights.

        Args:
            photographs: A batch of images with pixel values in [0, 255].
            painted: A batch of as many images, which the photographs became.

        Returns:
            A pair of tensors of shape `(batch_size,)`.
        """
        wanted = self.features(photographs, training=False)[self.content_map]
        maps = self.features(painted, training=False)
        scale = self.scales[self.content_map]
        difference = (maps[self.content_map] - wanted) / scale
        content = keras.ops.mean(keras.ops.square(difference), axis=(1, 2, 3))
        style = sum(
            keras.ops.mean(
                keras.ops.square(
                    gram_matrix(maps[name] / self.scales[name]) - style_matrix
                ),
                axis=(1, 2),
            )
            for name, style_matrix in self.style_matrices.items()
        )
        return content, style

    def compute_loss(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        y_pred: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        content, style = self.losses_of(x, y_pred)
        self.content_tracker.update_state(content)
        self.style_tracker.update_state(style)
        loss = self.content_weight * content + self.style_weight * style
        return keras.ops.mean(loss) + sum(self.network.losses)


def gram_matrix(maps: Tensor) -> Tensor:
    """Computes Gram matrices of maps, the products of every two of their channels.

    ```
    gram[n, a, b] = sum over i, j of maps[n, i, j, a] * maps[n, i, j, b] / size
    ```

    where `size` is the number of elements of one map, `height * width * channels`.

    Example:

    >>> maps = np.random.default_rng(0).normal(size=(2, 8, 8, 5))
    >>> print(keras_shift.training.gram_matrix(maps).shape)
    (2, 5, 5)

    Args:
        maps: 4D tensor with shape `(batch_size, height, width, channels)`, or with
            channels first if Keras' `image_data_format()` says so.

    Returns:
        A tensor of shape `(batch_size, channels, channels)`.
    """
    first = keras.config.image_data_format() == "channels_first"
    rows = "ncij,ndij->ncd" if first else "nijc,nijd->ncd"
    shape = keras.ops.shape(maps)
    size = shape[1] * shape[2] * shape[3]
    return keras.ops.einsum(rows, maps, maps) / keras.ops.cast(size, maps.dtype)
