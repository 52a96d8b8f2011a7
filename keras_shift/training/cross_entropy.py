"""Defines the loss of classifiers."""

from typing import Any

import keras

from keras_shift.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class CrossEntropy(keras.losses.Loss):
    """Computes the cross-entropy of integer labels, with label smoothing.

    Args:
        classes: Int, number of classes.
        label_smoothing: Float, part of the target that is divided equally among all
            classes. Defaults to `0.0`.
        from_logits: Whether predictions are logits instead of probabilities. Defaults
            to `False`.
        **options: Further arguments of `keras.losses.Loss`, such as `name`.
    """

    def __init__(
        self,
        classes: int,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.classes = classes
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        if not self.label_smoothing:
            return keras.losses.sparse_categorical_crossentropy(
                labels, y_pred, from_logits=self.from_logits
            )
        return keras.losses.categorical_crossentropy(
            keras.ops.one_hot(labels, self.classes, dtype=y_pred.dtype),
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config |= {
            "classes": self.classes,
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }
        return config
