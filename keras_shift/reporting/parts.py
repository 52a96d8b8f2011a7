"""What a report is made of: sections of tables and pictures."""

import base64
import dataclasses
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_shift.analysis import drawing

# Photographs are smaller as JPEG, and drawings are sharp at every size as SVG.
_TYPES = {"jpg": "image/jpeg", "svg": "image/svg+xml"}
_DOTS_PER_INCH = 120


@dataclasses.dataclass(frozen=True)
class Table:
    """Holds a table.

    Attributes:
        head: Names of the columns.
        rows: Texts of the cells, row by row. The first column holds names, the others
            hold numbers if `numbers` is true.
        numbers: Whether all columns but the first are aligned right. Defaults to
            `True`.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


@dataclasses.dataclass(frozen=True)
class Picture:
    """Holds a picture.

    Attributes:
        source: The picture as a data URL, with which a page needs no other file.
        caption: What there is to see.
    """

    source: str
    caption: str


@dataclasses.dataclass
class Section:
    """Holds what stands below one heading.

    Attributes:
        title: The heading.
        text: Paragraphs. Defaults to `()`.
        points: Points of a list below them. Defaults to `()`.
        tables: List of `Table`. Defaults to `[]`.
        pictures: List of `Picture`. Defaults to `[]`.
    """

    title: str
    text: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: list[Table] = dataclasses.field(default_factory=list)
    pictures: list[Picture] = dataclasses.field(default_factory=list)


def picture(axes: Any, caption: str, kind: str = "svg") -> Picture:
    """Returns the figure of Matplotlib axes as a picture, and closes it.

    Args:
        axes: Matplotlib axes, or an array of axes of one figure.
        caption: String, what there is to see.
        kind: `"svg"` or `"jpg"`. Defaults to `"svg"`.
    """
    figure = np.ravel(axes)[0].figure
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Letters of names that Matplotlib's font lacks become boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(file, format=kind, dpi=_DOTS_PER_INCH, facecolor="white")
    drawing.pyplot().close(figure)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(f"data:{_TYPES[kind]};base64,{encoded}", caption)
