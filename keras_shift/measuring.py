"""Measures the accuracies that stand in the records of published weights.

The command line and the tools use this module, which needs the zoo, training and
deployment at once.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from keras_shift import deploy, training, zoo
from keras_shift.deploy.images import CALIBRATION_IMAGES
from keras_shift.image_files import naming_unreadable
from keras_shift.training import trainer
from keras_shift.training.dataset import Dataset
from keras_shift.zoo.record import Record

_BATCH_SIZE = 250


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
