"""FE-Net's recipes."""

import dataclasses

from keras_shift.training.recipe import Recipe

_IMAGENET = Recipe(
    name="imagenet2012.fenet_1.0",
    network="fenet_1.0",
    dataset="imagenet2012",
    augmentation="inception",
    # "Withdrawn in last several epochs" (section 5.1); the paper does not say how many.
    undistorted=0.02,
    batch_size=1024,
    epochs=480,
    learning_rate=0.6,
    schedule="linear",
    weight_decay=4e-5,
    freeze_shifts=0.5,
    source="SSL paper, section 5.1",
)

# 64 x 64 pixels, the paper's network unchanged: its last map has 2 x 2 pixels.
_TINY_IMAGENET = Recipe(
    name="tiny_imagenet.fenet_1.0",
    network="fenet_1.0",
    arguments={"input_shape": (64, 64, 3), "classes": 200},
    dataset="tiny_imagenet",
    augmentation="flip_crop",
    crop_padding=8,
    batch_size=128,
    epochs=20,
    learning_rate=0.15,
    schedule="cosine",
    warmup=0.05,
    nesterov=True,
    weight_decay=1e-4,
    displacement_learning_rate=10,
    freeze_shifts=0.6,
    precision="mixed_bfloat16",
    source="ours, for two CPU cores",
)

_CIFAR100 = dataclasses.replace(
    _TINY_IMAGENET,
    name="cifar100.fenet_1.0",
    arguments={"input_shape": (32, 32, 3), "classes": 100, "output_stride": 16},
    dataset="cifar100",
    crop_padding=4,
)


def _at_other_widths(recipe, widths):
    dataset = recipe.name.split(".")[0]
    for alpha in widths:
        yield dataclasses.replace(
            recipe,
            name=f"{dataset}.fenet_{alpha}",
            network="FENet",
            arguments={**recipe.arguments, "alpha": alpha},
        )


RECIPES = (
    _IMAGENET,
    *_at_other_widths(_IMAGENET, (1.375,)),
    _TINY_IMAGENET,
    *_at_other_widths(_TINY_IMAGENET, (0.5, 0.75, 1.375)),
    _CIFAR100,
)
