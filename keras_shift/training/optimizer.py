"""Stochastic gradient descent with a learning rate of its own for displacements."""

import keras


@keras.saving.register_keras_serializable(package="keras_shift")
class ShiftSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` that multiplies the displacements' gradients.

    The gradients of displacements are far smaller than those of kernels, and nothing
    changes until a displacement crosses one half: in a short training hardly any
    does. With the factor f, a displacement d takes the step

        v <- momentum * v - learning_rate * f * gradient;    d <- d + v

    in which the gradient is that of the loss with its penalty (Eq. 4 of the SSL
    paper), so that λ weighs as much against the loss as without the factor. Keras clips
    gradients (`clipnorm`, `clipvalue`, `global_clipnorm`) after they were multiplied.

    Example:

    >>> optimizer = keras_shift.training.ShiftSGD(
    ...     learning_rate=0.1, momentum=0.9, displacement_learning_rate=10
    ... )
    >>> model.compile(optimizer, "sparse_categorical_crossentropy")

    Args:
        learning_rate: As in `keras.optimizers.SGD`.
        displacement_learning_rate: Float, the factor.
        **options: All other arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.01, displacement_learning_rate=1.0, **options):
        super().__init__(learning_rate, **options)
        if not displacement_learning_rate > 0:
            raise ValueError(
                "Argument `displacement_learning_rate` must be positive. Received: "
                f"displacement_learning_rate={displacement_learning_rate}"
            )
        self.displacement_learning_rate = displacement_learning_rate

    def build(self, variables):
        if not self.built:
            # The variables themselves would become the optimizer's own.
            self._built_for = _are_displacements(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            chosen = _are_displacements(trainable_variables)
        elif self.built:
            chosen = self._built_for
        else:
            # Keras says what is missing.
            chosen = [False] * len(grads)
        # None at all are allowed.
        if 0 < len(grads) != len(chosen):
            raise ValueError(
                "Argument `grads` must have one gradient, or None, for each variable. "
                f"Received: {len(grads)} gradients for {len(chosen)} variables"
            )
        factor = self.displacement_learning_rate
        grads = [
            grad * factor if displaces and grad is not None else grad
            for grad, displaces in zip(grads, chosen)
        ]
        super().apply(grads, trainable_variables)

    def get_config(self):
        config = super().get_config()
        config["displacement_learning_rate"] = self.displacement_learning_rate
        return config


def _are_displacements(variables):
    return [variable.name == "displacements" for variable in variables]
