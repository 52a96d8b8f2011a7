"""Examples in docstrings run, and say the truth."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.files import only_writer, replacing
from keras_shift.image_files import naming_unreadable
from marks import exhaustive
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


def examples():
    """Every docstring with an example, public or not, by the name of its object."""
    names = [
        module.name
        for module in pkgutil.walk_packages(keras_shift.__path__, "keras_shift.")
        # The one is the op and the other runs the command.
        if module.name.rpartition(".")[2] not in ("_shift_ops", "__main__")
    ]
    finder = doctest.DocTestFinder()
    return {
        example.name: example
        for name in ("keras_shift", *names)
        for example in finder.find(importlib.import_module(name), name)
        if example.examples
    }


EXAMPLES = examples()
LONG = {"keras_shift.training.style_transfer.StyleTransfer"}


class Pairs(list):
    """A dataset of no images, with the paths of their files."""

    file_paths: list[str] = []


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted."""
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3))
    model = three_shifts(classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy")
    labels = np.arange(8)
    pixels = images.astype("uint8")
    return {
        "data": keras_shift.training.Data(
            "toy", pixels, labels, pixels, labels, [f"class {n}" for n in range(10)]
        ),
        "dataclasses": dataclasses,
        "images": images.astype("float32"),
        "keras": keras,
        "keras_shift": keras_shift,
        "labels": labels,
        "model": model,
        "naming_unreadable": naming_unreadable,
        "np": np,
        "only_writer": only_writer,
        "recipe": keras_shift.training.Recipe(
            name="toy.fenet_1.0",
            network="fenet_1.0",
            arguments={"classes": 10, "input_shape": (32, 32, 3)},
            dataset="toy",
            batch_size=4,
            epochs=1,
            learning_rate=0.01,
        ),
        "replacing": replacing,
    }


def test_every_public_example_is_found():
    found = {name.rpartition(".")[2] for name in EXAMPLES}
    assert set(public_objects()) - WITHOUT_EXAMPLE <= found


@pytest.mark.parametrize(
    "path",
    [exhaustive(path) if path in LONG else path for path in sorted(EXAMPLES)],
)
def test_examples_run(path, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = path.rpartition(".")[2]
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
    if name == "load_data":
        arrays = {"x_train": 8, "y_train": 8, "x_test": 4, "y_test": 4}
        for part, count in arrays.items():
            shape = (count, 32, 32, 3) if part.startswith("x") else (count,)
            arrays[part] = np.zeros(shape, "uint8")
        np.savez(tmp_path / "cifar10.npz", **arrays)
    if name == "StreamedData":
        for part in ("train", "val"):
            folder = tmp_path / "imagenet2012" / part / "class"
            folder.mkdir(parents=True)
            for number in range(4):
                keras.utils.save_img(folder / f"{number}.png", given["images"][number])
    if name == "scope":
        # Which would train a network of the zoo.
        monkeypatch.setattr(
            keras_shift.zoo.recipes, "build", lambda recipe: given["model"]
        )
    if name == "only_writer":
        (tmp_path / "run").mkdir()
    if name == "fail_fast":
        given["main"] = lambda: None
    if name == "naming_unreadable":
        given["dataset"] = Pairs()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    example = EXAMPLES[path]
    example.globs = given
    report = []
    runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not report, "".join(report)
