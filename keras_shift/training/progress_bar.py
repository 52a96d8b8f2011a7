"""Shows on the terminal how a training proceeds."""

import time
from typing import Self

import keras
import rich.console
import rich.progress

from keras_shift.recipe import Recipe


class ProgressBar(keras.callbacks.Callback):
    """Shows one bar for the whole training and prints one line for every epoch.

    If the output is a file or a pipe, only the lines are printed. The callback must
    also be entered as a context manager, which removes the bar from the terminal even
    if the training fails.

    Args:
        recipe: A `Recipe`.
        epoch: Number of epochs that are already complete.
        epochs: Number of epochs of the whole training.
        steps: Number of steps of an epoch.
    """

    def __init__(self, recipe: Recipe, epoch: int, epochs: int, steps: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.epochs = epochs
        self.steps = steps
        self.first = epoch

    def __enter__(self) -> Self:
        console = rich.console.Console(stderr=True)
        self._bar = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            "{task.fields[state]}",
            rich.progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        total = self.epochs * self.steps
        self._task = self._bar.add_task(
            self.recipe.name, total=total, completed=self.first * self.steps, state=""
        )
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch
        self._epoch_began = time.monotonic()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        logs = logs or {}
        seconds = time.monotonic() - self._epoch_began
        speed = (batch + 1) * self.recipe.batch_size / seconds
        self._bar.update(
            self._task,
            completed=self._epoch * self.steps + batch + 1,
            state=f"epoch {self._epoch + 1}/{self.epochs}, {_values(logs)}, "
            f"{speed:.0f} images/s",
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        each = (time.monotonic() - self._began) / (epoch + 1 - self.first)
        left = each * (self.epochs - epoch - 1)
        self._bar.console.print(
            f"epoch {epoch + 1}/{self.epochs}: {_values(logs or {})}, "
            f"{_duration(each)} each, {_duration(left)} left",
            highlight=False,
            soft_wrap=True,
        )


def _values(logs):
    return ", ".join(f"{key} {value:.4g}" for key, value in logs.items())


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
