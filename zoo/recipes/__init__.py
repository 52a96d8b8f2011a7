"""Lists the recipes by which the networks of the zoo are trained."""

import difflib
import fnmatch
from typing import Any

import keras

from keras_shift.recipe import Recipe
from keras_shift.zoo import models
from keras_shift.zoo.recipes import fenet, mobilenet_v2, shiftnet, shiftresnet

_RECIPES = {
    recipe.name: recipe
    for family in (fenet, mobilenet_v2, shiftnet, shiftresnet)
    for recipe in family.RECIPES
}


def list_recipes(pattern: str = "*") -> list[str]:
    """Lists the names of recipes.

    Example:

    >>> keras_shift.zoo.recipes.list_recipes("imagenet2012.fenet_1*")
    ['imagenet2012.fenet_1.0', 'imagenet2012.fenet_1.375']

    Args:
        pattern: Pattern that the names must match. `*` stands for any text and `?`
            for any character. Defaults to `"*"`.

    Returns:
        A list of strings.
    """
    return fnmatch.filter(_RECIPES, pattern)


def get_recipe(name: str) -> Recipe:
    """Returns a recipe by name.

    Example:

    >>> recipe = keras_shift.zoo.recipes.get_recipe("imagenet2012.fenet_1.0")
    >>> recipe.batch_size
    1024

    Args:
        name: A name that `list_recipes` lists.

    Returns:
        A `keras_shift.training.Recipe`.

    Raises:
        ValueError: If there is no such recipe.
    """
    if name not in _RECIPES:
        close = difflib.get_close_matches(name, _RECIPES, n=5, cutoff=0.4)
        hint = f"Did you mean one of {close}? " if close else ""
        raise ValueError(
            f"There is no recipe of this name. {hint}`keras-shift recipes` lists "
            f"all names. Received: name={name!r}"
        )
    return _RECIPES[name]


def build(recipe: Recipe, **arguments: Any) -> keras.Model:
    """Returns the network of a recipe with the weights that the training starts from.

    Example:

    >>> recipe = keras_shift.zoo.recipes.get_recipe("cifar10.shiftresnet20_ssl")
    >>> model = keras_shift.zoo.recipes.build(recipe)
    >>> model.name
    'shiftresnet20_ssl'

    Args:
        recipe: A `keras_shift.training.Recipe`.
        **arguments: Further arguments of the network's constructor. They override
            the recipe's.

    Returns:
        A `keras.Model` with the recipe's regularizers, precision and initial weights
        (random ones depend on its seed). It is not compiled.

    Raises:
        ValueError: If there is no such network, or if it has no such argument or
            weights.
    """
    implied = {}
    if recipe.weight_decay:
        implied["kernel_regularizer"] = keras.regularizers.L2(recipe.weight_decay / 2)
    if recipe.displacement_penalty:
        norms = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
        penalty = norms[recipe.displacement_norm](recipe.displacement_penalty)
        implied["displacement_regularizer"] = penalty
    if recipe.displacement_start == "fractional":
        start = keras.initializers.RandomUniform(-1, 2)
        implied["displacement_initializer"] = start
    keras.utils.set_random_seed(recipe.seed)
    arguments = {**implied, **recipe.arguments, **arguments}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = models.get_model(recipe.network, **arguments)
        if recipe.initial_weights is not None:
            width = {k: v for k, v in arguments.items() if k == "alpha"}
            start = models.get_model(
                recipe.network, weights=recipe.initial_weights, **width
            )
            # The weights are not loaded by the constructor, since that refuses another
            # `max_displacement` or `without_shift` than they were trained with.
            for layer in model.layers:
                if layer.weights:
                    layer.set_weights(start.get_layer(layer.name).get_weights())
        return model
    finally:
        keras.config.set_dtype_policy(before)
