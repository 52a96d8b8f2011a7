"""The loss of classifiers."""

import keras


@keras.saving.register_keras_serializable(package="keras_shift")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer labels, with label smoothing.

    Args:
        classes: Int, number of classes.
        label_smoothing: Float, share of the target that all classes share equally.
        from_logits: Whether predictions are scores instead of probabilities.
        **options: `name` and the like, as in `keras.losses.Loss`.
    """

    def __init__(self, classes, label_smoothing=0.0, from_logits=False, **options):
        super().__init__(**options)
        self.classes = classes
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
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

    def get_config(self):
        config = super().get_config()
        config |= {
            "classes": self.classes,
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }
        return config
