"""What all pictures of this package share: axes, colours, the grid of displacements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE = "#0072B2"
ORANGE = "#E69F00"
RED = "#D55E00"
SKY = "#56B4E9"
GREY = "#999999"

# Letters beside bars have this size, in points.
_SMALL = 8

# Displacements beyond this many pixels have no place on the grid, which their number
# is written below.
FARTHEST = 12


def pyplot() -> Any:
    """Imports matplotlib.pyplot, which is no requirement of this package.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError(
            f"Pictures need Matplotlib ({error}). Install it with "
            '`pip install "keras-shift[plot]"`.'
        ) from error
    return matplotlib.pyplot


def one_axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    """Returns the given axes, or those of a new figure.

    Args:
        ax: Matplotlib axes, or `None`.
        width: Width of a new figure, in inches.
        height: Height of a new figure, in inches.
    """
    if ax is not None:
        return ax
    _, ax = pyplot().subplots(figsize=(width, height), layout="constrained")
    return ax


def many_axes(
    ax: "Sequence[Axes] | np.ndarray | None", count: int, side: float
) -> np.ndarray:
    """Returns one-dimensional axes, the given ones or those of a new figure.

    Args:
        ax: Array or list of Matplotlib axes, or `None`.
        count: How many axes are needed.
        side: Width of one panel of a new figure, in inches.

    Raises:
        ValueError: If `ax` has another number of axes.
    """
    if ax is None:
        # The fewest places stay empty, and the most panels are side by side.
        columns = min((5, 4, 3), key=lambda number: -count % number)
        columns = min(columns, count)
        rows = -(-count // columns)
        figure, grid = pyplot().subplots(
            rows,
            columns,
            squeeze=False,
            # There are two lines of text above each.
            figsize=(columns * side, rows * (side + 0.35) + 0.4),
            layout="constrained",
        )
        for unused in grid.flat[count:]:
            figure.delaxes(unused)
        return grid.flatten()[:count]
    given = np.ravel(np.asarray(ax, dtype=object))
    if len(given) != count:
        raise ValueError(
            f"Argument `ax` must be an array of {count} axes, one for each layer. "
            f"Received: {len(given)} axes"
        )
    return given


def displacement_grid(ax: "Axes", reach: int, labels: bool = True) -> None:
    """Makes axes a grid of displacements in pixels, as an image has its rows.

    Args:
        ax: Matplotlib axes.
        reach: Largest displacement that must be on the grid.
        labels: Whether the axes are labelled. Defaults to `True`.
    """
    ax.set_aspect("equal")
    ax.set_xlim(-reach - 0.5, reach + 0.5)
    # Rows are counted from top to bottom.
    ax.set_ylim(reach + 0.5, -reach - 0.5)
    step = max(1, reach // 3)
    ticks = np.arange(-(reach // step) * step, reach + 1, step)
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    ax.set_xticks(np.arange(-reach - 0.5, reach + 1), minor=True)
    ax.set_yticks(np.arange(-reach - 0.5, reach + 1), minor=True)
    ax.grid(which="minor", color="#DDDDDD", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.set_axisbelow(True)
    if labels:
        ax.set_xlabel("columns to the right, pixels")
        ax.set_ylabel("rows down, pixels")


def plain(ax: "Axes") -> None:
    """Takes away the frame's upper and right side, and draws a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)


def shorten(text: str, length: int) -> str:
    """Returns a text, cut if it is longer than `length` characters.

    Args:
        text: String.
        length: Int, the largest number of characters, the ellipsis included.
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def share_bars(
    ax: "Axes", names: Sequence[str], parts: np.ndarray, wholes: np.ndarray
) -> np.ndarray:
    """Prepares axes for bars that are shares of grey ones, from top to bottom.

    Args:
        ax: Matplotlib axes.
        names: What stands left of each bar.
        parts: Array of integers, numbers of what the bars stand for. They stand to
            their right.
        wholes: Array of integers, numbers of all of which these are parts. They stand
            there, too.

    Returns:
        The positions of the bars, whose lengths are to be in percent.
    """
    positions = np.arange(len(names))
    ax.barh(positions, 100, color="#EEEEEE")
    for position, (part, whole) in enumerate(zip(parts, wholes)):
        text = f"{part:,} of {whole:,}"
        ax.text(101, position, text, va="center", fontsize=_SMALL)
    ax.set_yticks(positions, names, fontsize=_SMALL)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    ax.spines[["top", "right"]].set_visible(False)
    return positions
