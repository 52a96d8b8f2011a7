"""Makes the learning rate schedules of recipes."""

from typing import Any, Self

import keras

from keras_shift.recipe import Recipe
from keras_shift.typing import Tensor


def learning_rate(
    recipe: Recipe, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate schedule of a recipe.

    Args:
        recipe: A `Recipe`.
        steps: Number of steps of the whole training.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.
    """
    schedules = keras.optimizers.schedules
    # Schedules need one step at least that the warmup leaves.
    warmup = min(round(recipe.warmup * steps), steps - 1)
    peak = recipe.learning_rate
    if recipe.schedule == "cosine":
        if not warmup:
            return schedules.CosineDecay(peak, steps)
        return schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=peak, warmup_steps=warmup
        )
    if recipe.schedule == "linear":
        after = schedules.PolynomialDecay(peak, steps - warmup, end_learning_rate=0.0)
    else:
        boundaries = [round(share * steps) for share in recipe.boundaries]
        values = [peak / 10**index for index in range(len(boundaries) + 1)]
        if not boundaries:  # A constant rate is a schedule with two equal values.
            boundaries, values = [steps], [peak, peak]
        after = schedules.PiecewiseConstantDecay(
            [boundary - warmup - 1 for boundary in boundaries], values
        )
    return WarmUp(after, warmup) if warmup else after


@keras.saving.register_keras_serializable(package="keras_shift")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from zero to where another schedule begins, which then follows.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`.
        steps: Int, number of steps in which the learning rate rises.
    """

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Tensor) -> Tensor:
        step = keras.ops.cast(step, "float32")
        rising = self.schedule(0) * step / self.steps
        later = self.schedule(keras.ops.maximum(step - self.steps, 0.0))
        return keras.ops.where(step < self.steps, rising, later)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, config["steps"])
