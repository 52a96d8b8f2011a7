"""Examples in docstrings run, and say the truth."""

import doctest
import inspect

import keras
import numpy as np
import pytest

import keras_shift
from networks import three_shifts

if keras.backend.backend() != "tensorflow":
    pytest.skip("some examples are TensorFlow's", allow_module_level=True)

MODULES = [
    keras_shift,
    keras_shift.analysis,
    keras_shift.callbacks,
    keras_shift.constraints,
    keras_shift.deploy,
    keras_shift.initializers,
    keras_shift.layers,
    keras_shift.ops,
    keras_shift.reporting,
    keras_shift.training.center_loss,
    keras_shift.training.feature_extractors,
    keras_shift.training.verification,
    keras_shift.zoo,
    keras_shift.zoo.recipes,
]
# Public, without an example: bases, results, and what needs none.
WITHOUT_EXAMPLE = {
    "Agreement",
    "ArithmeticIntensity",
    "Benchmark",
    "BoundedDisplacements",
    "ChannelContribution",
    "ChannelCorrelation",
    "DisplacementDistribution",
    "Explanation",
    "FeatureCollapse",
    "LayerSummary",
    "LearnedShift",
    "Pair",
    "Pinned",
    "ReceptiveField",
    "ShiftCost",
    "ShiftCosts",
    "ShiftHistogram",
    "ShiftLayer",
    "Summary",
    "TFLiteReport",
    "Timing",
    "TrainingHistory",
    "Unit",
    "Units",
    "Verification",
    "VerificationResult",
    "active_shift",
    "check_disjoint",
    "check_data_format",
    "check_max_displacement",
    "fresh",
    "get",
    "restore_pinned",
}


def public_objects():
    found = {}
    for module in MODULES:
        for name, value in vars(module).items():
            # A package's objects come from its modules, a module's from itself.
            home = getattr(value, "__module__", "").startswith(module.__name__)
            if home and not name.startswith("_") and callable(value):
                found[name] = value
    return found


@pytest.mark.parametrize("name", sorted(public_objects()))
def test_public_objects_are_documented(name):
    docstring = inspect.getdoc(public_objects()[name]) or ""
    summary = docstring.split("\n")[0]
    assert summary.endswith(".") and len(summary) < 80
    assert (">>>" in docstring) == (name not in WITHOUT_EXAMPLE)
    if not inspect.isclass(public_objects()[name]):
        for argument in inspect.signature(public_objects()[name]).parameters:
            assert f"{argument}:" in docstring


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted."""
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3))
    model = three_shifts(classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return {
        "images": images.astype("float32"),
        "keras": keras,
        "keras_shift": keras_shift,
        "labels": np.arange(8),
        "model": model,
        "np": np,
    }


@pytest.mark.parametrize("name", sorted(set(public_objects()) - WITHOUT_EXAMPLE))
def test_examples_run(name, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.startswith("plot_"):
        pytest.importorskip("matplotlib")
    if name in ("LiteRTModel", "benchmark", "verify"):
        keras_shift.deploy.to_tflite(names["model"], "model.tflite")
    given = dict(names)
    if name == "shift_costs":
        # Which exports three files for each shift.
        shift = keras_shift.layers.SparseShift2D()
        given["model"] = keras.Sequential([keras.Input((8, 8, 9)), shift])
    if name == "write_report":
        # Which exports, times, draws and explains it.
        given["model"] = keras.Sequential(
            [
                keras.Input((32, 32, 3)),
                keras.layers.Conv2D(4, 3),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    found = doctest.DocTestFinder(recurse=False).find(
        public_objects()[name], name, globs=given
    )
    report = []
    for example in found:
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not report, "".join(report)
