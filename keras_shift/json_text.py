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


def fields_of(text: str, what: str) -> dict[str, Any]:
    """Returns the fields of the object that a text holds.

    Args:
        text: String.
        what: Name of what the text should hold, for the error.

    Returns:
        A dict.

    Raises:
        ValueError: If the text is no JSON, or holds something else than an object.
    """
    try:
        saved = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"This is no {what}: it is no JSON ({error})") from error
    if not isinstance(saved, dict):
        raise ValueError(
            f"This is no {what}: it is a {type(saved).__name__} and not an object"
        )
    return saved
