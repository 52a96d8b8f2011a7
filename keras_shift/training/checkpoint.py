"""Writes the whole state of a training into one file, and reads it."""

import dataclasses
import json
import os

import keras
import numpy as np

from keras_shift.files import replacing
from keras_shift.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Progress:
    """Says how far a training has come.

    Attributes:
        epoch: Number of complete epochs.
        rows: List of dicts, the logs of each complete epoch.
        recipe: The recipe as text.
    """

    epoch: int
    rows: list[dict[str, float]]
    recipe: str


def save(path: str | os.PathLike[str], model: keras.Model, progress: Progress) -> None:
    """Writes a model's weights, its optimizer, its random seeds, and the progress.

    Args:
        path: Path of an `.npz` file.
        model: A compiled `keras.Model`.
        progress: A `Progress`.
    """
    arrays = {
        key: keras.ops.convert_to_numpy(variable)
        for key, variable in _state(model).items()
    }
    text = json.dumps(dataclasses.asdict(progress))
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, progress=np.array(text), **arrays)


def restore(path: str | os.PathLike[str], model: keras.Model, recipe: str) -> Progress:
    """Reads what `save` wrote into a model.

    Args:
        path: Path of an `.npz` file.
        model: A `keras.Model` like the one that was saved, compiled in the same way.
        recipe: The recipe as text.

    Returns:
        The `Progress` that was saved.

    Raises:
        ValueError: If the file is damaged or belongs to another training.
    """
    try:
        with open(path, "rb") as file, np.load(file) as members:
            arrays = dict(members)
        progress = Progress(**json.loads(str(arrays.pop("progress"))))
    # The type of the error depends on where the file is damaged.
    except Exception as error:
        raise ValueError(f"{path} is no checkpoint, or damaged: {error}") from error
    if differences := _differences(progress.recipe, recipe):
        raise ValueError(
            f"{path} is the checkpoint of another recipe: {', '.join(differences)}."
        )
    state = _state(model)
    shapes = {key: tuple(variable.shape) for key, variable in state.items()}
    if shapes != {key: array.shape for key, array in arrays.items()}:
        raise ValueError(f"{path} is the checkpoint of another network or optimizer.")
    for key, variable in state.items():
        variable.assign(arrays[key])
    return progress


def _differences(stored, recipe):
    """Lists the fields in which two recipes differ; a missing field has its default."""
    old, new = (
        json.loads(Recipe.from_json(text).to_json()) for text in (stored, recipe)
    )
    return [
        f"its {field} was {old[field]!r} and now is {new[field]!r}"
        for field in new
        if old[field] != new[field]
    ]


def _state(model):
    """Returns all variables that training changes, always in the same order."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [v for v in model.variables if id(v) not in metrics]
    parts = {"model": variables, "optimizer": model.optimizer.variables}
    # The keys cannot be the variables' names: Keras numbers those anew for every model
    # of a process.
    return {
        f"{part}_{index}": variable
        for part, members in parts.items()
        for index, variable in enumerate(members)
    }
