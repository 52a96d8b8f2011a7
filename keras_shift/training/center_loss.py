"""Trains networks of embeddings by softmax with center loss."""

import math
from typing import Any

import keras
from keras import ops

from keras_shift.typing import Shape, Tensor
from keras_shift.zoo import arguments


@keras.saving.register_keras_serializable(package="keras_shift")
class CenterLoss(keras.layers.Layer):
    """Pulls embeddings towards the moving center of their class.

    With the embeddings `x` of a batch, their labels `y` and a center `c` for each
    class, it adds this to the loss of a training:

    ```
    strength / 2 * mean over i of sum((x[i] - c[y[i]]) ** 2)
    ```

    In every step of a training, after the loss is computed, the center of each class
    `j` moves towards the `n[j]` embeddings that the batch has of it:

    ```
    c[j] -= center_learning_rate / (1 + n[j]) * sum over these of (c[j] - x[i])
    ```

    Both are the paper's (Eq. 2 to 4), but for the mean, which stands in the place of
    its sum so that the strength means the same for every batch size. Centers are
    weights that no optimizer changes, and they are saved with the model. They start at
    zero, where they are equally far from all embeddings of length 1.

    The embeddings are returned as they are. Outside of a training, the layer does
    nothing else.

    Example:

    >>> embeddings = keras.Input((2,))
    >>> labels = keras.Input((), dtype="int32")
    >>> center_loss = keras_shift.training.CenterLoss(classes=3)
    >>> x = center_loss([embeddings, labels])
    >>> x = keras.layers.Dense(3, activation="softmax")(x)
    >>> model = keras.Model([embeddings, labels], x)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> x, y = np.random.normal(size=(8, 2)), np.arange(8) % 3
    >>> history = model.fit([x, y], y, verbose=0)

    Args:
        classes: Int, number of classes.
        strength: Float, the factor of this loss, zero or more. Defaults to `0.5`.
        center_learning_rate: Float from 0 to 1, by how much of their way centers move
            in a step. Defaults to `0.5`.

    Input shape:
        A list of two tensors: the embeddings with shape `(batch_size, embedding_dim)`,
        and integer labels from 0 to `classes - 1` with shape `(batch_size,)`.

    Output shape:
        The shape of the embeddings.

    Raises:
        ValueError: If an argument or the inputs are none of the above.

    References:

    - [A Discriminative Feature Learning Approach for Deep Face Recognition](
        https://ydwen.github.io/papers/WenECCV16.pdf)
    """

    def __init__(
        self,
        classes: int,
        strength: float = 0.5,
        center_learning_rate: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not arguments.is_number(strength) or not 0 <= strength < math.inf:
            raise ValueError(
                "Argument `strength` must be zero or more, and finite. "
                f"Received: strength={strength!r}"
            )
        arguments.check_share("center_learning_rate", center_learning_rate)
        self.classes = arguments.integer("classes", classes)
        self.strength = strength
        self.center_learning_rate = center_learning_rate

    def build(self, input_shape: list[Shape]) -> None:
        known = [
            len(shape) if isinstance(shape, (list, tuple)) else None
            for shape in input_shape
        ]
        if known != [2, 1] or input_shape[0][1] is None:
            raise ValueError(
                "CenterLoss takes embeddings of a known length, of shape "
                "(batch_size, embedding_dim), and labels of shape (batch_size,). "
                f"Received: input_shape={input_shape}"
            )
        self.centers = self.add_weight(
            name="centers",
            shape=(self.classes, input_shape[0][1]),
            initializer="zeros",
            trainable=False,
            aggregation="mean",
        )

    def call(self, inputs: list[Tensor], training: bool | None = None) -> Tensor:
        embeddings, labels = inputs
        if training:
            labels = ops.cast(labels, "int32")
            centers = ops.cast(self.centers, embeddings.dtype)
            difference = embeddings - ops.take(centers, labels, axis=0)
            squares = ops.sum(ops.square(difference), axis=-1)
            self.add_loss(self.strength / 2 * ops.mean(squares))
            sums = self._by_class(ops.stop_gradient(difference), labels)
            counts = self._by_class(ops.ones_like(difference[:, :1]), labels)
            step = self.center_learning_rate * sums / (1 + counts)
            self.centers.assign(centers + step)
        return embeddings

    def _by_class(self, values, labels):
        """Returns the sum of the rows of each class."""
        return ops.segment_sum(values, labels, num_segments=self.classes)

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classes": self.classes,
            "strength": self.strength,
            "center_learning_rate": self.center_learning_rate,
        }


def embedding_classifier(
    model: keras.Model,
    classes: int,
    *,
    center_loss: float = 0.5,
    scale: float = 16.0,
) -> keras.Model:
    """Puts a classifier with center loss on a network of embeddings, to train it.

    The classifier takes images and their labels, and returns logits of the classes.
    Its layers are those of `model`, not copies, so that `model` is trained with it, and
    is what remains. Embeddings of length 1 are multiplied by `scale` first: without it,
    a softmax could not become sure of anything.

    Example:

    >>> inputs = keras.Input((6,))
    >>> embeddings = keras.layers.UnitNormalization()(keras.layers.Dense(2)(inputs))
    >>> model = keras.Model(inputs, embeddings)
    >>> classifier = keras_shift.training.embedding_classifier(model, classes=4)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> classifier.compile("adam", loss, metrics=["accuracy"])
    >>> x, y = np.random.normal(size=(8, 6)), np.arange(8) % 4
    >>> history = classifier.fit([x, y], y, verbose=0)

    Args:
        model: A functional `keras.Model` with one input, and an output of shape
            `(batch_size, embedding_dim)`, such as `keras_shift.zoo.ShiftFaceNet()`.
        classes: Int, number of classes, such as people.
        center_loss: Float, the `strength` of `keras_shift.training.CenterLoss`.
            Defaults to `0.5`.
        scale: Float, what embeddings are multiplied by in front of the classifier.
            Defaults to `16.0`.

    Returns:
        A `keras.Model` without compilation. Its inputs are a list of the images and of
        their labels, and it trains with
        `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.

    Raises:
        ValueError: If an argument is none of the above.
    """
    outputs = getattr(model, "outputs", [])
    if (
        not isinstance(model, keras.Model)
        or len(getattr(model, "inputs", [])) != 1
        or [len(output.shape) for output in outputs] != [2]
    ):
        raise ValueError(
            "Argument `model` must be a functional model with one input and an output "
            "of shape (batch_size, embedding_dim), as `keras_shift.zoo.ShiftFaceNet()` "
            f"is. Received: model={model!r}"
        )
    arguments.check_positive("scale", scale)
    (embeddings,) = outputs
    labels = keras.Input((), dtype="int32", name="label")
    # All of it is computed in float32 under a mixed dtype policy, too, like the
    # embeddings and for the same reason.
    x = CenterLoss(classes, center_loss, dtype="float32", name="center_loss")(
        [embeddings, labels]
    )
    x = keras.layers.Rescaling(scale, dtype="float32", name="scale")(x)
    x = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model([model.inputs[0], labels], x, name=f"{model.name}_classifier")
