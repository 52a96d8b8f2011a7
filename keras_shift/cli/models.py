"""Loads the network that a command is about."""

import argparse
import os
import re
import zipfile

import keras

from keras_shift import zoo
from keras_shift.cli.limits import check_classes
from keras_shift.cli.messages import say


def load(arguments: argparse.Namespace) -> keras.Model:
    """Returns the network of a .keras file or of the zoo.

    A network of the zoo has random weights unless trained ones are named, or it goes by
    their name.

    Args:
        arguments: Arguments of the command line.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If there is no such network, or it does not take the arguments.
    """
    if not arguments.name.endswith(".keras"):
        check_classes(arguments.classes)
        given = {
            "weights": arguments.weights,
            "input_shape": arguments.input_shape and tuple(arguments.input_shape),
            "classes": arguments.classes,
        }
        given = {key: value for key, value in given.items() if value is not None}
        if record := published(arguments):
            return zoo.models.model_of_record(record, **given)
        return zoo.get_model(arguments.name, **given)
    if arguments.classes is not None:
        raise ValueError(
            "The classes of a .keras file are those it was saved with. "
            f"Received: --classes {arguments.classes}"
        )
    if arguments.weights is not None:
        raise ValueError(
            f"A .keras file holds its weights. Received: --weights {arguments.weights}"
        )
    try:
        return keras.models.load_model(arguments.name, compile=False)
    # Which error Keras raises depends on what is wrong with the file.
    except Exception as error:
        raise ValueError(
            f"{arguments.name} cannot be loaded as a network: "
            f"{_why_not(arguments.name, error)}"
        ) from error


def published(arguments: argparse.Namespace) -> zoo.record.Record | None:
    """Returns the record of published weights if the network goes by their name.

    Only their name tells the width of a network that `keras-shift list` does not list.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If --weights names other ones, or the record is damaged.
    """
    if arguments.name not in zoo.list_weights():
        return None
    if arguments.weights is not None:
        raise ValueError(
            f"{arguments.name} is the name of trained weights already. "
            f"Received: --weights {arguments.weights}"
        )
    return zoo.get_record(arguments.name)


def record_of(arguments: argparse.Namespace) -> zoo.record.Record | None:
    """Returns the record of the weights that are loaded, if they are published ones.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If there are no such weights.
    """
    if record := published(arguments):
        return record
    name, weights = arguments.name, arguments.weights
    if weights is None or name.endswith(".keras") or os.path.isfile(weights):
        return None
    constructor = zoo.models.constructor_name(name)
    variant = zoo.variants.VARIANTS.get(name)
    alpha = variant.arguments.get("alpha", 1.0) if variant else 1.0
    return zoo.published_weights.find(constructor, weights, alpha)


def _why_not(path, error):
    if not os.path.exists(path):
        return "there is no such file."
    if os.path.isfile(path) and not zipfile.is_zipfile(path):
        return "it is damaged or no .keras file."
    text = str(error)
    if unknown := re.search(r"Could not locate class '(.+?)'", text):
        return (
            f"it has a layer of the class {unknown[1]}, which only the program that "
            "made it knows. Let that program call keras_shift.analysis or "
            "keras_shift.deploy."
        )
    # Keras puts the whole configuration in front of this text.
    return text.rpartition("Exception encountered: ")[2]


def load_with_weights(arguments: argparse.Namespace) -> keras.Model:
    """Returns a network for deployment.

    If no weights are named for a network of the zoo, it has the same random weights
    every time, and the user is told so.

    Args:
        arguments: Arguments of the command line.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If there is no such network, or it does not take the arguments.
    """
    if arguments.name.endswith(".keras"):
        if arguments.input_shape is not None:
            raise ValueError(
                "The network of a .keras file takes images of the shape it was saved "
                "with. Received: --input-shape "
                f"{' '.join(map(str, arguments.input_shape))}"
            )
        return load(arguments)
    keras.utils.set_random_seed(0)
    if arguments.weights is None and published(arguments) is None:
        say(
            f"{arguments.name} has random weights (of seed 0); name trained ones with "
            "--weights, or a .keras file."
        )
    return load(arguments)
