"""Runs the sub-command `keras-shift train`."""

import argparse
import dataclasses
import os

from keras_shift import training
from keras_shift.cli.messages import say
from keras_shift.cli.recipe_errors import network_of_recipe
from keras_shift.training import distribution
from keras_shift.training.trainer import WEIGHTS, check_backend, check_directory
from keras_shift.zoo import recipes


def run(arguments: argparse.Namespace) -> None:
    """Trains a network by a recipe.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If there is no such recipe, or it does not fit its network, the data
            or the output folder.
    """
    recipe = _changed(_recipe(arguments.recipe), arguments)
    output = arguments.output or os.path.join("runs", recipe.name)
    check_directory(output, arguments.resume)
    check_backend(recipe)
    with distribution.fail_fast(), distribution.scope():
        distribution.division().check_batch_size(recipe.batch_size)
        with network_of_recipe(arguments.recipe):
            model = recipes.build(recipe, classifier_activation=None)
        say(f"Loading {recipe.dataset}.")
        data = training.load_data(
            recipe.dataset,
            model.input_shape[1:3],
            arguments.data_dir,
            augmentation=recipe.augmentation,
        )
        say(f"Training {model.name} into {output}/.")
        rows = training.train(model, recipe, data, output, resume=arguments.resume)
    print(
        f"{recipe.name}: top-1 {rows[-1]['val_accuracy']:.2%} on the held-out "
        f"images after {rows[-1]['epoch']} epochs. The weights are "
        f"{os.path.join(output, WEIGHTS)}."
    )


def _recipe(name):
    if not name.endswith(".json"):
        return recipes.get_recipe(name)
    with open(name, encoding="utf-8") as file:
        return training.Recipe.from_json(file.read())


def _changed(recipe, arguments):
    if arguments.epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=arguments.epochs, steps=None)
    given = {"seed": arguments.seed, "precision": arguments.precision}
    given = {key: value for key, value in given.items() if value is not None}
    return dataclasses.replace(recipe, **given)
