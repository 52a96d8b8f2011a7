"""Defines the recipes of ShiftResNets and ResNets on CIFAR."""

import dataclasses
from typing import Any

from keras_shift.recipe import Recipe

_CLASSES = {"cifar10": 10, "cifar100": 100}

_PAPER = Recipe(
    name="of every network below",
    network="resnet20",
    dataset="cifar10",
    augmentation="flip_crop",
    batch_size=128,
    steps=64_000,
    learning_rate=0.1,
    schedule="step",
    boundaries=(0.5, 0.75),
    # Neither paper prints a weight decay. This one is in the ShiftNet authors' code.
    weight_decay=5e-4,
    source="ShiftNet paper, section 4.1",
)

# This recipe has 15 epochs in one cycle instead of 164 epochs.
_SHORT = dataclasses.replace(
    _PAPER,
    steps=None,
    epochs=15,
    learning_rate=0.2,
    schedule="cosine",
    boundaries=(),
    warmup=0.2,
    nesterov=True,
    precision="mixed_bfloat16",
    source="ours, for two CPU cores",
)

# The paper freezes shifts after 48k of 64k steps. In a short training without a factor,
# hardly any displacement moves by half a pixel.
_LEARNED: dict[str, dict[str, Any]] = {
    "": {"freeze_shifts": 0.75, "source": "SSL paper, section 5.1"},
    ".short": {"freeze_shifts": 0.75, "displacement_gradient_factor": 20},
}

_PENALTIES = ("1e-4", "4e-4", "5e-4")

# Table 3 of the SSL paper takes the shifts of modules away in this order. Modules with
# the largest share of unshifted channels in Table 2 come first.
_LEAST_IMPORTANT = {
    "cifar10": ("2_1", "3_3", "3_1", "1_3", "1_1", "2_3", "1_2", "3_2"),
    "cifar100": ("2_1", "3_1", "1_3", "1_2", "1_1", "2_3", "3_3", "3_2"),
}


def _networks():
    """Yields names of recipes and networks, and λ if shifts are learned."""
    for depth in (20, 56, 110):
        yield f"resnet{depth}", f"resnet{depth}", None
        for expansion in (1, 3, 6, 9):
            name = f"shiftresnet{depth}_e{expansion}"
            yield name, name, None
    for depth in (20, 56):
        name = f"shiftresnet{depth}_ssl"
        yield f"{name}_grouped", f"{name}_grouped", None
        yield f"{name}_1x1_only", f"{name}_1x1_only", None
        yield name, name, "0"
        for penalty in _PENALTIES:
            yield f"{name}_lambda{penalty}", name, penalty


def _recipes():
    for dataset, classes in _CLASSES.items():
        for suffix, recipe in (("", _PAPER), (".short", _SHORT)):
            for name, network, penalty in _networks():
                learned: dict[str, Any] = {} if penalty is None else _LEARNED[suffix]
                yield dataclasses.replace(
                    recipe,
                    name=f"{dataset}.{name}{suffix}",
                    network=network,
                    arguments={"classes": classes},
                    dataset=dataset,
                    displacement_penalty=float(penalty or 0),
                    **learned,
                )
            for removed in (4, 6, 8):
                names = _LEAST_IMPORTANT[dataset][:removed]
                modules = tuple(f"group{n[0]}_module{n[2]}" for n in names)
                yield dataclasses.replace(
                    recipe,
                    name=f"{dataset}.shiftresnet20_ssl_without{removed}{suffix}",
                    network="shiftresnet20_ssl",
                    arguments={"classes": classes, "without_shift": modules},
                    dataset=dataset,
                    **_LEARNED[suffix],
                )


RECIPES = tuple(_recipes())
