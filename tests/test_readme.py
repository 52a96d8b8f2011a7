import csv
import re

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.layers.shift_layer import shift_layers
from networks import ROOT, load_tool

README = (ROOT / "README.md").read_text()


def test_figures_are_those_that_were_measured():
    tool = load_tool("update_readme")
    for path in tool.DOCUMENTS:
        text = path.read_text()
        assert tool.updated(text) == text, "run tools/update_readme.py"
        opened = len(re.findall("<!-- (?:table|value): ", text))
        assert len(tool.MARKED.findall(text)) == opened == text.count("<!-- end -->")


def test_every_table_stands_in_a_document():
    tool = load_tool("update_readme")
    texts = "".join(path.read_text() for path in tool.DOCUMENTS)
    assert len(tool.TABLES) == sum(len(module.TABLES) for module in tool.MODULES)
    for name in tool.TABLES:
        assert texts.count(f"<!-- table: {name} -->") == 1


def test_the_papers_figures_stand_beside_ours(tmp_path, monkeypatch):
    tool = load_tool("update_readme")
    monkeypatch.setattr(tool.studies, "PAPERS", tmp_path / "results.csv")
    tool.studies.PAPERS.write_text(
        "table,row,dataset,quantity,paper,ours,recipe\n"
        "SSL Table 1,ShiftResNet-20 (grouped),d,top-1,90.5%,87.25%,r.grouped\n"
        "SSL Table 1,ShiftResNet-20 (grouped),d,shift sparsity,11%,12%,r.grouped\n"
        "SSL Table 1,ShiftResNet-20 (grouped),without,top-1,70.5%,,\n"
        'SSL Table 1,"ShiftResNet-20 (SSL), λ = 0",d,top-1,91.7%,88.5%,r\n'
        "SSL Table 1,ResNet-20,d,top-1,91%,,\n"
        "SSL Table 1,ResNet-56,d,top-1,92.5%,,\n"
        "SSL Table 2,block,d,unshifted,1 / 2,2 / 2,r\n",
        encoding="utf-8",
    )
    header, lines = tool.studies.paper("SSL Table 1")
    assert len(header) == 9
    assert ["|".join(line) for line in lines] == [
        "ShiftResNet-20 (grouped)|d|90.5%|87.25%|-1.2|-1.2|11%|12%|r.grouped",
        "ShiftResNet-20 (SSL), λ = 0|d|91.7%|88.5%|+0.0|+0.0|||r",
        "ResNet-20|d|91%||-0.7||||",
    ]
    header, lines = tool.studies.paper("SSL Table 2")
    assert header == ["", "dataset", "unshifted: paper", "ours", "recipe"]
    assert lines == [["block", "d", "1 / 2", "2 / 2", "r"]]


@pytest.mark.tensorflow
# Keras 3.15 says so of every tf.data.Dataset, those of its own making included.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the export is TensorFlow's")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        folder = tmp_path / "photographs" / label
        folder.mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 256, (40, 50, 3)).astype("uint8")
            keras.utils.save_img(folder / f"{number}.png", pixels)
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert "epochs=10" in code and len(code.splitlines()) <= 27
    assert len(README.splitlines()) <= 150
    scope = {}
    exec(compile(code.replace("epochs=10", "epochs=2"), "README.md", "exec"), scope)
    assert "same top-1 as Keras" in capsys.readouterr().out
    # What the example is for: few shifts, which fine-tuning leaves where they are, and
    # a file in which most units need not move a thing.
    published = keras_shift.zoo.FENet(weights="tiny_imagenet.few_shifts")
    model = keras.saving.load_model(tmp_path / "model.keras")
    for layer in shift_layers(published):
        pattern = model.get_layer(layer.name).displacement_array()
        np.testing.assert_array_equal(np.rint(pattern), layer.displacement_array())
    assert keras_shift.analysis.summary(model).unshifted >= 0.8
    assert (tmp_path / "model.tflite").stat().st_size > 100_000


def test_int8_is_as_good_as_float_on_digits():
    with open(ROOT / "benchmarks" / "results" / "digits.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert abs(float(row["int8 top-1"]) - float(row["float32 top-1"])) <= 0.01
