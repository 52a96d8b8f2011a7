"""Networks in the state that hides nothing, for the tests of what is made of them."""

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from keras_shift.layers.shift_layer import LearnedShift
from keras_shift.zoo import blocks

ROOT = Path(__file__).resolve().parent.parent


def randomize(model, seed=0, reach=1.6, off=0.05):
    """Gives a model what training would: uneven statistics, scattered shifts.

    Batch statistics are random, a third of the gammas are negative, a share `off` is
    zero (which leaves half of these channels nothing but zeros), betas are not zero
    (so that the map's border matters), and displacements are scattered over
    `[-reach, reach]`, one in eight an exact half. Returns the model.
    """
    random, rare = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            sign = np.where(random.random(shape) < 1 / 3, -1, 1)
            sign = np.where(rare.random(shape) < off, 0, sign)
            if layer.scale:
                layer.gamma.assign(sign * random.uniform(0.5, 1.5, shape))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.5, shape))
            layer.moving_mean.assign(random.normal(0, 0.5, shape))
            layer.moving_variance.assign(random.uniform(0.5, 2, shape))
        elif isinstance(layer, LearnedShift):
            shape = layer.displacements.shape
            displacements = random.uniform(-reach, reach, shape)
            halves = rare.random(shape) < 1 / 8
            halved = np.floor(displacements) + 0.5
            layer.displacements.assign(np.where(halves, halved, displacements))
    return model


def flat_layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def three_shifts(classes):
    """A small network with learned shifts, which have the names of FE-Net's first."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    for name in ("unit1", "unit2", "unit3"):
        x = blocks.conv_shift_conv(x, 8, 18, blocks.BlockStyle(), name, strides=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(classes, activation="softmax")(x)
    return keras.Model(images, outputs)


def pixels(count, *shape, seed=0):
    """Random images with pixel values in [0, 255]."""
    return (
        np.random.default_rng(seed).uniform(0, 255, (count, *shape)).astype("float32")
    )


def predict(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def parameters(weights):
    """Counts the numbers in some weights."""
    return sum(math.prod(weight.shape) for weight in weights)


def load_tool(name):
    """Imports a script of tools/, which finds its neighbours as when it is run."""
    return _load_beside_others(ROOT / "tools", name)


def load_example(name):
    """Imports a script of examples/, likewise."""
    return _load_beside_others(ROOT / "examples", name)


def load_benchmark(name):
    """Imports a script of benchmarks/, likewise."""
    return _load_beside_others(ROOT / "benchmarks", name)


def _load_beside_others(folder, name):
    sys.path.insert(0, str(folder))
    try:
        return _load(folder / f"{name}.py")
    finally:
        sys.path.remove(str(folder))


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_environment():
    """Environment variables of a fresh Python process that imports this checkout."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"}


def run_python(code, *arguments):
    """Runs Python code in a fresh process, which must succeed; returns its output."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
