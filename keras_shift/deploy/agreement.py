"""Compares what two models answer for the same images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a converted model's outputs are from the original's.

    Attributes:
        images: Number of images compared.
        top1: Share of the images for which both models' largest output is in the
            same place; for maps, whose outputs have more than two dimensions, share
            of their pixels with the largest output in the same channel, which comes
            last. Where an output is not a number, it counts as different.
        largest_difference: Largest absolute difference of two outputs.
        largest_output: Largest absolute output of the original.
        lowest: Smallest output of the original, with its sign.
        highest: Largest output of the original, with its sign.
    """

    images: int
    top1: float
    largest_difference: float
    largest_output: float
    lowest: float
    highest: float

    @property
    def relative_difference(self) -> float:
        """Largest difference as a share of the largest output."""
        return self.largest_difference / (self.largest_output or 1.0)


def compare(outputs: ArrayLike, reference: ArrayLike) -> Agreement:
    """Compares two models' outputs for the same images.

    Args:
        outputs: Array of shape `(images, ...)`, the converted model's outputs.
        reference: Array of the same shape, the original's outputs.

    Returns:
        An `Agreement`.

    Raises:
        ValueError: If the shapes differ, or there is no image.
    """
    outputs = np.asarray(outputs, "float64")
    reference = np.asarray(reference, "float64")
    if outputs.shape != reference.shape or not outputs.size:
        raise ValueError(
            "Arguments `outputs` and `reference` must have the same shape and at "
            f"least one image. Received: outputs.shape={outputs.shape}, "
            f"reference.shape={reference.shape}"
        )
    count = len(outputs)
    scores = outputs.reshape(count, -1) if outputs.ndim < 3 else outputs
    expected = reference.reshape(scores.shape)
    same = scores.argmax(-1) == expected.argmax(-1)
    # `argmax` returns the place of a NaN as that of the largest.
    same &= ~(np.isnan(scores) | np.isnan(expected)).any(axis=-1)
    return Agreement(
        images=count,
        top1=float(np.mean(same)),
        largest_difference=float(np.abs(outputs - reference).max()),
        largest_output=float(np.abs(reference).max()),
        lowest=float(reference.min()),
        highest=float(reference.max()),
    )


def pool(agreements: Sequence[Agreement]) -> Agreement:
    """Returns the agreement on all images of several batches.

    Args:
        agreements: A list of the batches' `Agreement`s.
    """
    images = sum(part.images for part in agreements)

    # NumPy's `max` and `min` return NaN if there is one. Those of Python return it only
    # in some orders.
    def gathered(function, field):
        return float(function([getattr(part, field) for part in agreements]))

    return Agreement(
        images=images,
        top1=sum(part.top1 * part.images for part in agreements) / images,
        largest_difference=gathered(np.max, "largest_difference"),
        largest_output=gathered(np.max, "largest_output"),
        lowest=gathered(np.min, "lowest"),
        highest=gathered(np.max, "highest"),
    )
