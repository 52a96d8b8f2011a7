"""Recipes as data."""

import dataclasses
import json

import pytest

from keras_shift.training import Recipe

RECIPE = Recipe(
    name="test",
    network="FENet",
    dataset="cifar10",
    batch_size=8,
    epochs=2,
    learning_rate=0.1,
)


def test_json_keeps_all_fields():
    recipe = dataclasses.replace(
        RECIPE,
        arguments={"alpha": 0.5, "classes": 10, "input_shape": (8, 8, 3)},
        schedule="step",
        boundaries=(0.5, 0.75),
        freeze_shifts=0.75,
        ema_momentum=0.999,
    )
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "x"}', '{"other": 1}', "[" * 100_000]
)
def test_refuses_what_is_no_recipe(text):
    with pytest.raises(ValueError, match="This is no recipe"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    "field, value",
    [
        ("augmentation", "crop"),
        ("schedule", "exponential"),
        ("displacement_start", "zero"),
        ("displacement_norm", "l3"),
        ("precision", "int8"),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("batch_size", 8.0),
        ("epochs", -1),
        ("epochs", "2"),
        ("seed", 0.5),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "0.1"),
        ("displacement_gradient_factor", -1),
        ("weight_decay", -1e-4),
        ("displacement_penalty", -1e-4),
        ("displacement_decay", -1),
        ("displacement_costs", "area"),
        ("displacement_costs", "pixels"),
        ("least_shifted", 1.0),
        ("least_shifted", 0.1),
        ("initial_weights", ""),
        ("initial_weights", 3),
        ("unshifted", 1.5),
        ("layer_cost", -1),
        ("layer_cost", 1.0),
        ("warmup", 1.0),
        ("undistorted", -0.1),
        ("freeze_shifts", 1.1),
        ("ema_momentum", -1),
        ("boundaries", (0.5,)),
        ("boundaries", ("half",)),
        ("boundaries", 0.5),
        ("name", 3),
        ("network", ["FENet"]),
        ("dataset", None),
        ("arguments", ["alpha"]),
        ("nesterov", "yes"),
        ("source", 3),
    ],
)
def test_refuses_values_that_make_no_sense(field, value):
    with pytest.raises(ValueError, match=f"`{field}` .*Received: {field}="):
        dataclasses.replace(RECIPE, **{field: value})


def test_a_penalty_is_stated_in_one_way():
    with pytest.raises(ValueError, match="excludes `displacement_penalty`"):
        dataclasses.replace(RECIPE, displacement_decay=5, displacement_penalty=1e-4)


@pytest.mark.parametrize(
    "fields",
    [{"freeze_shifts": 0}, {"unshifted": 0.9}, {"freeze_shifts": 0, "unshifted": 0.9}],
)
def test_only_shifts_that_learn_decay(fields):
    with pytest.raises(ValueError, match="`displacement_decay` .* shifts that learn"):
        dataclasses.replace(RECIPE, displacement_decay=5, **fields)


def test_shifts_that_are_taken_away_leave_no_layer_to_be_emptied():
    with pytest.raises(ValueError, match="`least_shifted` .* excludes `unshifted`"):
        dataclasses.replace(RECIPE, freeze_shifts=0.5, unshifted=0.9, least_shifted=0.1)


def test_json_with_values_of_wrong_types_names_the_field():
    fields = json.loads(RECIPE.to_json())
    for field, value in [("boundaries", 0.5), ("arguments", 3), ("nesterov", "yes")]:
        with pytest.raises(ValueError, match=f"`{field}` .*Received: {field}="):
            Recipe.from_json(json.dumps({**fields, field: value}))


@pytest.mark.parametrize("boundaries", [(), (0.0, 0.5), (0.75, 0.5), (0.5, 1.0)])
def test_refuses_boundaries_that_do_not_increase(boundaries):
    with pytest.raises(ValueError, match="`boundaries`"):
        dataclasses.replace(RECIPE, schedule="step", boundaries=boundaries)


def test_epochs_or_steps():
    for given in ({"steps": 10}, {"epochs": None}):
        with pytest.raises(ValueError, match="must be given, and not both"):
            dataclasses.replace(RECIPE, **given)


def test_steps_become_whole_epochs():
    # The papers' 64k steps of batch 128 are 164 passes over CIFAR.
    recipe = dataclasses.replace(RECIPE, epochs=None, steps=64_000, batch_size=128)
    assert recipe.steps_per_epoch(50_000) == 390
    assert recipe.epochs_of(50_000) == 164
    assert dataclasses.replace(RECIPE, epochs=3).epochs_of(50_000) == 3


def test_refuses_batches_larger_than_the_dataset():
    with pytest.raises(ValueError, match="exceeds the 7 training images"):
        RECIPE.steps_per_epoch(7)
