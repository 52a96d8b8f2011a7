"""The cards in docs/weights."""

import pytest

from keras_shift import zoo
from networks import ROOT, load_tool


@pytest.fixture(scope="module")
def tool():
    return load_tool("update_model_cards")


def test_every_file_has_the_card_of_its_record(tool):
    folder = ROOT / "docs" / "weights"
    here = {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert here == tool.cards(), "run tools/update_model_cards.py"


def test_the_call_loads_the_weights(tool):
    record = zoo.get_record("shiftresnet20.cifar10.ssl_1x1_only.short")
    made = eval(f"zoo.{tool.call(record)}", {"zoo": zoo})
    assert made.count_params() > 0 and made.output_shape == (None, 10)


def test_figures_are_those_of_the_record(tool):
    record = zoo.get_record("fenet_0.75.tiny_imagenet.sparse")
    text = tool.card(record, {"int8": 0.714})
    assert 'FENet(alpha=0.75, weights="tiny_imagenet.sparse")' in text
    assert f"{record.top1:.2%} of 10,000 held-out images" in text
    assert "| layers without any shift | 1 of 16 |" in text
    assert "the int8 .tflite file for 224x224 pixels, total stride 32 | 0.71 of" in text
    assert record.sha256 in text and record.git_commit in text
    assert "float32 .tflite file" not in text
