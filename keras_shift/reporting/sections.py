"""The sections of a report: each function below is one heading of the page."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_shift import analysis, deploy, zoo
from keras_shift.analysis.shift_histogram import has_known_start
from keras_shift.analysis.study_layers import last, most_shifted, study_layers
from keras_shift.image_batches import CALIBRATION_IMAGES, random_pixels
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.reporting.parts import Section, Table, picture

# This many images are explained. More would make the page long, and tell little more.
EXPLAINED = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Holds what a report is about.

    Attributes:
        model: A `keras.Model`.
        images: Array of the user's images, `(count, height, width, channels)`, or
            `None`.
        titles: Name of each image, or `None`.
        class_names: Name of each class, or `None`.
        record: Record of the model's published weights, or `None`.
        trained: Whether the weights are trained ones.
    """

    model: keras.Model
    images: np.ndarray | None
    titles: Sequence[str] | None
    class_names: Sequence[str] | None
    record: zoo.record.Record | None
    trained: bool

    def pixels(self) -> np.ndarray:
        """Returns the user's images, a few hundred at most, or random pixels."""
        if self.images is not None:
            return self.images[:CALIBRATION_IMAGES]
        return random_pixels(tuple(self.model.inputs[0].shape[1:]))


def in_short(
    subject: Subject,
    summary: analysis.Summary,
    files: dict[str, deploy.TFLiteReport],
    times: deploy.Benchmark,
) -> Section:
    """Returns the figures that a network is chosen by."""
    rows = [
        ("Images", " x ".join(map(str, subject.model.inputs[0].shape[1:]))),
        ("Outputs", " x ".join(map(str, subject.model.outputs[0].shape[1:]))),
        ("MAdds", f"{summary.multiply_adds:,}"),
        ("Parameters", f"{summary.parameters:,}"),
    ]
    if summary.unshifted is not None:
        rows.append(("Unshifted channels", f"{summary.unshifted:.1%}"))
    if subject.record is not None:
        held_out = f"on {subject.record.images:,} held-out images"
        rows.append(
            (
                f"Top-1, {subject.record.dataset}",
                f"{subject.record.top1:.2%} {held_out}",
            )
        )
        if subject.record.int8_top1 is not None:
            rows.append(("Top-1, int8 file", f"{subject.record.int8_top1:.2%}"))
    for kind, report in files.items():
        median = times.timings[report.path].median
        rows.append(
            (
                f".tflite, {kind}",
                f"{report.bytes / 1e6:.2f} MB, {1000 * median:.3g} ms on one thread of "
                f"{times.machine}",
            )
        )
    return Section("In short", tables=[Table((), rows, numbers=False)])


def shifts(subject: Subject) -> Section:
    """Returns where channels moved."""
    layers = [layer for layer in shift_layers(subject.model) if layer.rounds]
    section = Section(
        "Where it shifts",
        ["An unshifted channel passes through a shift layer as it is."],
    )
    section.pictures.append(
        picture(
            analysis.plot_sparsity(subject.model),
            "Unshifted channels of every shift layer.",
        )
    )
    known = all(map(has_known_start, layers))
    if layers:
        caption = (
            "The area of a disc is the share of a layer's channels that have its "
            "displacement."
        )
        if known:
            caption += " Rings show where they began."
        axes = analysis.plot_shifts(subject.model, "initial" if known else None)
        section.pictures.append(picture(axes, caption))
    return section


def studies(subject: Subject) -> Section:
    """Returns what shifts brought: studies of both papers, and the receptive field."""
    model, pixels = subject.model, subject.pixels()
    on = "your images" if subject.images is not None else "random pixels"
    section = Section("What the shifts bring")
    notes = []

    def study(caption: str, draw: Callable[[], Any]) -> None:
        try:
            section.pictures.append(picture(draw(), caption))
        # Some studies need layers around a shift that not every network has.
        except ValueError as error:
            notes.append(f"Left out: {error}")

    study(
        "Displacements before rounding. The band holds what rounding makes zero.",
        lambda: analysis.displacement_distribution(model).plot(),
    )
    if layers := study_layers(model):
        widest = most_shifted(layers)
        study(
            "How much channels of each displacement contribute to the next layer.",
            lambda: analysis.channel_contribution(model, widest).plot(),
        )
        study(
            f"How channels of one displacement correlate, on {on}.",
            lambda: analysis.channel_correlation(model, widest, pixels).plot(),
        )
        study(
            f"What one unit of the last shift layer sees, on {on}.",
            lambda: analysis.effective_receptive_field(
                model, last(layers), pixels
            ).plot(),
        )
    else:
        notes.append(
            "Left out: contribution, correlation and receptive field are studies of "
            "shift layers of the model itself that move by whole pixels."
        )
    section.text = notes
    return section


def training(record: zoo.record.Record) -> Section:
    """Returns how published weights came about."""
    section = Section(
        "How it was trained",
        [
            f"By the recipe {record.recipe_name}, seed {record.seed}, on "
            f"{record.device}. {record.licence}"
        ],
    )
    log = zoo.published_weights.folder() / f"{record.name}.log.csv"
    if log.exists():
        axes = analysis.training_history(log).plot()
        caption = "Accuracy, and the share of unshifted channels, while it was trained."
        section.pictures.append(picture(axes, caption))
    return section


def phone(
    files: dict[str, deploy.TFLiteReport],
    times: deploy.Benchmark,
    missing: Sequence[str],
) -> Section:
    """Returns what files for phones hold, and how long they take here."""
    section = Section(
        "As files for phones",
        [
            f"Median of {times.repeats} runs, one image and {times.num_threads} "
            f"thread each, in turns on {times.machine}. A phone has other times.",
            *missing,
        ],
    )
    rows = [
        (kind, *(f"{1000 * time:.3g}" for time in _quartiles(times, report)))
        for kind, report in files.items()
    ]
    head = ("File", "Median, ms", "First quartile", "Third quartile")
    section.tables.append(Table(head, rows))
    for kind, report in files.items():
        section.tables.append(
            Table((kind, "what to_tflite reports"), list(report.rows().items()), False)
        )
    return section


def _quartiles(times, report):
    timing = times.timings[report.path]
    return timing.median, timing.low, timing.high


def costs(measured: deploy.ShiftCosts) -> Section:
    """Returns what each layer's shifts cost in a file."""
    table = Table(measured.HEAD, measured.rows())
    return Section("What shifts cost", [measured.note], tables=[table])


def explanations(subject: Subject) -> Section:
    """Returns what the network looks at in a few of the user's images."""
    assert subject.images is not None
    images = subject.images[:EXPLAINED]
    titles = subject.titles[:EXPLAINED] if subject.titles else None
    section = Section("What it looks at")
    try:
        explained = analysis.explain(subject.model, images)
    # Not every network classifies colour images.
    except ValueError as error:
        section.text = [f"Left out: {error}"]
        return section
    axes = analysis.plot_explanations(
        images, list(explained), titles, subject.class_names
    )
    caption = "Your images, Grad-CAM++ and saliency maps for the predicted classes."
    section.pictures.append(picture(axes, caption, kind="jpg"))
    return section


def others(record: zoo.record.Record) -> Section:
    """Returns what other published weights bring, which tells what width to try."""
    records = []
    for name in zoo.list_weights():
        try:
            records.append(zoo.get_record(name))
        # Another program may have put a file there that is no record.
        except ValueError:
            continue
    rows = [
        (
            other.name + (" (this one)" if other.name == record.name else ""),
            f"{other.multiply_adds:,}",
            f"{other.parameters:,}",
            f"{other.top1:.2%}",
            "" if other.shift_sparsity is None else f"{other.shift_sparsity:.1%}",
        )
        for other in sorted(records, key=lambda other: other.multiply_adds)
        if other.dataset == record.dataset
    ]
    head = ("Weights", "MAdds", "Parameters", "Top-1", "Unshifted")
    return Section(
        f"Networks for {record.dataset}",
        ["The fewest MAdds first: which width is accurate enough?"],
        tables=[Table(head, rows)],
    )


def layers(summary: analysis.Summary) -> Section:
    """Returns every layer with something to count."""
    table = Table(summary.head(), summary.rows())
    return Section("Layer by layer", tables=[table])


def export(
    subject: Subject, folder: str | os.PathLike[str]
) -> tuple[dict[str, deploy.TFLiteReport], list[str]]:
    """Writes the files of `phone`: float32, and int8 if there are images for it.

    Args:
        subject: A `Subject`.
        folder: Path of the folder to write them to.

    Returns:
        What `to_tflite` reports, by the type of the file, and sentences that say why
        there is no int8 file although there are images.
    """
    write = functools.partial(
        deploy.to_tflite,
        subject.model,
        representative_data=subject.images,
        labels=subject.class_names,
    )
    files = {"float32": write(path=os.path.join(folder, "float32.tflite"))}
    missing = []
    if subject.images is not None:
        path = os.path.join(folder, "int8.tflite")
        try:
            files["int8"] = write(path=path, quantize="int8")
        # Activations that are always zero cannot be quantized.
        except RuntimeError as error:
            missing.append(f"There is no int8 file: {error}")
    return files, missing
