"""Computes a report and writes it as a page."""

import datetime
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_shift import analysis, deploy, zoo
from keras_shift.analysis import drawing, keras_vis
from keras_shift.deploy.export_arguments import check_export
from keras_shift.environment import versions
from keras_shift.files import replacing
from keras_shift.integers import positive_integer
from keras_shift.layers.shift_layer import LearnedShift, shift_layers
from keras_shift.reporting import sections
from keras_shift.reporting.advice import advice
from keras_shift.reporting.parts import Section

_TEMPLATE = "page.html.jinja"

# This many runs of every file are counted.
_REPEATS = 50


def write_report(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    images: np.ndarray | None = None,
    titles: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    record: zoo.record.Record | None = None,
    trained: bool = True,
    costs: bool = False,
    repeats: int = _REPEATS,
    on_step: Callable[[str, int, int], None] | None = None,
) -> None:
    """Writes what is known of a network into one page for a browser.

    The page holds figures and pictures of the network's shifts, what `to_tflite`
    reports, times of its files on this machine, what it looks at in some images, and
    what to do next. It needs no other file and no connection. `keras-shift report`
    writes the same page. Needs TensorFlow and `pip install "keras-shift[report]"`.

    Example:

    >>> keras_shift.reporting.write_report(model, "report.html", images=images)

    Args:
        model: A functional or sequential `keras.Model`, a classifier of images of a
            known size with pixel values in [0, 255].
        path: Path of the page, which ends in `.html`.
        images: Array of images, `(count, height, width, channels)`, or `None`. Without
            images there is no int8 file and no explanation, and studies see random
            pixels. Defaults to `None`.
        titles: Name of each image, or `None`. Defaults to `None`.
        class_names: Name of each class, or `None` for indices. Defaults to `None`.
        record: Record of the model's published weights, as
            `keras_shift.zoo.get_record` returns it, or `None`. Defaults to `None`.
        trained: Whether the weights are trained ones. Defaults to `True`.
        costs: Whether to measure what each layer's shifts cost in a file, which takes
            minutes. Defaults to `False`.
        repeats: Int, number of counted runs of every file. Defaults to 50.
        on_step: Function that is called before each step with its name, the number of
            complete steps and the number of all steps, or `None`. Defaults to `None`.

    Raises:
        ImportError: If Matplotlib, tf-keras-vis, Jinja2 or LiteRT is not installed.
        ValueError: If an argument is none of the above, or as `to_tflite` does.
        RuntimeError: As `to_tflite` does for a float32 file.
    """
    path = os.fspath(path)
    if not path.lower().endswith(".html"):
        raise ValueError(f"Argument `path` must end in .html. Received: path={path}")
    template = _template()
    subject = sections.Subject(model, images, titles, class_names, record, trained)
    _check(subject, path, costs, repeats)
    parts = _compute(subject, costs, repeats, on_step or _nothing)
    page = template.render(
        name=model.name if record is None else record.name,
        trained=trained,
        sections=parts,
        date=datetime.date.today().isoformat(),
        versions=", ".join(f"{key} {value}" for key, value in versions().items()),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _nothing(step, done, total):
    pass


def _check(subject, path, costs, repeats):
    """Refuses what would fail after minutes of work."""
    check_export(subject.model, "model.tflite", None, None)
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))) or os.path.isdir(path):
        raise ValueError(
            "Argument `path` must name a file in a folder that exists. "
            f"Received: path={path}"
        )
    positive_integer("repeats", repeats)
    drawing.pyplot()
    shape = tuple(subject.model.inputs[0].shape[1:])
    if subject.images is not None:
        if keras_vis.is_classifier(subject.model):
            keras_vis.visualization("gradcam_plus_plus")
        if np.shape(subject.images)[1:] != shape or not len(subject.images):
            raise ValueError(
                f"Argument `images` must be of shape (count, *{shape}). "
                f"Received: images of shape {np.shape(subject.images)}"
            )
    count = 0 if subject.images is None else len(subject.images)
    if subject.titles is not None and len(subject.titles) != count:
        raise ValueError(
            f"Argument `titles` must name each of {count} images. "
            f"Received: {len(subject.titles)} titles"
        )
    classes = subject.model.outputs[0].shape[-1]
    if subject.class_names is not None and len(subject.class_names) != classes:
        raise ValueError(
            f"Argument `class_names` must name each of {classes} classes. "
            f"Received: {len(subject.class_names)} names"
        )
    record = subject.record
    if record is not None and (
        record.input_shape != shape or record.classes != classes
    ):
        raise ValueError(
            f"Argument `record` must be of a model for images of {shape} with "
            f"{classes} classes. Received: {record.name}, for {record.input_shape} and "
            f"{record.classes} classes"
        )
    layers = shift_layers(subject.model)
    if costs and not any(isinstance(layer, LearnedShift) for layer in layers):
        raise ValueError(
            "Argument `costs` needs a model with learned shifts. "
            f"Received: costs=True for {subject.model.name}"
        )


def _compute(subject, with_costs, repeats, on_step):
    """Returns all sections that apply to the subject, in the order of the page."""
    summary = analysis.summary(subject.model)
    steps: dict[str, Callable[[], Section]] = {}
    if summary.shift_channels:
        steps["shifts"] = lambda: sections.shifts(subject)
        steps["studies"] = lambda: sections.studies(subject)
    if subject.record is not None:
        steps["training"] = lambda: sections.training(subject.record)
    if subject.images is not None:
        steps["explanations"] = lambda: sections.explanations(subject)
    done, total = 0, len(steps) + 2 + with_costs

    def begin(name):
        nonlocal done
        on_step(name, done, total)
        done += 1

    with tempfile.TemporaryDirectory() as folder:
        begin("files for phones")
        files, missing = sections.export(subject, folder)
        begin("times")
        times = deploy.benchmark(
            *(report.path for report in files.values()), repeats=repeats
        )
    measured = None
    if with_costs:
        begin("costs of shifts")
        measured = deploy.shift_costs(subject.model, repeats=repeats)
    computed = {}
    for name, compute in steps.items():
        begin(name)
        computed[name] = compute()
    points = advice(subject.model, summary, files, measured, subject.trained)
    return [
        sections.in_short(subject, summary, files, times),
        Section("What to do next", points=points),
        *computed.values(),
        sections.phone(files, times, missing),
        *([sections.costs(measured)] if measured else []),
        *([sections.others(subject.record)] if subject.record else []),
        sections.layers(summary),
    ]


def _template():
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            f"Reports need Jinja2 ({error}). Install it with "
            '`pip install "keras-shift[report]"`.'
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)
