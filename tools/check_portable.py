"""Compares what portable models answer in other runtimes with the models they are of.

    pip install onnxruntime openvino tf2onnx
    python tools/check_portable.py

Networks with every kind of layer have random weights, batch statistics and
displacements. Of each, `keras_shift.deploy.portable` goes into a .keras file, which a
process that never imports keras_shift loads, and by `model.export` to a SavedModel, to
ONNX and to OpenVINO. Prints the largest difference to Keras' answers of the original,
as a share of the largest answer, and exits with status 1 where it exceeds BOUND.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402

from keras_shift.deploy import portable  # noqa: E402
from keras_shift.deploy.agreement import compare  # noqa: E402
from keras_shift.zoo import FENet, ShiftNetC, ShiftResNet20  # noqa: E402
from networks import pixels, predict, randomize  # noqa: E402

BOUND = 1e-5

_LOAD = """
import sys
import keras
import numpy as np

model, images, outputs = sys.argv[1:]
model = keras.models.load_model(model)
np.save(outputs, model(np.load(images), training=False))
assert "keras_shift" not in sys.modules
"""


def networks():
    """Functions that make a network, by name."""
    options = {"classes": 10, "classifier_activation": None}
    # With these images, maps have odd sizes, down to 3x2.
    fenet = {"input_shape": (75, 45, 3), "alpha": 0.5, **options}
    styles = [
        {"spatial": "sparse_shift"},
        {"spatial": "grouped_shift"},
        {"spatial": "active_shift"},
        {"spatial": "depthwise"},
        {"spatial": "none"},
        {"squeeze_excite": "v1"},
        {"squeeze_excite": "v2"},
    ]
    made = {
        f"FENet, {' '.join(style.values())}": lambda style=style: FENet(
            **fenet, **style
        )
        for style in styles
    }
    made["ShiftNetC"] = lambda: ShiftNetC((45, 33, 3), **options)
    made["ShiftResNet20"] = lambda: ShiftResNet20(**options)
    return made


def in_keras_alone(model, images, folder):
    """Answers of the .keras file in a process without keras_shift."""
    files = [folder / name for name in ("model.keras", "images.npy", "outputs.npy")]
    model.save(files[0])
    np.save(files[1], images)
    subprocess.run([sys.executable, "-c", _LOAD, *files], check=True)
    return np.load(files[2])


def as_saved_model(model, images, folder):
    """Answers of the SavedModel."""
    import tensorflow as tf

    path = folder / "saved_model"
    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)  # `loaded` must outlive the call.
    return loaded.serve(images)


def in_onnx_runtime(model, images, folder):
    """Answers of ONNX Runtime."""
    import onnxruntime

    path = folder / "model.onnx"
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return session.run(None, {given.name: images})[0]


def in_openvino(model, images, folder):
    """Answers of OpenVINO."""
    import openvino

    path = str(folder / "model.xml")
    model.export(path, format="openvino", verbose=False)
    # Its default on some processors is half precision.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.compile_model(path, "CPU", options)(images)[0]


RUNTIMES = {
    "Keras alone": in_keras_alone,
    "SavedModel": as_saved_model,
    "ONNX Runtime": in_onnx_runtime,
    "OpenVINO": in_openvino,
}


def differences(model, runtimes=RUNTIMES):
    """Yields by how much runtimes' answers differ from those of a model in Keras.

    Args:
        model: A `keras.Model` for images.
        runtimes: Names of `RUNTIMES`. Defaults to all of them.
    """
    images = pixels(3, *model.input_shape[1:])
    expected = predict(model, images)
    plain = portable(model)
    # Keras only exports a model to ONNX that was called.
    predict(plain, images)
    for runtime in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            outputs = RUNTIMES[runtime](plain, images, Path(folder))
        yield compare(outputs, expected).relative_difference


def main():
    """Prints a row a network, and returns the exit status."""
    print(f"{'':<22}", *(f"{name:>14}" for name in RUNTIMES))
    largest = 0.0
    for name, make in networks().items():
        keras.utils.set_random_seed(0)
        found = list(differences(randomize(make())))
        print(f"{name:<22}", *(f"{value:>14.1e}" for value in found), flush=True)
        largest = max(largest, *found)
    print(f"Largest {largest:.1e} of the largest answer; the bound is {BOUND:.0e}.")
    return int(largest > BOUND)


if __name__ == "__main__":
    sys.exit(main())
