"""What one sees of a training while it runs."""

import time

import keras
import rich.console
import rich.progress


class ProgressBar(keras.callbacks.Callback):
    """Shows a bar over the whole training, and one line for every epoch.

    Where nobody watches, in a file or a pipe, there are the lines alone. It is a
    context manager, too, which leaves the terminal as it was however the training ends.

    Args:
        recipe: A `Recipe`.
        epoch: Number of epochs that are complete.
        epochs: Number of all epochs.
        steps: Number of steps of an epoch.
    """

    def __init__(self, recipe, epoch, epochs, steps):
        super().__init__()
        self.recipe = recipe
        self.epochs = epochs
        self.steps = steps
        self.first = epoch

    def __enter__(self):
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

    def __exit__(self, *exception):
        self._bar.stop()

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._epoch_began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        logs = logs or {}
        seconds = time.monotonic() - self._epoch_began
        speed = (batch + 1) * self.recipe.batch_size / seconds
        self._bar.update(
            self._task,
            completed=self._epoch * self.steps + batch + 1,
            state=f"epoch {self._epoch + 1}/{self.epochs}, {_values(logs)}, "
            f"{speed:.0f} images/s",
        )

    def on_epoch_end(self, epoch, logs=None):
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
