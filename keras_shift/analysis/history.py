"""How accuracy and sparsity went while a network was trained."""

import csv
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_shift.analysis import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOG = "log.csv"
_WEIGHTS = ".weights.h5"


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingHistory:
    """Holds what a training's log says of accuracy and sparsity, epoch by epoch.

    Attributes:
        name: Name of the training.
        steps: Array of the number of steps at the end of each epoch.
        accuracy: Array of the accuracies on the training images as they were augmented,
            from 0 to 1.
        val_accuracy: Array of the accuracies on held-out images, from 0 to 1.
        shift_sparsity: Array of the shares of unshifted channels, from 0 to 1, or
            `None` for a network without shifts.
    """

    name: str
    steps: np.ndarray
    accuracy: np.ndarray
    val_accuracy: np.ndarray
    shift_sparsity: np.ndarray | None

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws accuracy and sparsity over steps.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes.
        """
        ax = drawing.one_axes(ax, 6.4, 4)
        drawing.plain(ax)
        curves = [
            ("accuracy, held-out images", self.val_accuracy, drawing.BLUE, "-", "o"),
            ("accuracy, training images", self.accuracy, drawing.SKY, "--", "s"),
            ("unshifted channels", self.shift_sparsity, drawing.RED, "-.", "^"),
        ]
        for label, values, colour, line, marker in curves:
            if values is not None:
                ax.plot(
                    self.steps,
                    100 * values,
                    color=colour,
                    linestyle=line,
                    marker=marker,
                    markersize=4,
                    label=label,
                )
        ax.set_xlim(left=0)
        ax.set_ylim(0, 100)
        ax.set_xlabel("training steps")
        ax.set_ylabel("share, %")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.set_title(self.name, loc="left", fontsize="medium", pad=24)
        ax.legend(
            frameon=False,
            fontsize="small",
            ncols=3,
            loc="lower left",
            bbox_to_anchor=(-0.02, 0.99),
            borderaxespad=0.2,
        )
        return ax


def training_history(log: str | os.PathLike[str]) -> TrainingHistory:
    r"""Reads accuracy and sparsity over the steps of a training.

    Example:

    >>> with open("log.csv", "w") as file:
    ...     _ = file.write("epoch,steps,accuracy,val_accuracy,shift_sparsity\n")
    ...     _ = file.write("1,390,0.35,0.37,0.13\n2,780,0.56,0.33,0.67\n")
    >>> history = keras_shift.analysis.training_history("log.csv")
    >>> history.steps
    array([390, 780])

    Args:
        log: Path of a log.csv of `keras-shift train` or
            `keras_shift.training.train`, of the folder of a training, or of a
            .weights.h5 file with its .log.csv beside it, as published weights have it.

    Returns:
        A `TrainingHistory`, which `plot` draws.

    Raises:
        ValueError: If there is no such log.
    """
    path = _file(Path(log))
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = {
            name: np.array([float(row[name]) for row in rows])
            for name in ("steps", "accuracy", "val_accuracy")
        }
        # Networks without shifts have no such column.
        has_shifts = bool(rows) and "shift_sparsity" in rows[0]
        sparsity = [float(row["shift_sparsity"]) for row in rows] if has_shifts else []
    # Which error it is depends on what the file holds in place of a log.
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _no_log(log, f"{type(error).__name__}: {error}") from error
    if not rows:
        raise _no_log(log, "it has no complete epoch")
    name = path.name.removesuffix(".log.csv")
    if path.name == _LOG:
        name = path.resolve().parent.name
    return TrainingHistory(
        name=name,
        steps=columns["steps"].astype(int),
        accuracy=columns["accuracy"],
        val_accuracy=columns["val_accuracy"],
        shift_sparsity=np.array(sparsity) if has_shifts else None,
    )


def _file(path):
    if path.is_dir():
        return path / _LOG
    if path.name.endswith(_WEIGHTS):
        named = path.with_name(f"{path.name.removesuffix(_WEIGHTS)}.{_LOG}")
        return named if named.exists() else path.with_name(_LOG)
    return path


def _no_log(log, why):
    return ValueError(
        "Argument `log` must be the path of a log.csv with the columns steps, accuracy "
        "and val_accuracy, of a folder with a log.csv, or of a .weights.h5 file with "
        f"one beside it ({why}). Received: log={os.fspath(log)!r}"
    )
