"""What version 0.1.0 saved, in which some arguments had other names."""

import json

import pytest

from keras_shift.former_names import with_new_names
from keras_shift.layers import FusedUnit2D, SparseShift2D
from keras_shift.training import Recipe, ShiftSGD
from keras_shift.zoo import recipes

FUSED = FusedUnit2D(4, 8, pool_padding="same", output_relu=True, name="unit")


@pytest.mark.parametrize(
    "saved, former_names",
    [
        (SparseShift2D(input_relu=True, name="shift"), {"input_relu": "relu"}),
        (FUSED, {"pool_padding": "pool", "output_relu": "relu"}),
        (
            ShiftSGD(displacement_gradient_factor=8.0),
            {"displacement_gradient_factor": "displacement_learning_rate"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_configs(saved, former_names):
    config = saved.get_config()
    former = {former_names.get(key, key): value for key, value in config.items()}
    assert former.keys() != config.keys()
    kept = dict(former)
    assert type(saved).from_config(former).get_config() == config
    assert former == kept


def test_units_were_of_float32():
    config = FUSED.get_config()
    assert config.pop("precision") == "float32"
    assert FusedUnit2D.from_config(config).precision == "float32"


def test_recipes():
    recipe = recipes.get_recipe("tiny_imagenet.fenet_1.0.sparse")
    fields = json.loads(recipe.to_json())
    factor = fields.pop("displacement_gradient_factor")
    text = json.dumps({**fields, "displacement_learning_rate": factor})
    assert factor == 10 and Recipe.from_json(text) == recipe


def test_values_under_both_names_are_refused():
    fields = json.loads(recipes.get_recipe("tiny_imagenet.fenet_1.0").to_json())
    text = json.dumps({**fields, "displacement_learning_rate": 2.0})
    with pytest.raises(ValueError, match="is a former name of"):
        Recipe.from_json(text)


@pytest.mark.parametrize("text", ["[]", "3", '"name"', "null"])
def test_what_is_no_recipe_has_no_names(text):
    with pytest.raises(ValueError, match="This is no recipe: it is a"):
        Recipe.from_json(text)


def test_order_and_other_names_stay():
    renamed = with_new_names({"a": 1, "b": 2, "c": 3}, {"b": "z"})
    assert list(renamed.items()) == [("a", 1), ("z", 2), ("c", 3)]
