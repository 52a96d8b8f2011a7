"""Makes networks by name."""

import difflib
import fnmatch
import inspect
from typing import Any

import keras

from keras_shift.zoo import (
    fenet,
    mobilenet_v2,
    resnet,
    shiftfacenet,
    shiftnet,
    shiftresnet,
    style_transfer,
    variants,
)
from keras_shift.zoo.record import Record

# The variants are the papers' networks that classify.
_OTHERS = (
    mobilenet_v2.MobileNetV2,
    shiftfacenet.ShiftFaceNet,
    style_transfer.StyleTransferNet,
)

_CONSTRUCTORS = {constructor.__name__: constructor for constructor in _OTHERS} | {
    name: constructor
    for module in (fenet, resnet, shiftnet, shiftresnet)
    for name, constructor in vars(module).items()
    if name in {variant.constructor for variant in variants.VARIANTS.values()}
}


def list_models(pattern: str = "*") -> list[str]:
    """Lists the names of networks.

    Example:

    >>> keras_shift.zoo.list_models("shiftnet_?")
    ['shiftnet_a', 'shiftnet_b', 'shiftnet_c']

    Args:
        pattern: Pattern that the names must match. `*` stands for any text and `?`
            for any character. Defaults to `"*"`.

    Returns:
        A list of strings, in the order of docs/zoo.md.
    """
    return fnmatch.filter(variants.VARIANTS, pattern)


def get_model(name: str, /, **arguments: Any) -> keras.Model:
    """Instantiates a network by name.

    Example:

    >>> model = keras_shift.zoo.get_model("shiftresnet20_e3", classes=100)
    >>> model.count_params()
    104404

    Args:
        name: A name that `list_models` lists, or the name of a constructor, such as
            `"FENet"` or `"MobileNetV2"`.
        **arguments: Further arguments of the constructor. They override the
            arguments that the name stands for.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If there is no such network or it has no such argument.
    """
    constructor = _CONSTRUCTORS[constructor_name(name)]
    known = list(inspect.signature(constructor).parameters)
    if unknown := sorted(set(arguments) - set(known)):
        raise ValueError(
            f"{constructor.__name__} has the arguments {known}. Received: {unknown}"
        )
    if name in variants.VARIANTS:
        arguments = {"name": name, **variants.VARIANTS[name].arguments, **arguments}
    return constructor(**arguments)


def model_of_record(record: Record, /, **arguments: Any) -> keras.Model:
    """Instantiates the network of published weights, with these weights.

    Args:
        record: A `Record`.
        **arguments: Further arguments of the constructor.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If the constructor has no such argument.
    """
    alpha = record.arguments["alpha"]
    return get_model(
        record.constructor, alpha=alpha, weights=record.weights, **arguments
    )


def constructor_name(name: str) -> str:
    """Returns the name of the constructor that makes a network.

    Args:
        name: Name of a network, as `get_model` takes it.

    Returns:
        A string.

    Raises:
        ValueError: If there is no such network.
    """
    if name in _CONSTRUCTORS:
        return name
    if name not in variants.VARIANTS:
        known = [*variants.VARIANTS, *_CONSTRUCTORS]
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        hint = f"Did you mean one of {close}? " if close else ""
        raise ValueError(
            f"There is no network of this name. {hint}"
            "`keras_shift.zoo.list_models()` lists all names; constructors have "
            "theirs. "
            f"Received: name={name!r}"
        )
    return variants.VARIANTS[name].constructor


def model_counts() -> dict[str, variants.Counts]:
    """Returns what every network costs.

    Example:

    >>> keras_shift.zoo.model_counts()["fenet_1.0"].multiply_adds
    299676320

    Returns:
        A dict from the names that `list_models` lists to objects with the attributes
        `input_shape`, `classes`, `parameters` (trainable ones without displacements),
        `displacements` (two for each channel with a learned shift) and
        `multiply_adds` (MAdds).
    """
    return dict(variants.counts())
