"""Makes published weights of a training that has ended, and measures them again.

The command line and the tools use this module, which needs the zoo, training and
deployment at once.
"""

import contextlib
import csv
import dataclasses
import hashlib
import inspect
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_shift import analysis, deploy, training, zoo
from keras_shift.files import replacing
from keras_shift.image_batches import CALIBRATION_IMAGES
from keras_shift.image_files import naming_unreadable
from keras_shift.layers.shift_layer import LearnedShift, ShiftLayer
from keras_shift.training import trainer
from keras_shift.training.dataset import Dataset
from keras_shift.zoo import predictions, recipes, shiftresnet
from keras_shift.zoo.loading import FREE
from keras_shift.zoo.record import Record

_BATCH_SIZE = 250

# This is what the datasets' own terms allow.
_LICENCES = {
    "cifar10": "its authors state no licence and ask to be cited (Krizhevsky, 2009)",
    "cifar100": "its authors state no licence and ask to be cited (Krizhevsky, 2009)",
    "tiny_imagenet": "images of ImageNet, whose terms allow non-commercial research "
    "and education only",
    "imagenet2012": "ImageNet's terms allow non-commercial research and education only",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network and the recipe that trained it.

    Attributes:
        model: The `keras.Model`.
        recipe: The `keras_shift.training.Recipe`.
        path: Path of the file with its weights.
    """

    model: keras.Model
    recipe: training.Recipe
    path: Path


def read_run(path: str | os.PathLike[str], **arguments: Any) -> Run:
    """Reads a network that `keras_shift.training.train` has trained.

    Args:
        path: Path of the directory of the training, or of a `.weights.h5` file with
            `recipe.json` beside it.
        **arguments: Arguments of the network's constructor, which override those of
            the recipe.

    Returns:
        A `Run`.

    Raises:
        ValueError: If there is no training at this path, or one that has not ended.
    """
    path = Path(path)
    directory, weights = path.parent, path
    if path.is_dir():
        directory, weights = path, path / trainer.WEIGHTS
    for needed in (directory / trainer.RECIPE, weights):
        if not needed.is_file():
            raise ValueError(
                f"{path} is neither the directory of a training that has ended nor a "
                f".weights.h5 file with {trainer.RECIPE} beside it: there is no "
                f"{needed}."
            )
    text = (directory / trainer.RECIPE).read_text(encoding="utf-8")
    recipe = training.Recipe.from_json(text)
    model = zoo.get_model(
        recipe.network, **{**recipe.arguments, **arguments, "weights": str(weights)}
    )
    return Run(model, recipe, weights)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Accuracies of a network on the held-out images of its dataset.

    Attributes:
        images: Number of images.
        top1: Top-1 accuracy in float32, from 0 to 1.
        top5: Top-5 accuracy in float32, from 0 to 1.
        int8_top1: Top-1 accuracy of the int8 .tflite file, from 0 to 1, or `None` if
            it was not measured.
    """

    images: int
    top1: float
    top5: float
    int8_top1: float | None

    def rows(self) -> dict[str, str]:
        """Returns the accuracies in percent by name, as they are printed."""
        rows = {"top-1": self.top1, "top-5": self.top5, "int8 top-1": self.int8_top1}
        return {k: f"{value:.2%}" for k, value in rows.items() if value is not None}


def figures_of(record: Record) -> Figures:
    """Returns the `Figures` in a `keras_shift.zoo.record.Record`."""
    return Figures(record.images, record.top1, record.top5, record.int8_top1)


def measure(model: keras.Model, data: Dataset, int8: bool = True) -> Figures:
    """Measures the accuracies of a network, and of its int8 file if wanted.

    Args:
        model: A `keras.Model` of the zoo, with its classifier.
        data: A `keras_shift.training.Data` or `StreamedData`.
        int8: Boolean, whether to export an int8 .tflite file and measure it as well.
            Defaults to `True`.

    Returns:
        The `Figures`.

    Raises:
        ValueError: If an image of a `StreamedData` cannot be read.
    """
    with naming_unreadable(data.files):
        return _measure(model, data, int8)


def _measure(model, data, int8):
    held_out = data.held_out_batches(_BATCH_SIZE)
    accuracy = training.evaluate(model, held_out)
    if not int8:
        return Figures(accuracy.images, accuracy.top1, accuracy.top5, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.tflite"
        calibration, _ = data.training_examples(CALIBRATION_IMAGES)
        deploy.to_tflite(model, path, "int8", calibration)
        file = deploy.LiteRTModel(path)
        quantized = training.evaluate(
            file.predict, held_out, description="Evaluating int8"
        )
    return Figures(accuracy.images, accuracy.top1, accuracy.top5, quantized.top1)


def check_classes(data: Dataset, labels: Iterable[str]) -> None:
    """Refuses a dataset whose classes are not those of a network.

    Args:
        data: A `keras_shift.training.Data` or `StreamedData`.
        labels: Names of the network's classes, in its order.

    Raises:
        ValueError: If the dataset has other classes, or has them in another order.
    """
    if list(data.class_names) != list(labels):
        raise ValueError(
            f"The classes of this {data.name} are not those of the network, or in "
            f"another order. Received: {data.class_names[:5]}... in place of "
            f"{list(labels)[:5]}..."
        )


def publish(
    run: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    folder: str | os.PathLike[str],
    git_commit: str,
    weights: str | None = None,
) -> Record:
    """Writes the files of published weights: the weights, their log and their record.

    The network is measured on the held-out images, in float32 and as an int8 .tflite
    file.

    Args:
        run: Path of the directory of a training that has ended.
        data_dir: Folder of the dataset, see `keras_shift.training.load_data`.
        folder: Path of an existing folder for the files. Where there are files of these
            names, they are replaced, and all of them or none.
        git_commit: Hash of the commit of this repository that trained the network.
        weights: What users are to pass as `weights`, or `None` for what the recipe's
            name says. Defaults to `None`.

    Returns:
        The `Record`.

    Raises:
        ValueError: If the training has not ended, if its recipe does not name its
            network, or if the dataset has other classes than it usually has.
    """
    run, folder = Path(run), Path(folder)
    trained = read_run(run)
    recipe, model = trained.recipe, trained.model
    data = training.load_data(
        recipe.dataset, model.input_shape[1:3], data_dir, recipe.augmentation
    )
    _check_end(run / trainer.LOG, recipe.epochs_of(data.train_count))
    source = json.loads((run / trainer.ENVIRONMENT).read_text(encoding="utf-8"))
    class_names = _names_of_classes(data)
    stem, weights = names(recipe, weights)
    figures = measure(model, data)
    with contextlib.ExitStack() as files:
        # They take their places together, the record last: without it, the others are
        # nothing.
        record_path, weights_path, log_path = (
            files.enter_context(replacing(folder / f"{stem}{ending}"))
            for ending in (".json", ".weights.h5", ".log.csv")
        )
        shutil.copyfile(run / trainer.LOG, log_path)
        # This model has no optimizer, whose momentum is as large as the weights.
        trainer.save_weights(weights_path, model)
        record = Record(
            name=stem,
            weights=weights,
            constructor=zoo.models.constructor_name(recipe.network),
            arguments=_arguments(recipe),
            input_shape=model.input_shape[1:],
            dataset=recipe.dataset,
            classes=model.output_shape[-1],
            class_names=class_names,
            recipe=json.loads(recipe.to_json()),
            git_commit=git_commit,
            versions=source["versions"],
            backend=source["backend"],
            device=source["device"],
            seconds=_seconds(run / trainer.LOG),
            sha256=hashlib.sha256(weights_path.read_bytes()).hexdigest(),
            bytes=weights_path.stat().st_size,
            licence="Weights: Apache-2.0. Dataset: "
            + _LICENCES.get(recipe.dataset, "see its own terms"),
            **dataclasses.asdict(figures),
            **_counts(model),
            moved=_moved(recipe, model, source["backend"]),
        )
        record_path.write_text(record.to_json(), encoding="utf-8")
    return record


def names(recipe: training.Recipe, weights: str | None = None) -> tuple[str, str]:
    """Returns the names that a recipe's weights are published under.

    `cifar10.shiftresnet20_ssl.short` makes `shiftresnet20.cifar10.ssl.short`, which
    users find as the `weights` named `cifar10.ssl.short`.

    Args:
        recipe: The `keras_shift.training.Recipe`.
        weights: What users are to pass as `weights`, or `None` for what the recipe's
            name says. Defaults to `None`.

    Returns:
        A pair: the files' name without its ending, and what users pass.

    Raises:
        ValueError: If the recipe's name does not begin with those of its dataset and
            its network.
    """
    constructor = zoo.models.constructor_name(recipe.network)
    alpha = _arguments(recipe)["alpha"]
    rest = recipe.name.partition(".")[2]
    spelled = "_?".join(map(re.escape, constructor))
    named = re.match(rf"{spelled}(_\d+(\.\d+)?(?=[._]|$))?", rest, re.IGNORECASE)
    if not named:
        raise ValueError(
            "The name of a recipe must be that of its dataset, a dot and that of its "
            f"network. Received: {recipe.name} for {recipe.network}"
        )
    network, suffix = named[0], rest[named.end() :].strip("._")
    if alpha != 1 and not named[1] and not suffix:
        network = f"{network}_{alpha:g}"
    weights = weights or ".".join(filter(None, [recipe.dataset, suffix]))
    return f"{network}.{weights}", weights


def _arguments(recipe):
    """Returns the constructor's arguments on which weights depend, all of them.

    Defaults are among them, so that weights survive other defaults.
    """
    function = getattr(zoo, zoo.models.constructor_name(recipe.network))
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(function).parameters.items()
        if key not in FREE or key == "output_stride"
    }
    variant = zoo.variants.VARIANTS.get(recipe.network)
    given = {**(variant.arguments if variant else {}), **recipe.arguments}
    arguments = {key: given.get(key, value) for key, value in defaults.items()}
    if "wiring" in arguments and arguments["spatial"] is None:
        arguments["spatial"] = shiftresnet.DEFAULT_SPATIAL[arguments["wiring"]]
    return arguments


def _counts(model):
    """Returns those fields of a record that are counted in the network."""
    return {
        "parameters": sum(
            math.prod(weight.shape)
            for weight in model.trainable_weights
            if weight.name != "displacements"
        ),
        "multiply_adds": analysis.multiply_adds(model),
        "unshifted": {
            layer.name: (round(layer.sparsity * layer.channels), layer.channels)
            for layer in model.layers
            if isinstance(layer, ShiftLayer)
        },
    }


def _moved(recipe, model, backend):
    """Returns the field `moved` of a record."""
    if recipe.displacement_start != "grouped" and backend != keras.backend.backend():
        raise ValueError(
            f"{recipe.name} starts at random displacements, which only the backend "
            f"that trained it draws again: set KERAS_BACKEND={backend}."
        )
    start = recipes.build(recipe)
    moved = {}
    for layer in model.layers:
        if isinstance(layer, LearnedShift):
            before = np.rint(start.get_layer(layer.name).displacement_array())
            after = np.rint(layer.displacement_array())
            elsewhere = (before != after).any(axis=0)
            moved[layer.name] = (int(elsewhere.sum()), layer.channels)
    return moved


def _check_end(log, epochs):
    """Refuses a training that has not come to its end."""
    with open(log, newline="", encoding="utf-8") as file:
        done = sum(1 for _ in csv.DictReader(file))
    if done != epochs:
        raise ValueError(f"{log} has {done} epochs of {epochs}.")


def _names_of_classes(data):
    """Returns the name of the file with the dataset's classes, or else their names."""
    try:
        known = predictions.class_names(data.name)
    except ValueError:
        return data.class_names
    check_classes(data, [identifier for identifier, _ in known])
    return data.name


def _seconds(log):
    """Returns how long all epochs took together, or `None` if it is not in the log."""
    with open(log, newline="", encoding="utf-8") as file:
        times = [row.get("seconds") or "" for row in csv.DictReader(file)]
    return round(sum(map(float, times)), 1) if all(times) else None
