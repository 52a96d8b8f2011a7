"""Runs the sub-command `keras-shift report`."""

import argparse
import os

import numpy as np
import rich.console
import rich.progress

from keras_shift.analysis import drawing
from keras_shift.cli import models
from keras_shift.cli.images import load_images
from keras_shift.cli.messages import say
from keras_shift.image_batches import batches
from keras_shift.quiet import quiet
from keras_shift.reporting import write_report

# So many images tell the ranges of activations, and even large ones fit into memory.
_MOST_IMAGES = 128


def run(arguments: argparse.Namespace) -> None:
    """Writes a page on a network.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ImportError: If something that draws or writes the page is not installed.
        ValueError: If there is no such network or image, or the page's name has another
            ending.
    """
    folder = os.path.dirname(arguments.output) or "."
    if not arguments.output.lower().endswith(".html") or not os.path.isdir(folder):
        raise ValueError(
            "--output must be the name of a .html file in a folder that is there. "
            f"Received: --output {arguments.output}"
        )
    with quiet(arguments.verbose):
        drawing.pyplot().switch_backend("agg")
    record = models.record_of(arguments)
    model = models.load_with_weights(arguments)
    # With other classes than its weights have, a network's head is random.
    same = record is None or record.classes == model.output_shape[-1]
    trained = same and bool(
        record or arguments.weights or arguments.name.endswith(".keras")
    )
    class_names = record.names() if record and same else None
    identifiers = dict(zip(record.labels(), record.names())) if record else {}
    # Its accuracy was measured at the size that it has in the record.
    if record and not (same and record.input_shape == model.input_shape[1:]):
        record = None
    images = titles = None
    if arguments.data is not None:
        dataset = load_images(arguments.data, model, shuffle=True)
        with quiet(arguments.verbose):
            images, titles = _images(dataset, tuple(model.inputs[0].shape[1:]))
        # Folders may be named as the dataset names its classes, by WordNet's ids.
        titles = [identifiers.get(title, title) for title in titles]
        class_names = class_names or dataset.class_names
    if class_names and len(class_names) != model.output_shape[-1]:
        class_names = None
    with quiet(arguments.verbose), _bar() as bar:
        task = bar.add_task("")
        write_report(
            model,
            arguments.output,
            images=images,
            titles=titles,
            class_names=class_names,
            record=record,
            trained=trained,
            costs=arguments.costs,
            on_step=lambda step, done, total: bar.update(
                task, description=step, completed=done, total=total
            ),
        )
    size = os.path.getsize(arguments.output)
    say(f"The page has {size / 1e6:.1f} MB. Open it in a browser.")
    print(arguments.output)


def _images(dataset, shape):
    """Returns images, one of each class first, and the names of their classes."""
    parts = []
    for images, labels in batches(dataset, shape, "data"):
        parts.append((images, np.asarray(labels, int)))
        if len(parts) * len(images) >= _MOST_IMAGES:
            break
    images, labels = (np.concatenate(part)[:_MOST_IMAGES] for part in zip(*parts))
    _, first = np.unique(labels, return_index=True)
    order = [*first, *np.setdiff1d(np.arange(len(labels)), first)]
    return images[order], [dataset.class_names[label] for label in labels[order]]


def _bar():
    console = rich.console.Console(stderr=True)
    return rich.progress.Progress(
        "{task.description}",
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
