"""Dataclasses as the text of JSON files, and what such a text holds."""

import dataclasses
import json
from typing import Any


def to_json(instance: Any) -> str:
    """Returns a dataclass as text, for people to read and for `fields_of`.

    Args:
        instance: Instance of a dataclass whose fields are numbers, strings, and tuples,
            lists and dicts of these.
    """
    return json.dumps(dataclasses.asdict(instance), indent=2) + "\n"


def fields_of(text: str) -> dict[str, Any]:
    """Returns the fields of the object that a text holds.

    Args:
        text: String.

    Raises:
        TypeError: If the text is no JSON, or holds something else than an object.
    """
    try:
        saved = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TypeError(f"it is no JSON ({error})") from error
    if not isinstance(saved, dict):
        raise TypeError(f"it is a {type(saved).__name__} and not an object")
    return saved
