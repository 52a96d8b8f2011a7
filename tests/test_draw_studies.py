"""The pictures of docs/studies.md."""

import re

import pytest

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
