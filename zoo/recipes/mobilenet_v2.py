"""Defines recipes that train MobileNetV2 as FE-Net is trained, for a comparison."""

import dataclasses

from keras_shift.zoo.recipes import fenet


def _instead(recipe):
    dataset, _, network = recipe.name.partition(".")
    return dataclasses.replace(
        recipe,
        name=f"{dataset}.{network.replace('fenet', 'mobilenet_v2')}",
        network="MobileNetV2",
        displacement_gradient_factor=1.0,
        freeze_shifts=None,
        # On CPUs it trains more slowly in bfloat16 (benchmarks/results/training.csv).
        precision="float32",
    )


RECIPES = tuple(
    _instead(recipe)
    for recipe in fenet.RECIPES
    if recipe.network == "fenet_1.0"
    # Recipes that differ from these only in what happens to shifts are left out.
    and recipe.unshifted is None and "spatial" not in recipe.arguments
)
