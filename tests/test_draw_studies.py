"""The pictures of docs/studies.md."""

import csv
import re

import pytest

from keras_shift import analysis, zoo
from networks import ROOT, load_tool

pytest.importorskip("matplotlib").use("agg")


@pytest.fixture(scope="module")
def tool():
    return load_tool("draw_studies")


def test_every_picture_is_drawn_and_shown(tool):
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(studies/(\w+)\.png\)", text)
    drawn = [path.stem for path in (ROOT / "docs" / "studies").glob("*.png")]
    assert sorted(shown) == sorted(drawn) == sorted(tool.FIGURES)


def test_what_needs_no_images_is_drawn_from_published_weights(tool):
    ax = tool.sparsity(None)
    assert ax.get_title(loc="left").startswith("fenet_0.75: ")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "unit1_shift" and len(labels) == 16


def test_kinds_of_shifts_are_those_of_one_layer(tool):
    panels = tool.kinds(None).figure.axes
    titles = [panel.get_title().splitlines() for panel in panels]
    assert [title[0][:10] for title in titles] == [
        "(a) groupe",
        "(b) active",
        "(c) sparse",
    ]
    unshifted = []
    for (_, text), name in zip(
        titles, (tool.GROUPED, tool.WITHOUT_PENALTY, tool.LEARNED)
    ):
        record = zoo.get_record(name)
        still, channels = record.unshifted[tool.LAYER]
        assert text == f"{still} of {channels} channels unshifted"
        unshifted.append(still)
    # Each channel has a place in the grid.
    for panel in panels:
        counts = [int(text.get_text().replace(",", "")) for text in panel.texts]
        assert sum(counts) == channels
    assert unshifted[2] > 5 * max(unshifted[:2])


def test_contributions_are_as_the_document_says(tool):
    found = analysis.channel_contribution(
        tool.network(tool.EXPANDED), tool.EXPANDED_LAYER
    ).by_displacement
    horizontal = found[0, -1], found[0, 1]
    vertical = found[-1, 0], found[1, 0]
    assert min(horizontal) > max(vertical) and min(vertical) > found[0, 0]
    # In a cross, corners would contribute less.
    assert {(-1, 1), (1, 1)} == {*sorted(found, key=found.get)[-2:]}


def test_intensity_shows_every_operation_that_was_measured(tool):
    figure = tool.intensity(None).figure
    with open(tool.INTENSITIES, newline="") as file:
        rows = list(csv.DictReader(file))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    for panel, runtime in zip(figure.axes, ("tensorflow", "litert")):
        drawn = sorted(
            (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
            for line in panel.get_lines()
            if line.get_marker() not in (None, "None") and len(line.get_xdata())
        )
        measured = sorted(
            (float(row["product_multiply_adds"]), float(row["copying_bytes"]))
            for row in rows
            if row["runtime"] == runtime and row["operation"] in legend
        )
        assert drawn == measured
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        assert all(left < x < right and bottom < y < top for x, y in drawn)
