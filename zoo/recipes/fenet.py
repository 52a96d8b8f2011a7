"""Defines FE-Net's recipes."""

import dataclasses

from keras_shift.recipe import Recipe

_IMAGENET = Recipe(
    name="imagenet2012.fenet_1.0",
    network="fenet_1.0",
    dataset="imagenet2012",
    augmentation="inception",
    # Augmentation is "withdrawn in last several epochs" (section 5.1). The paper does
    # not say how many.
    undistorted=0.02,
    batch_size=1024,
    epochs=480,
    learning_rate=0.6,
    schedule="linear",
    weight_decay=4e-5,
    freeze_shifts=0.5,
    source="SSL paper, section 5.1",
)

# This is the paper's network. For images of 64 x 64 pixels its last map has 2 x 2
# pixels.
_TINY_IMAGENET_DENSE = Recipe(
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
    displacement_gradient_factor=10,
    freeze_shifts=0.6,
    precision="mixed_bfloat16",
    source="ours, for two CPU cores",
)

# This network has few shifts, most of them in small maps and none by more than one
# pixel, since such shifts cost a file least. The first six epochs learn which shifts
# matter, and the next seven take most of the others away. MobileNetV2's recipe has the
# same precision.
_TINY_IMAGENET_SPARSE = dataclasses.replace(
    _TINY_IMAGENET_DENSE,
    name="tiny_imagenet.fenet_1.0.sparse",
    arguments={**_TINY_IMAGENET_DENSE.arguments, "max_displacement": 1},
    freeze_shifts=0.3,
    unshifted=0.9,
    precision="float32",
)

# This recipe also takes away the shifts of whole layers, in one training: that a layer
# shifts at all costs as much as 32 of its channels.
_TINY_IMAGENET_FEW_SHIFTS = dataclasses.replace(
    _TINY_IMAGENET_SPARSE,
    name="tiny_imagenet.fenet_1.0.few_shifts",
    unshifted=0.93,
    layer_cost=32.0,
    precision="mixed_bfloat16",
)

# At full width there is more accuracy to lose, and this recipe leaves more shifts.
_TINY_IMAGENET_WIDE_FEW_SHIFTS = dataclasses.replace(
    _TINY_IMAGENET_FEW_SHIFTS, unshifted=0.85
)

# This recipe takes shifts away from the dense weights, in a quarter of their epochs.
_TINY_IMAGENET_SPARSIFIED = dataclasses.replace(
    _TINY_IMAGENET_DENSE,
    name="tiny_imagenet.fenet_1.0.sparsified",
    arguments={**_TINY_IMAGENET_DENSE.arguments, "max_displacement": 1},
    initial_weights="tiny_imagenet",
    unshifted=0.85,
    epochs=5,
    learning_rate=0.05,
    displacement_gradient_factor=1.0,
    freeze_shifts=None,
    precision="float32",
)

# This recipe goes on from the sparse weights and takes away the shifts of whole layers.
_TINY_IMAGENET_EMPTIED = dataclasses.replace(
    _TINY_IMAGENET_SPARSIFIED,
    name="tiny_imagenet.fenet_1.0.emptied",
    initial_weights="tiny_imagenet.sparse",
    unshifted=0.93,
    layer_cost=32.0,
)

# At full width there are no weights by the sparse recipe: this recipe goes on from the
# sparsified weights. It, too, leaves more shifts.
_TINY_IMAGENET_WIDE_EMPTIED = dataclasses.replace(
    _TINY_IMAGENET_EMPTIED,
    initial_weights="tiny_imagenet.sparsified",
    unshifted=0.88,
    precision="mixed_bfloat16",
)

# These two say what shifts bring: 3x3 depthwise convolutions in place of them, and
# nothing.
_TINY_IMAGENET_WITHOUT_SHIFTS = tuple(
    dataclasses.replace(
        _TINY_IMAGENET_DENSE,
        name=f"tiny_imagenet.fenet_1.0.{spatial}",
        arguments={**_TINY_IMAGENET_DENSE.arguments, "spatial": spatial},
        displacement_gradient_factor=1.0,
        freeze_shifts=None,
        precision="float32",
    )
    for spatial in ("depthwise", "none")
)

_CIFAR100 = dataclasses.replace(
    _TINY_IMAGENET_DENSE,
    name="cifar100.fenet_1.0",
    arguments={"input_shape": (32, 32, 3), "classes": 100, "output_stride": 16},
    dataset="cifar100",
    crop_padding=4,
)

# A file's time depends more on which layers shift than on how many of their channels do
# (benchmarks/results/frontier.csv). So this recipe leaves shifts to a fifth of the
# channels, and that a layer shifts at all costs as much as eight of them.
_CIFAR100_SPARSE = dataclasses.replace(
    _TINY_IMAGENET_SPARSE,
    name="cifar100.fenet_1.0.sparse",
    arguments={**_CIFAR100.arguments, "max_displacement": 1},
    dataset="cifar100",
    crop_padding=4,
    unshifted=0.8,
    layer_cost=8.0,
)

# This recipe goes on from the sparse weights, without the shifts of three units. They
# take much time in a file (benchmarks/results/shift_costs.csv), and the network can do
# without them, but not without those of the first unit. Other shifts stay as they are.
_CIFAR100_EMPTIED = dataclasses.replace(
    _CIFAR100_SPARSE,
    name="cifar100.fenet_1.0.emptied",
    arguments={
        **_CIFAR100_SPARSE.arguments,
        "without_shift": ("fe_block1_unit1", "fe_block1_unit2", "fe_block2_unit2"),
    },
    initial_weights="cifar100.sparse",
    unshifted=None,
    layer_cost=0.0,
    epochs=5,
    learning_rate=0.05,
    displacement_gradient_factor=1.0,
    freeze_shifts=0.0,
)


def _at_other_widths(recipe, widths):
    for alpha in widths:
        yield dataclasses.replace(
            recipe,
            name=recipe.name.replace("fenet_1.0", f"fenet_{alpha}"),
            network="FENet",
            arguments={**recipe.arguments, "alpha": alpha},
        )


RECIPES = (
    _IMAGENET,
    *_at_other_widths(_IMAGENET, (1.375,)),
    _TINY_IMAGENET_DENSE,
    *_at_other_widths(_TINY_IMAGENET_DENSE, (0.5, 0.75, 1.375)),
    _TINY_IMAGENET_SPARSE,
    *_at_other_widths(_TINY_IMAGENET_SPARSE, (0.5, 0.75)),
    _TINY_IMAGENET_WIDE_FEW_SHIFTS,
    *_at_other_widths(_TINY_IMAGENET_FEW_SHIFTS, (0.5, 0.75)),
    _TINY_IMAGENET_SPARSIFIED,
    *_at_other_widths(_TINY_IMAGENET_EMPTIED, (0.75,)),
    _TINY_IMAGENET_WIDE_EMPTIED,
    *_TINY_IMAGENET_WITHOUT_SHIFTS,
    _CIFAR100,
    _CIFAR100_SPARSE,
    *_at_other_widths(_CIFAR100_SPARSE, (0.75,)),
    *_at_other_widths(_CIFAR100_EMPTIED, (0.75,)),
)
