"""The benchmark of JAX on accelerators, in networks that are tiny, on a CPU."""

import csv
import importlib
import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_shift import portable_shift
from networks import ROOT, python_environment

# A process of its own, since Keras' backend is chosen when it is imported; and one that
# has no TensorFlow.
SCRIPT = """
import sys
sys.modules["tensorflow"] = None
sys.path.insert(0, sys.argv[1])
import accelerator, keras, keras_shift

def network(name, size):
    keras.utils.set_random_seed(0)
    images = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(6, 1)(images)
    if name in accelerator.WAYS:
        x = keras_shift.layers.SparseShift2D("zeros", max_displacement=2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.Dense(accelerator.CLASSES, activation="softmax")(x)
    return accelerator.displaced(keras.Model(images, x), 1, 0.5)

accelerator.network = network
for name in (accelerator.BASELINE, accelerator.FLOOR, *accelerator.WAYS):
    program, _ = accelerator.lowered(name, network(name, 8), "inference", 2)
    text = program.as_text()
    print(name, "gather" in text, "feature_group_count = 6" in text, sep=";")
accelerator.main(accelerator.parse(sys.argv[2:]))
"""


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("accelerator")


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason='needs JAX (".[jax]")'
)
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "precisions", [["mixed_bfloat16"], ["float32", "mixed_bfloat16"]]
)
def test_all_of_it(benchmark, tmp_path, precisions):
    output = tmp_path / "accelerator.csv"
    options = "--rounds 2 --size 8 --batch 3 --training-batch 2 --precision".split()
    options += [*precisions, "--output"]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, ROOT / "benchmarks", *options, output],
        env={
            **python_environment(),
            "KERAS_BACKEND": "jax",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    ways = [line.split(";") for line in result.stdout.splitlines() if ";" in line]
    # Every way is another program: its gather, and its depthwise convolution.
    assert {name.split(", ")[-1]: flags for name, *flags in ways} == {
        "MobileNetV2 1.0": ["False", "False"],
        "none": ["False", "False"],
        "gather": ["True", "False"],
        "slices": ["False", "False"],
        "convolution": ["False", "True"],
    }
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    cases = [("training", "2"), ("inference", "3")]
    assert [(r["precision"], r["mode"], r["batch"], r["network"]) for r in rows] == [
        (precision, *case, name)
        for precision in precisions
        for case in cases
        for name in (benchmark.BASELINE, benchmark.FLOOR, *benchmark.WAYS)
    ]
    for row in rows:
        assert 0 < float(row["ratio_low"]) <= float(row["ratio_high"])
        assert row["device"] and "jax " in row["versions"]
        if row["network"] == benchmark.BASELINE:
            assert row["ratio"] == "1"


def test_all_ways_of_the_package_are_compared(benchmark):
    assert list(benchmark.WAYS.values()) == list(portable_shift.WAYS)
    for bound in (None, 1, 2, 3):
        assert portable_shift.way(bound) in portable_shift.WAYS


@pytest.mark.parametrize("wrong", [0.02, np.nan])
def test_ways_that_answer_differently_are_an_error(benchmark, wrong):
    calls = {name: lambda: np.ones((2, 5)) for name in benchmark.WAYS}
    benchmark.check(calls, "float32")
    last = list(calls)[-1]
    calls[last] = lambda: np.ones((2, 5)) + wrong
    if not np.isnan(wrong):
        benchmark.check(calls, "mixed_bfloat16")
    with pytest.raises(ValueError, match=f"{last} must answer as.*Received: a diff"):
        benchmark.check(calls, "float32")


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="which is what it needs")
def test_other_backends_are_refused(benchmark):
    with pytest.raises(SystemExit, match="KERAS_BACKEND=jax. Received"):
        benchmark.main(benchmark.parse([]))
