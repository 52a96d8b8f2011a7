"""Describes trainings as data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Self

from keras_shift.former_names import with_new_names
from keras_shift.json_text import fields_of, to_json

AUGMENTATIONS = ("none", "flip", "flip_crop", "inception")
SCHEDULES = ("constant", "step", "linear", "cosine")
STARTS = ("grouped", "fractional")
PENALTIES = ("l1", "l2")
COSTS = ("uniform", "pixels")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")

_NEW_NAMES = {"displacement_learning_rate": "displacement_gradient_factor"}


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return _is_integer(value) or isinstance(value, float) and math.isfinite(value)


def _is_text(value):
    return isinstance(value, str)


# Each rule has a function of a field's value, says in words what the value must be, and
# names the fields that it is for.
_RULES: tuple[tuple[Callable[[Any], bool], str, tuple[str, ...]], ...] = (
    (_is_text, "must be a text", ("name", "network", "dataset", "source")),
    (
        lambda value: isinstance(value, dict),
        "must be a dict of arguments by their names",
        ("arguments",),
    ),
    (
        lambda value: isinstance(value, (tuple, list)) and all(map(_is_number, value)),
        "must be a tuple or list of numbers",
        ("boundaries",),
    ),
    (lambda value: isinstance(value, bool), "must be True or False", ("nesterov",)),
    *(
        (choices.__contains__, f"must be one of {choices}", (field,))
        for field, choices in (
            ("augmentation", AUGMENTATIONS),
            ("schedule", SCHEDULES),
            ("displacement_start", STARTS),
            ("displacement_norm", PENALTIES),
            ("displacement_costs", COSTS),
            ("precision", PRECISIONS),
        )
    ),
    (
        lambda value: value is None or _is_integer(value) and value > 0,
        "must be a positive integer",
        ("epochs", "steps"),
    ),
    (
        lambda value: _is_integer(value) and value > 0,
        "must be a positive integer",
        ("batch_size",),
    ),
    (
        lambda value: _is_integer(value) and value >= 0,
        "must be an integer, and not negative",
        ("crop_padding", "seed"),
    ),
    (
        lambda value: _is_number(value) and value > 0,
        "must be a positive number",
        ("learning_rate", "displacement_gradient_factor"),
    ),
    (
        lambda value: _is_number(value) and value >= 0,
        "must be a number, and not negative",
        ("weight_decay", "displacement_penalty", "displacement_decay", "layer_cost"),
    ),
    (
        lambda value: _is_number(value) and 0 <= value < 1,
        "must be at least 0 and less than 1",
        ("undistorted", "warmup", "label_smoothing", "momentum", "least_shifted"),
    ),
    (
        lambda value: value is None or _is_number(value) and 0 <= value <= 1,
        "must be None or between 0 and 1",
        ("freeze_shifts", "ema_momentum", "unshifted"),
    ),
    (
        lambda value: value is None or _is_text(value) and value != "",
        "must be None or a name",
        ("initial_weights",),
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Holds everything that decides how a network is trained.

    Points in time are shares of the training, so a shorter training, with fewer
    `epochs`, keeps the recipe's proportions.

    Example:

    >>> recipe = keras_shift.training.Recipe(
    ...     name="digits", network="fenet_1.0", dataset="mnist", batch_size=128,
    ...     epochs=10, learning_rate=0.1, schedule="cosine", warmup=0.1,
    ... )
    >>> shorter = dataclasses.replace(recipe, epochs=2)

    Attributes:
        name: The recipe's name.
        network: Name of a network, as `keras_shift.zoo.get_model` takes it.
        arguments: Arguments of the network's constructor. Defaults to `{}`.
        dataset: Name of the dataset, see `keras_shift.training.load_data`.
        augmentation: What happens to training images. `"none"` leaves them as they are.
            `"flip"` mirrors half of them. `"flip_crop"` also moves them by up to
            `crop_padding` pixels and fills the rest with zeros. `"inception"` takes a
            random part of 8% to 100% of the image's area, mirrors half of the parts,
            and distorts their colours. Defaults to `"none"`.
        crop_padding: Largest number of pixels by which `"flip_crop"` moves an image.
            Defaults to `4`.
        undistorted: Share of the training, at its end, in which `"inception"` only
            takes the middle of the image and mirrors half of the images. Defaults to
            `0.0`.
        batch_size: Number of images in a step, over all devices and machines together.
        epochs: Number of passes over the training images. Give either this or `steps`.
            Defaults to `None`.
        steps: Number of optimizer steps, which is rounded to whole passes. Give either
            this or `epochs`. Defaults to `None`.
        learning_rate: The largest learning rate.
        schedule: How the learning rate changes. `"constant"` keeps it, `"step"` divides
            it by 10 at each of the `boundaries`, and `"linear"` and `"cosine"` lower it
            to zero. Defaults to `"constant"`.
        boundaries: Shares of the training at which `"step"` divides the learning rate.
            Defaults to `()`.
        warmup: Share of the training in which the learning rate rises from zero.
            Defaults to `0.0`.
        momentum: Momentum of stochastic gradient descent. Defaults to `0.9`.
        nesterov: Whether the momentum is Nesterov's. Defaults to `False`.
        weight_decay: The papers' coupled weight decay w of all kernels, which adds
            w times the kernel to its gradient (Keras' `L2(w / 2)`). Defaults to `0.0`.
        label_smoothing: Part of the target that is divided equally among all classes.
            Defaults to `0.0`.
        displacement_start: Where learned displacements start. `"grouped"` is the
            pattern of the grouped shift, and `"fractional"` is uniform in [-1, 2), as
            in the SSL authors' later code. Defaults to `"grouped"`.
        displacement_gradient_factor: Factor for the gradients of displacements, which
            are tiny. It multiplies the gradient of their penalty, too. Defaults to
            `1.0`.
        displacement_penalty: λ of Eq. 4 of the SSL paper. Defaults to `0.0`.
        displacement_norm: `"l2"` for λ times the sum of squares, which the paper's
            experiments use, or `"l1"` for λ times the sum of absolute values, as in
            Eq. 4. Defaults to `"l2"`.
        displacement_decay: Another way to state the penalty, which does not depend on
            the learning rate and the length of the training. Without any other
            gradient, `exp(-displacement_decay)` of a displacement is left when shifts
            freeze. (The paper's λ of 1e-4 over its first 32k steps is 6.4.) Defaults to
            `0.0`.
        displacement_costs: How `displacement_decay` differs between layers. `"uniform"`
            makes it the same in all of them, and `"pixels"` makes it proportional to
            the number of pixels of a layer's map, with the same mean over channels.
            Defaults to `"uniform"`.
        freeze_shifts: Share of the training after which displacements stay at their
            rounded values, or `None`. With `unshifted`, this is also when the first
            shifts are taken away. Defaults to `None`.
        least_shifted: Share of a layer's channels. If fewer channels of a layer are
            shifted when shifts freeze, all its shifts are taken away, since the first
            shift of a layer costs more than the next ones. Defaults to `0.0`.
        initial_weights: Name of published weights of this network with which the
            training begins, or `None` for random weights. Defaults to `None`.
        unshifted: Share of unshifted channels at the end, or `None`.
            `keras_shift.training.SparsifyShifts` takes the other shifts away, those
            first that matter least for what they cost, in the first half of what
            follows `freeze_shifts` (or of the whole training). Defaults to `None`.
        layer_cost: What it costs that a layer shifts at all, as a number of its
            channels. The larger it is, the more layers lose all their shifts on the way
            to `unshifted`. Defaults to `0.0`.
        ema_momentum: Momentum of a moving average of all trainable weights, which
            replaces the weights at the end, or `None`. Defaults to `None`.
        seed: Seed of weights, order and augmentation. Defaults to `0`.
        precision: Keras' dtype policy. Defaults to `"float32"`.
        source: Where the recipe comes from. Defaults to `""`.

    Raises:
        ValueError: If a field has none of the values above, or if fields contradict
            each other.
    """

    name: str
    network: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str
    augmentation: str = "none"
    crop_padding: int = 4
    undistorted: float = 0.0
    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    learning_rate: float
    schedule: str = "constant"
    boundaries: tuple[float, ...] = ()
    warmup: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    displacement_start: str = "grouped"
    displacement_gradient_factor: float = 1.0
    displacement_penalty: float = 0.0
    displacement_norm: str = "l2"
    displacement_decay: float = 0.0
    displacement_costs: str = "uniform"
    freeze_shifts: float | None = None
    least_shifted: float = 0.0
    initial_weights: str | None = None
    unshifted: float | None = None
    layer_cost: float = 0.0
    ema_momentum: float | None = None
    seed: int = 0
    precision: str = "float32"
    source: str = ""

    def __post_init__(self) -> None:
        for holds, rule, fields in _RULES:
            for field in fields:
                if not holds(getattr(self, field)):
                    self._refuse(field, rule)
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        # JSON has no tuples. A recipe that it has held is to equal the one before.
        arguments = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in self.arguments.items()
        }
        object.__setattr__(self, "arguments", arguments)
        self._check_together()

    def _check_together(self):
        """Refuses fields that contradict each other."""
        if (self.epochs is None) == (self.steps is None):
            self._refuse("epochs", "or `steps` must be given, and not both")
        if self.displacement_penalty and self.displacement_decay:
            self._refuse("displacement_decay", "excludes `displacement_penalty`")
        if self.displacement_decay and self._never_learn():
            self._refuse(
                "displacement_decay",
                "needs shifts that learn: a `freeze_shifts` of more than 0, or neither "
                "`freeze_shifts` nor `unshifted`",
            )
        if self.displacement_costs != "uniform" and not self.displacement_decay:
            self._refuse("displacement_costs", "belongs to `displacement_decay`")
        if self.least_shifted and self.freeze_shifts is None:
            self._refuse("least_shifted", "belongs to `freeze_shifts`")
        if self.least_shifted and self.unshifted is not None:
            self._refuse("least_shifted", "excludes `unshifted`")
        if self.layer_cost and self.unshifted is None:
            self._refuse("layer_cost", "belongs to `unshifted`")
        increasing = sorted(set(self.boundaries))
        if list(self.boundaries) != increasing or any(
            not 0 < boundary < 1 for boundary in increasing
        ):
            self._refuse("boundaries", "must increase, between 0 and 1")
        if (self.schedule == "step") != bool(self.boundaries):
            self._refuse("boundaries", 'belong to schedule="step", which needs them')

    def _never_learn(self):
        """Returns whether displacements stay as they are from the first step on."""
        if self.unshifted is not None:
            return not self.freeze_shifts
        return self.freeze_shifts == 0

    def epochs_of(self, images: int) -> int:
        """Returns the number of passes over the training images.

        Args:
            images: Int, number of training images.

        Returns:
            An int.

        Raises:
            ValueError: If there are fewer images than a batch has.
        """
        if self.epochs is not None:
            return self.epochs
        # Without `epochs` there are `steps`.
        passes = self.steps / self.steps_per_epoch(images)  # type: ignore[operator]
        return max(1, round(passes))

    def steps_per_epoch(self, images: int) -> int:
        """Returns the number of steps in a pass, without an incomplete last batch.

        Args:
            images: Int, number of training images.

        Returns:
            An int.

        Raises:
            ValueError: If there are fewer images than a batch has.
        """
        steps = images // self.batch_size
        if not steps:
            self._refuse("batch_size", f"exceeds the {images} training images")
        return steps

    def to_json(self) -> str:
        """Returns the recipe as text, which `from_json` reads."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: String.

        Returns:
            A `Recipe`.

        Raises:
            ValueError: If the text is no recipe.
        """
        saved = fields_of(text, "recipe")
        try:
            return cls(**with_new_names(saved, _NEW_NAMES))
        except TypeError as error:
            raise ValueError(f"This is no recipe: {error}") from error

    def _refuse(self, field, rule):
        raise ValueError(
            f"Argument `{field}` of a recipe {rule}. "
            f"Received: {field}={getattr(self, field)!r}"
        )
