"""Finds the published weights of networks, and their records."""

import fnmatch
import hashlib
from pathlib import Path

from keras_shift.weights_folder import folder, published, recorded, weights_of
from keras_shift.zoo.record import Record

_NO_IMAGENET = (
    "FE-Net's authors never released weights, and nobody has trained ours on ImageNet "
    'yet; `keras_shift.zoo.recipes.list_recipes("imagenet2012.*")` lists the recipes '
    "that there are. "
)


def list_weights(pattern: str = "*") -> list[str]:
    """Lists the published weights.

    A name consists of the network's name and the name that its constructor and
    `get_model` take as `weights`. For example, `FENet(weights="tiny_imagenet")` has
    the weights `"fenet_1.0.tiny_imagenet"`.

    Example:

    >>> names = keras_shift.zoo.list_weights("*.tiny_imagenet")

    Args:
        pattern: Pattern that the names must match. `*` stands for any text and `?`
            for any character. Defaults to `"*"`.

    Returns:
        A list of strings.
    """
    return fnmatch.filter(published(), pattern)


def get_record(name: str) -> Record:
    """Returns the record of published weights.

    Example:

    >>> for name in keras_shift.zoo.list_weights():
    ...     record = keras_shift.zoo.get_record(name)
    ...     accuracy = record.top1

    Args:
        name: A name that `list_weights` lists.

    Returns:
        A `Record`, whose attributes are the fields of the JSON file beside the
        weights.

    Raises:
        ValueError: If there is no such record or it is damaged.
    """
    if not (folder() / f"{name}.json").is_file():
        raise ValueError(
            "There are no published weights of this name. "
            f"`keras_shift.zoo.list_weights()` lists: {list_weights()}. "
            f"Received: name={name!r}"
        )
    path = folder() / f"{name}.json"
    try:
        record = Record.from_json(path.read_text(encoding="utf-8"))
        if record.name != name:
            record.refuse("name", "must be the file's")
    except ValueError as error:
        raise ValueError(f"{path} is no record of weights: {error}") from error
    return record


def checked_file(record: Record) -> Path:
    """Checks the file of a record's weights and returns its path.

    Args:
        record: A `Record`.

    Returns:
        A `Path`.

    Raises:
        ValueError: If the file is missing, damaged, or not the record's.
    """
    path = weights_of(record.name)
    if not path.is_file():
        wrong = "is missing"
    elif (size := path.stat().st_size) != record.bytes:
        wrong = f"has {size} bytes in place of the {record.bytes} of its record"
    else:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == record.sha256:
                return path
        wrong = "is damaged or another file: its SHA-256 is not that of its record"
    raise ValueError(
        f"{path} {wrong}. Install keras-shift again (`pip install ./studies` in a "
        "clone of the repository brings the weights of keras-shift-studies: those of "
        "ShiftResNets, and FE-Net 1.0 as sparsified and emptied) or let the "
        "environment variable KERAS_SHIFT_WEIGHTS_DIR name a folder with undamaged "
        "weights and their records."
    )


def find(constructor: str, weights: str, alpha: float) -> Record:
    """Returns the record of a constructor's weights by their name and width.

    Args:
        constructor: Name of the constructor.
        weights: Name of the weights, as users pass it.
        alpha: Width of the network.

    Returns:
        A `Record`.

    Raises:
        ValueError: If there are no such weights.
    """
    records, damaged = [], []
    for name in recorded():
        try:
            record = get_record(name)
        except ValueError as error:
            damaged.append(str(error))
            continue
        if record.constructor == constructor:
            records.append(record)
    named = [record for record in records if record.weights == weights]
    for record in named:
        if record.arguments["alpha"] == alpha:
            return record
    unread = f"Some could not be read: {'; '.join(damaged)}. " if damaged else ""
    if named:
        widths = sorted(record.arguments["alpha"] for record in named)
        raise ValueError(
            f"The published weights {weights!r} of {constructor} are those of "
            f"alpha={' and '.join(map(str, widths))}. {unread}"
            f"Received: alpha={alpha}, weights={weights!r}"
        )
    names = sorted({record.weights for record in records})
    why_not = _NO_IMAGENET if weights in ("imagenet", "imagenet2012") else ""
    raise ValueError(
        "Argument `weights` must be None (random weights), the path of a .weights.h5 "
        f"file, or the name of published weights of {constructor}: "
        f"{names or 'there are none yet'}. {why_not}{unread}"
        f"Received: weights={weights!r}"
    )
