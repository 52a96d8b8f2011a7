"""The cells of the notebooks run from top to bottom."""

import json

import keras
import pytest

from keras_shift.layers.shift_layer import shift_layers
from networks import ROOT

if keras.backend.backend() != "tensorflow":
    pytest.skip("they write files for phones", allow_module_level=True)
pytestmark = pytest.mark.tensorflow

NOTEBOOKS = ROOT / "examples" / "notebooks"


def cells(name):
    """The code of a notebook's cells."""
    content = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    # What differs from run to run, and makes the files large.
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    return ["".join(cell["source"]) for cell in code]


def run(name, tmp_path, monkeypatch):
    """Runs a notebook's cells and returns its names."""
    for package in ("matplotlib", "sklearn"):
        pytest.importorskip(package)
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    scope = {}
    for number, code in enumerate(cells(name)):
        exec(compile(code, f"{name}.ipynb, code cell {number}", "exec"), scope)
    return scope


def test_what_shifts_learned(tmp_path, monkeypatch):
    scope = run("what_shifts_learned", tmp_path, monkeypatch)
    assert scope["contribution"].contributions.sum() == pytest.approx(1)
    assert scope["field"].gradient.shape == (32, 32)


@pytest.mark.exhaustive
def test_first_steps(tmp_path, monkeypatch, capsys):
    scope = run("first_steps", tmp_path, monkeypatch)
    _, labels = scope["test"]
    assert (scope["answers"] == labels).mean() > 0.9


@pytest.mark.exhaustive
def test_where_shifts_cost(tmp_path, monkeypatch):
    scope = run("where_shifts_cost", tmp_path, monkeypatch)
    assert scope["costs"].layers.keys() == {
        "large_shift",
        "middle_shift",
        "small_shift",
    }
    assert scope["after"] > 0.8
    channels = [len(s.displacement_array()[0]) for s in shift_layers(scope["model"])]
    still = [s.sparsity for s in shift_layers(scope["model"])]
    total = sum(c * share for c, share in zip(channels, still))
    assert total / sum(channels) == pytest.approx(0.85, abs=0.01)
