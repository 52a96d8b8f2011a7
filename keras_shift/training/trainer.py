"""Trains a network by a recipe. The training can be interrupted at any moment."""

import contextlib
import csv
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import keras

from keras_shift.callbacks import FreezeShifts, ShiftSparsityLogger
from keras_shift.environment import environment
from keras_shift.files import only_writer, replacing
from keras_shift.graph_walk import maker
from keras_shift.image_files import naming_unreadable
from keras_shift.recipe import Recipe
from keras_shift.training import checkpoint
from keras_shift.training.cross_entropy import CrossEntropy
from keras_shift.training.dataset import Dataset
from keras_shift.training.distribution import alone, division
from keras_shift.training.learning_rate import learning_rate
from keras_shift.training.optimizer import ShiftSGD
from keras_shift.training.penalty import penalize_shifts, strength_of_decay
from keras_shift.training.progress_bar import ProgressBar
from keras_shift.training.sparsify import SparsifyShifts

CHECKPOINT = "checkpoint.npz"
WEIGHTS = "final.weights.h5"
LOG = "log.csv"
RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"

# The importance of shifts is computed from this many images.
_JUDGED_IMAGES = 500

# HDF5 needs fewer bytes than this for an array's header and the groups that it is in.
_HDF5_OVERHEAD = 8192

_WRITTEN = (CHECKPOINT, WEIGHTS, LOG, RECIPE, ENVIRONMENT)


def compile_model(
    model: keras.Model, recipe: Recipe, steps: int, **options: Any
) -> None:
    """Compiles a classifier as a recipe says.

    Args:
        model: A `keras.Model` that returns logits or probabilities of classes.
        recipe: A `Recipe`.
        steps: Number of steps of the whole training.
        **options: Further arguments of `Model.compile`.
    """
    loss = CrossEntropy(
        classes=model.output_shape[-1],
        label_smoothing=recipe.label_smoothing,
        from_logits=not _gives_probabilities(model),
    )
    if recipe.displacement_decay:
        costs: Literal["pixels"] | None = (
            None if recipe.displacement_costs == "uniform" else "pixels"
        )
        penalize_shifts(model, strength_of_decay(recipe, steps), costs)
    averaging: dict[str, Any] = {}
    if recipe.ema_momentum is not None:
        averaging = {"use_ema": True, "ema_momentum": recipe.ema_momentum}
    model.compile(
        ShiftSGD(
            learning_rate(recipe, steps),
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            displacement_gradient_factor=recipe.displacement_gradient_factor,
            **averaging,
        ),
        loss,
        metrics=["accuracy"],
        **options,
    )


def _gives_probabilities(model):
    last = maker(model.outputs[0])
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    return softmax or isinstance(last, keras.layers.Softmax)


def check_directory(directory: str | os.PathLike[str], resume: bool) -> None:
    """Checks that a folder does not hold the results of another training.

    Args:
        directory: Path of a folder, which need not exist.
        resume: Whether to resume from the checkpoint in the folder.

    Raises:
        FileExistsError: If there is a checkpoint and `resume` is `False`, or if there
            are weights but no checkpoint.
    """
    directory = Path(directory)
    present = [name for name in (CHECKPOINT, WEIGHTS) if (directory / name).exists()]
    if CHECKPOINT in present and not resume:
        raise FileExistsError(
            f"{directory} already holds a training: go on with it (`resume=True`, or "
            "--resume), or name another folder."
        )
    if present == [WEIGHTS]:
        raise FileExistsError(
            f"{directory} holds the {WEIGHTS} of a training, and no {CHECKPOINT} to go "
            "on from: name another folder."
        )


def check_backend(recipe: Recipe) -> None:
    """Refuses a recipe that Keras' backend cannot follow.

    Args:
        recipe: A `keras_shift.training.Recipe`.

    Raises:
        ValueError: If it takes shifts away and the backend is torch.
    """
    if recipe.unshifted is not None and keras.backend.backend() == "torch":
        raise ValueError(
            f"The recipe {recipe.name} takes shifts away, which needs TensorFlow or "
            "JAX. Received: backend torch"
        )


def train(
    model: keras.Model,
    recipe: Recipe,
    data: Dataset,
    directory: str | os.PathLike[str],
    *,
    resume: bool = False,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    verbose: int = 1,
    **options: Any,
) -> list[dict[str, float]]:
    """Trains a network by a recipe.

    At the end of every epoch, a checkpoint is written into `directory`. A training that
    is interrupted, or even killed, and then resumed ends with the same weights as one
    that is not interrupted. At the end, `directory` holds these files:

    -   `final.weights.h5`, the weights;
    -   `log.csv`, a table with one row for each epoch;
    -   `tensorboard/`, a folder with the same logs, if TensorBoard and TensorFlow are
        installed;
    -   `recipe.json`, the recipe;
    -   `environment.json`, the versions and the machine with which the training began;
    -   `checkpoint.npz`, the checkpoint of the last epoch.

    Example:

    >>> rows = keras_shift.training.train(model, recipe, data, "run")
    >>> accuracy = rows[-1]["val_accuracy"]

    Args:
        model: A `keras.Model`, as the recipe describes it. It is compiled here.
        recipe: A `Recipe`.
        data: A `Data` or a `StreamedData`.
        directory: Path of a folder for the results, which is made if necessary. Several
            processes (see `keras_shift.training.distribution`) must share it. One of
            them writes, and meanwhile it locks the file `lock` in the folder.
        resume: Whether to resume from the checkpoint in `directory` if there is one.
            Defaults to `False`.
        callbacks: Further Keras callbacks. Defaults to `()`.
        verbose: `0` for silence, `1` for a progress bar. Defaults to `1`.
        **options: Further arguments of `Model.compile`, such as
            `steps_per_execution`.

    Returns:
        A list with a dict of logs for each epoch.

    Raises:
        FileExistsError: If `directory` holds a training and `resume` is `False`, or if
            another process is training into it.
        FloatingPointError: If the loss becomes infinite or NaN.
        ValueError: If the network does not have one output for each class, if the
            recipe takes shifts away on torch, if its batches cannot be divided among
            the devices, if the checkpoint is damaged or belongs to another recipe, or
            if an image of a `StreamedData` cannot be read.
    """
    directory = Path(directory)
    check_directory(directory, resume)
    check_backend(recipe)
    if model.output_shape[-1] != len(data.class_names):
        raise ValueError(
            f"The dataset {data.name} has {len(data.class_names)} classes, and the "
            f"network {model.name} must have as many outputs. Received: a model with "
            f"{model.output_shape[-1]}"
        )
    divided = division()
    divided.check_batch_size(recipe.batch_size)
    with contextlib.ExitStack() as stack:
        if divided.writes:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(directory, _WRITTEN))
            # Another training may have ended since the first check.
            check_directory(directory, resume)
        return _train(
            model, recipe, data, directory, divided, callbacks, verbose, **options
        )


def _train(model, recipe, data, directory, divided, callbacks, verbose, **options):
    latest = directory / CHECKPOINT
    steps_per_epoch = recipe.steps_per_epoch(data.train_count)
    epochs = recipe.epochs_of(data.train_count)
    compile_model(model, recipe, epochs * steps_per_epoch, **options)
    done = checkpoint.Progress(0, [], recipe.to_json())
    divided.check_agreement(latest)
    if latest.exists():
        done = checkpoint.restore(latest, model, recipe.to_json())
    if divided.writes:
        _write_origin(directory, recipe, begins=not done.epoch)
    arguments = data.fit_arguments(recipe, done.epoch, divided)
    recorder = Recorder(directory, done, divided.writes)
    followers = [
        *_recipe_callbacks(recipe, data, epochs, steps_per_epoch),
        *arguments.pop("callbacks"),
        ShiftSparsityLogger(),
        *callbacks,
    ]
    if recipe.ema_momentum is not None:
        followers.append(keras.callbacks.SwapEMAWeights())
    followers += [recorder, StopOnNaN(directory)]
    # Keras' callback needs both packages.
    writers = map(importlib.util.find_spec, ("tensorboard", "tensorflow"))
    if divided.writes and all(writers):
        followers.append(
            keras.callbacks.TensorBoard(directory / "tensorboard", write_graph=False)
        )
    with contextlib.ExitStack() as stack:
        if verbose and divided.writes:
            bar = ProgressBar(recipe, done.epoch, epochs, steps_per_epoch)
            followers.append(stack.enter_context(bar))
        if done.epoch < epochs:
            stack.enter_context(naming_unreadable(data.files))
            model.fit(
                **arguments,
                epochs=epochs,
                initial_epoch=done.epoch,
                callbacks=followers,
                shuffle=False,
                verbose=0,
            )
    if divided.writes:
        # If a callback ended the training early, the last checkpoint stays, from which
        # the training can be resumed.
        if done.epoch < epochs == len(recorder.rows):
            recorder.save()
        _write_weights(directory, model)
    return recorder.rows


def _write_origin(directory, recipe, begins):
    """Writes what trains, and on what it began."""
    with replacing(directory / RECIPE) as temporary:
        temporary.write_text(recipe.to_json(), encoding="utf-8")
    if begins:
        text = json.dumps(environment(), indent=2)
        with replacing(directory / ENVIRONMENT) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _recipe_callbacks(recipe, data, epochs, steps_per_epoch):
    """Returns the callbacks that do to shifts what a recipe says."""
    if recipe.unshifted is not None:
        sparsify = SparsifyShifts(
            *data.training_examples(_JUDGED_IMAGES),
            unshifted=recipe.unshifted,
            layer_cost=recipe.layer_cost,
            begin=recipe.freeze_shifts or 0.0,
        )
        return [sparsify]
    if recipe.freeze_shifts is not None:
        if epochs == 1:
            # There is no other epoch before which shifts could freeze.
            when = {"at_step": round(recipe.freeze_shifts * steps_per_epoch)}
        else:
            # Shifts would never freeze if that were rounded to the end.
            last = epochs - (recipe.freeze_shifts < 1)
            when = {"at_epoch": min(round(recipe.freeze_shifts * epochs), last)}
        return [FreezeShifts(**when, least_shifted=recipe.least_shifted)]
    return []


def _write_weights(directory, model):
    with replacing(directory / WEIGHTS) as temporary, alone():
        save_weights(temporary, model)


def save_weights(path: Path, model: keras.Model) -> None:
    """Saves a network's weights, or raises an error if there is no space for them.

    HDF5 crashes the process when the disk is full. Writing as many zeros first raises
    an error instead.

    Args:
        path: `pathlib.Path` of a `.weights.h5` file.
        model: A `keras.Model`.

    Raises:
        OSError: If the file cannot be written.
    """
    path.write_bytes(bytes(_most_bytes(model)))
    model.save_weights(path)


def _most_bytes(model):
    """Returns an upper bound for the size of a file of a model's weights."""
    # A model that was not compiled has none.
    optimizer = getattr(model, "optimizer", None)
    state = optimizer.variables if optimizer else []
    sizes = [
        keras.ops.convert_to_numpy(variable).nbytes
        for variable in (*model.variables, *state)
    ]
    return sum(sizes) + _HDF5_OVERHEAD * len(sizes)


class Recorder(keras.callbacks.Callback):
    """Writes the log and a checkpoint at the end of every epoch.

    After the last epoch it writes only the log: `fit` may still replace the weights
    with their moving average, and the last checkpoint must hold the final weights.

    Args:
        directory: `Path` of a folder.
        progress: `Progress` of the training so far.
        writes: Whether this process writes the files. Defaults to `True`.
    """

    def __init__(
        self, directory: Path, progress: checkpoint.Progress, writes: bool = True
    ) -> None:
        super().__init__()
        self.directory = directory
        self.writes = writes
        self.rows = list(progress.rows)
        self.recipe = progress.recipe

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        optimizer = self.model.optimizer
        row: dict[str, float] = {
            "epoch": epoch + 1,
            "steps": int(optimizer.iterations.numpy()),
        }
        row |= {key: float(value) for key, value in (logs or {}).items()}
        row["seconds"] = round(time.monotonic() - self._began, 1)
        self.rows.append(row)
        if not self.writes:
            return
        if epoch + 1 < self.params["epochs"]:
            self.save()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with replacing(self.directory / LOG) as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(self.rows)

    def save(self) -> None:
        """Writes a checkpoint of the training so far."""
        progress = checkpoint.Progress(len(self.rows), self.rows, self.recipe)
        checkpoint.save(self.directory / CHECKPOINT, self.model, progress)


class StopOnNaN(keras.callbacks.Callback):
    """Stops a training with an error when the loss becomes infinite or NaN.

    Args:
        directory: `Path` of the folder with the last checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            last = "No epoch has ended well."
            if (self.directory / CHECKPOINT).exists():
                last = f"{self.directory / CHECKPOINT} is of the last that ended well."
            raise FloatingPointError(
                f"The loss became {loss} in step {batch + 1} of an epoch. {last} Try a "
                "smaller `learning_rate`, a longer `warmup`, or the precision "
                '"float32".'
            )
