"""Runs the sub-command `keras-shift evaluate`."""

import argparse
import os

from keras_shift import publishing, training, zoo
from keras_shift.cli.messages import disagree
from keras_shift.cli.recipe_errors import network_of_recipe
from keras_shift.quiet import quiet
from keras_shift.table import simple_table, to_text


def run(arguments: argparse.Namespace) -> None:
    """Measures trained weights, and compares them with their record if they have one.

    Args:
        arguments: Arguments of the command line.

    Raises:
        SystemExit: With status 1, if the figures are not those on record.
        ValueError: If there are no such weights, or the dataset is another one.
    """
    record = None
    if os.path.exists(arguments.weights):
        model, dataset, augmentation = _of_training(arguments.weights)
    else:
        record = zoo.get_record(arguments.weights)
        model, dataset, augmentation = _of_record(record)
    data = training.load_data(
        dataset, model.input_shape[1:3], arguments.data_dir, augmentation
    )
    if record is not None:
        publishing.check_classes(data, record.labels())
    with quiet(arguments.verbose):
        figures = publishing.measure(model, data, arguments.int8)
    here = figures.rows()
    expected = {} if record is None else publishing.figures_of(record).rows()
    print(_table(arguments.weights, here, expected))
    print(f"\n{figures.images:,} images of {dataset}, {model.name}")
    if record is not None:
        _compare(here, expected, record)


def _of_training(path):
    with network_of_recipe(path):
        trained = publishing.read_run(path)
    return trained.model, trained.recipe.dataset, trained.recipe.augmentation


def _of_record(record):
    model = zoo.models.model_of_record(record)
    return model, record.dataset, record.recipe.get("augmentation", "none")


def _table(weights, measured, expected):
    table = simple_table((weights,), numbers=("Here", "On record"))
    for name, value in measured.items():
        table.add_row(name, value, expected.get(name, ""))
    return to_text(table)


def _compare(here, expected, record):
    different = [name for name in here if here[name] != expected.get(name, here[name])]
    if different:
        disagree(
            f"{' and '.join(different)} are not as on record, which was measured on "
            f"{record.images:,} images, with {record.backend} and on "
            f"{record.device}. Another machine may round one image otherwise."
        )
