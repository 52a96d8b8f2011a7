"""Defines the recipes of ShiftNet-A, B and C."""

from keras_shift.recipe import Recipe

RECIPES = tuple(
    Recipe(
        name=f"imagenet2012.{network}",
        network=network,
        dataset="imagenet2012",
        augmentation="inception",
        batch_size=2048,
        epochs=90,
        learning_rate=0.8,
        schedule="step",
        boundaries=(30 / 90, 60 / 90),
        # The paper prints no weight decay. This value is ours.
        weight_decay=2e-4,
        source="ShiftNet paper, section 4.1",
    )
    for network in ("shiftnet_a", "shiftnet_b", "shiftnet_c")
)
