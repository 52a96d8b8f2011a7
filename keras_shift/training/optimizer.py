"""Defines an optimizer in which displacements have their own learning rate."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_shift.former_names import with_new_names
from keras_shift.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_shift")
class ShiftSGD(keras.optimizers.SGD):
    """Multiplies the gradients of displacements and applies `keras.optimizers.SGD`.

    A shift does not change until its displacement rounds to another integer, which
    gradients as small as those of displacements may take long to reach. With the factor
    f, a displacement d takes the step

        v <- momentum * v - learning_rate * f * gradient;    d <- d + v

    The gradient is that of the loss with its penalty (Eq. 4 of the SSL paper), so the
    factor does not change the weight of λ against the loss. Keras clips gradients
    (`clipnorm`, `clipvalue`, `global_clipnorm`) after they are multiplied.

    Example:

    >>> optimizer = keras_shift.training.ShiftSGD(
    ...     learning_rate=0.1, momentum=0.9, displacement_gradient_factor=10
    ... )
    >>> model.compile(optimizer, "sparse_categorical_crossentropy")

    Args:
        learning_rate: Float or schedule, as in `keras.optimizers.SGD`. Defaults to
            `0.01`.
        displacement_gradient_factor: Float, the factor for the gradients of
            displacements. Defaults to `1.0`.
        frozen: Boolean, whether displacements keep their values. It is an attribute,
            too: a train function that is made afterwards follows it. Defaults to
            `False`.
        **options: Further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: If `displacement_gradient_factor` is not positive.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        displacement_gradient_factor: float = 1.0,
        frozen: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not displacement_gradient_factor > 0:
            raise ValueError(
                "Argument `displacement_gradient_factor` must be positive. Received: "
                f"displacement_gradient_factor={displacement_gradient_factor}"
            )
        self.displacement_gradient_factor = displacement_gradient_factor
        self.frozen = frozen

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if not self.built:
            variables = list(variables)
            # Keras would track the variables of a list as the optimizer's own.
            self._built_for = lambda: variables
        super().build(variables)

    def apply(
        self,
        grads: Iterable[Tensor | None],
        trainable_variables: Iterable[keras.Variable] | None = None,
    ) -> None:
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = variables = list(trainable_variables)
        elif self.built:
            variables = self._built_for()
        else:
            # Keras raises an error that says what is missing.
            return super().apply(grads)
        # An empty list of gradients is allowed.
        if 0 < len(grads) != len(variables):
            raise ValueError(
                "Argument `grads` must have one gradient, or None, for each variable. "
                f"Received: {len(grads)} gradients for {len(variables)} variables"
            )
        chosen = [variable.name == "displacements" for variable in variables]
        factor = self.displacement_gradient_factor
        grads = [
            grad * factor if displaces and grad is not None else grad
            for grad, displaces in zip(grads, chosen)
        ]
        held = []
        if self.frozen:
            # The sum is a copy of the value.
            held = [(v, v + 0.0) for v in itertools.compress(variables, chosen)]
        super().apply(grads, trainable_variables)
        for variable, value in held:
            variable.assign(value)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["displacement_gradient_factor"] = self.displacement_gradient_factor
        config["frozen"] = self.frozen
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "ShiftSGD":
        new_names = {"displacement_learning_rate": "displacement_gradient_factor"}
        return super().from_config(with_new_names(config, new_names), custom_objects)
