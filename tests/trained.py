"""A training that has ended, as small as can be, for the tests of what follows it."""

import csv
import json

import numpy as np

from keras_shift.environment import environment
from keras_shift.training import Recipe
from keras_shift.training.trainer import ENVIRONMENT, LOG, RECIPE, WEIGHTS
from keras_shift.zoo import recipes
from networks import load_tool, randomize

TOY = Recipe(
    name="toy.shiftresnet20_ssl",
    network="shiftresnet20_ssl",
    arguments={"alpha": 0.25, "classes": 4, "input_shape": (12, 12, 3)},
    dataset="toy",
    augmentation="flip",
    batch_size=16,
    epochs=1,
    learning_rate=0.01,
    seed=3,
)
NAME = "shiftresnet20.toy.ssl"
CLASSES = ["ant", "bee", "cat", "dog"]


def write_data(folder):
    """Writes the dataset "toy" for `load_data`: random pixels, and any labels."""
    random = np.random.default_rng(0)

    def images(count):
        return random.integers(0, 256, (count, 12, 12, 3)).astype("uint8")

    arrays = {"x_train": images(48), "x_test": images(40)}
    arrays |= {"y_train": np.arange(48) % 4, "y_test": np.arange(40) % 4}
    np.savez(folder / "toy.npz", **arrays, classes=np.array(CLASSES))
    return str(folder)


def write_run(directory, recipe=TOY):
    """Writes what a training leaves, of a network with random weights."""
    directory.mkdir()
    model = randomize(recipes.build(recipe), off=0)
    model.save_weights(directory / WEIGHTS)
    (directory / RECIPE).write_text(recipe.to_json())
    found = {**environment(), "git_commit": None}
    (directory / ENVIRONMENT).write_text(json.dumps(found))
    with open(directory / LOG, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss"])
        writer.writerows([[epoch + 1, 1.0] for epoch in range(recipe.epochs)])
    return model


def publisher(monkeypatch, weights, golden, *known):
    """The tool that publishes, into other folders, and with other recipes."""
    tool = load_tool("publish_weights")
    monkeypatch.setattr(tool, "WEIGHTS", weights)
    monkeypatch.setattr(tool, "GOLDEN", golden)
    for recipe in known:
        monkeypatch.setitem(recipes._RECIPES, recipe.name, recipe)
    monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", str(weights))
    return tool
