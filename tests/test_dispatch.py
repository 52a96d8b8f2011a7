"""The compiled op or keras.ops: one choice for each call, with a reason."""

import keras
import numpy as np
import pytest

from keras_shift import custom_ops, dispatch, ops, tracing
from keras_shift.layers import (
    ActiveShift2D,
    FusedChain2D,
    FusedUnit2D,
    GroupedShift2D,
    SparseShift2D,
)

if keras.backend.backend() != "tensorflow":
    pytest.skip("the op is TensorFlow's", allow_module_level=True)
if custom_ops.why_unavailable() is not None:
    pytest.skip(f"{custom_ops.why_unavailable()}", allow_module_level=True)

import tensorflow as tf  # noqa: E402


def in_a_graph(**arguments):
    """What is chosen while a function is traced."""
    choices = []

    @tf.function
    def traced():
        choices.append(dispatch.choose("float32", **arguments))

    traced.get_concrete_function()
    return choices[0]


@pytest.mark.parametrize("dtype", dispatch.DTYPES)
@pytest.mark.parametrize("wish", [None, True])
def test_the_op_computes_eagerly(dtype, wish):
    kernels, reason = dispatch.choose(dtype, wish)
    assert reason is None
    images = np.ones((1, 2, 2, 1), "float32")
    moved = kernels.shift(tf.cast(images, dtype), tf.constant([[1.0], [0.0]]))
    np.testing.assert_array_equal(
        tf.cast(moved, "float32")[0, :, :, 0], [[1, 1], [0, 0]]
    )


def test_reasons(monkeypatch):
    assert dispatch.choose("float32", False) == (
        None,
        "native=False asks for keras.ops",
    )
    assert "no kernel for uint8" in dispatch.choose("uint8").reason
    assert "may be traced for a file" in in_a_graph().reason
    assert in_a_graph(in_graph=True).reason is None
    assert in_a_graph(wish=True).reason is None
    assert in_a_graph(wish=np.False_).kernels is None
    monkeypatch.setattr(dispatch, "other_devices", lambda: ["/physical_device:GPU:0"])
    assert "GPU:0" in dispatch.choose("float32").reason
    assert dispatch.choose("float32", True).reason is None
    monkeypatch.setattr(custom_ops, "why_unavailable", lambda: "it is not there")
    with pytest.raises(ValueError, match="native=True.*: it is not there"):
        dispatch.choose("float32", True)
    monkeypatch.setattr(tracing, "under_xla", lambda: True)
    assert "XLA" in in_a_graph(in_graph=True).reason
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert dispatch.choose("float32").reason.endswith("jax (KERAS_BACKEND)")
    assert dispatch.choose("float32").kernels is None


@pytest.mark.parametrize(
    "layer",
    [
        ActiveShift2D(),
        GroupedShift2D(),
        SparseShift2D(),
        FusedUnit2D(filters=9, wide_channels=9),
        FusedChain2D([{"filters": 9, "wide_channels": 9}] * 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_call_of_a_layer_chooses_once(layer, monkeypatch):
    images = np.ones((1, 4, 4, 9), "float32")
    layer(images)
    calls = []
    choose = dispatch.choose

    def counted(*args, **kwargs):
        calls.append(choose(*args, **kwargs))
        return calls[-1]

    monkeypatch.setattr(dispatch, "choose", counted)
    layer(images)
    assert [choice.reason for choice in calls] == [None]


def test_functions_run_the_op_in_training_steps():
    images = np.random.default_rng(0).normal(size=(1, 5, 5, 9)).astype("float32")
    displacements = ops.grouped_displacements(9).astype("float32")
    for function in (ops.shift, ops.active_shift, ops.sparse_shift):
        for training in (True, False, None):

            @tf.function
            def step(x):
                return function(x, displacements, training=training)

            graph = step.get_concrete_function(tf.constant(images)).graph.as_graph_def()
            nodes = [node for f in graph.library.function for node in f.node_def]
            nodes += graph.node
            found = any(node.op.startswith("KerasShift>") for node in nodes)
            assert found == bool(training)
            np.testing.assert_allclose(
                step(images), function(images, displacements), atol=1e-6
            )
