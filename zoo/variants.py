"""Knows every network of the two papers by name, what it costs, and their figures."""

import csv
import dataclasses
import functools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describes a network that has a name.

    Attributes:
        constructor: Name of the network's constructor.
        arguments: The constructor's arguments that make the network. Defaults to `{}`.
        source: The papers' tables with the network. Defaults to `""`.
        paper_multiply_adds: The MAdds or FLOPs that the papers print, or `""` if they
            print none. Defaults to `""`.
        paper_parameters: The number of parameters that the papers print, or `""` if
            they print none. Defaults to `""`.
        counting: How the papers count MAdds, a key of `COUNTINGS`. Defaults to
            `"multiply-adds"`.
        note: What a reader needs to know to compare the figures. Defaults to `""`.
    """

    constructor: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    paper_multiply_adds: str = ""
    paper_parameters: str = ""
    counting: str = "multiply-adds"
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Counts:
    """Holds what a network costs.

    Attributes:
        input_shape: Shape of the image, such as `(224, 224, 3)`.
        classes: Number of classes.
        parameters: Number of trainable parameters without displacements.
        displacements: Number of parameters that are displacements, two for each channel
            with a learned shift.
        multiply_adds: Number of MAdds for one image.
    """

    input_shape: tuple[int, ...]
    classes: int
    parameters: int
    displacements: int
    multiply_adds: int


# These functions turn MAdds into what the papers call MAdds or FLOPs.
COUNTINGS: dict[str, Callable[[int], int]] = {
    "multiply-adds": lambda multiply_adds: multiply_adds,
    # The SSL paper counts FLOPs like this on CIFAR.
    "two each": lambda multiply_adds: 2 * multiply_adds,
    # The ShiftNet paper's published code counts the first convolution as if it had 64
    # outputs and 1 input channel, but it has 16 outputs and 3 input channels.
    "published code": lambda multiply_adds: multiply_adds + 32 * 32 * 9 * (64 - 3 * 16),
}


def _variants():
    with open(_FOLDER / "variants.toml", "rb") as file:
        networks = tomllib.load(file)
    return {name: Variant(**fields) for name, fields in networks.items()}


VARIANTS: dict[str, Variant] = _variants()


@functools.cache
def counts() -> dict[str, Counts]:
    """Returns the `Counts` of every variant by name."""
    with open(_FOLDER / "counts.csv", newline="") as file:
        return {
            row["name"]: Counts(
                tuple(int(length) for length in row["input_shape"].split("x")),
                *(int(row[field.name]) for field in dataclasses.fields(Counts)[1:]),
            )
            for row in csv.DictReader(file)
        }


def compare(printed: str, value: float) -> str:
    """Says how a count agrees with the figure that a paper prints.

    Args:
        printed: A number with its unit, such as `"3.7M"` or `"211K"`.
        value: The count.

    Returns:
        `"match"`, `"match, cut off"` if the paper cut off digits and did not round, or
        the difference, such as `"-5.3%"`.
    """
    number, unit = printed[:-1], {"K": 1e3, "M": 1e6}[printed[-1]]
    decimals = len(number.partition(".")[2])
    # Zeros at the end of a whole number, as in "1400M", need not be exact digits.
    zeros = 0 if decimals else len(number) - len(number.rstrip("0"))
    last_digit = unit * 10.0 ** (zeros - decimals)
    target = round(float(number) * unit / last_digit)
    if round(value / last_digit) == target:
        return "match"
    if value // last_digit == target:
        return "match, cut off"
    return f"{value / (target * last_digit) - 1:+.1%}"


def figures(constructor: str) -> str:
    """Returns a table of a constructor's variants, with the papers' figures and ours.

    Args:
        constructor: Name of the constructor.

    Returns:
        A string, a Markdown table and the notes below it.
    """
    rows = [
        "Figures in millions; parameters are without learned displacements, and",
        "docs/zoo.md tells how they are counted. Names are `get_model`'s:",
        "",
        "| name | paper: MAdds or FLOPs, parameters | here: MAdds, parameters |",
        "|---|---|---|",
    ]
    for name, variant in VARIANTS.items():
        if variant.constructor == constructor:
            printed = variant.paper_multiply_adds, variant.paper_parameters
            here = counts().get(name)
            rows.append(
                f"| {name} | {', '.join(text or '-' for text in printed)} | "
                + (f"{here.multiply_adds / 1e6:.1f}, " if here else "")
                + (f"{here.parameters / 1e6:.2f} |" if here else "not counted yet |")
            )
    notes = [
        f"- {name}: {variant.note}"
        for name, variant in VARIANTS.items()
        if variant.constructor == constructor and variant.note
    ]
    return "\n".join([*rows, *[""][: len(notes)], *notes])
