"""The layer of a fused unit, on every backend."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_shift import dispatch
from keras_shift.layers import FusedUnit2D
from reference import integer_shift

# Arguments, and the shape of the images.
CASES = [
    ({"filters": 5, "wide_channels": 40}, (2, 6, 5, 7)),
    ({"filters": 33, "wide_channels": 1, "output_relu": True}, (1, 6, 5, 1)),
    ({"filters": 7, "wide_channels": 16, "residual": True}, (3, 1, 1, 7)),
    ({"filters": 4, "wide_channels": 50, "strides": (2, 3)}, (2, 7, 8, 5)),
    ({"filters": 4, "wide_channels": 50, "pool_padding": "valid"}, (2, 7, 8, 5)),
    (
        {"filters": 4, "wide_channels": 5, "pool_padding": "same", "output_relu": True},
        (2, 7, 1, 5),
    ),
    ({"filters": 35, "wide_channels": 37, "global_pool": True}, (2, 8, 4, 5)),
    (
        {"filters": 3, "wide_channels": 20, "channels": 3, "residual": True},
        (2, 6, 5, 11),
    ),
    (
        {"filters": 9, "wide_channels": 20, "channels": 4, "output_relu": True},
        (2, 6, 5, 6),
    ),
]
every_case = pytest.mark.parametrize("arguments, shape", CASES)
IN_BFLOAT16 = [({**arguments, "precision": "bfloat16"}, s) for arguments, s in CASES]
every_precision = pytest.mark.parametrize("arguments, shape", CASES + IN_BFLOAT16)


def numbers(arguments, random, shape, scale):
    """Normal numbers, or whole ones, of which float32 takes exact sums in any order."""
    if arguments.get("precision") == "bfloat16":
        return random.integers(-scale, scale, shape, endpoint=True)
    return random.normal(size=shape)


def matrices(arguments, channels, seed=1):
    random = np.random.default_rng(seed)
    wide, filters = arguments["wide_channels"], arguments["filters"]
    moves = arguments.keys().isdisjoint({"pool_padding", "global_pool"})
    displacements = random.choice([0, 0, 0, 1, -1, 2, -9, 2**31 - 1], (2, wide))
    return {
        "expand_kernel": numbers(arguments, random, (channels, wide), 3),
        "expand_bias": numbers(arguments, random, wide, 1000),
        "project_kernel": numbers(arguments, random, (wide, filters), 3),
        "project_bias": numbers(arguments, random, filters, 1000),
        "displacements": displacements if moves else None,
    }


def layer_of(arguments, shape, seed=1):
    layer = FusedUnit2D(**arguments)
    layer.build(shape)
    layer.set_matrices(**matrices(arguments, layer.channels, seed))
    return layer


def images(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pooled(x, padding):
    """Means of 2x2 pixels; at the end of odd maps, of those that there are."""
    height, width = (size % 2 for size in x.shape[1:3])
    if padding == "valid":
        x = x[:, : x.shape[1] - height, : x.shape[2] - width]
    else:
        x = np.pad(x, [(0, 0), (0, height), (0, width), (0, 0)], constant_values=np.nan)
    parts = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    return np.nanmean(parts, axis=0)


def expected(arguments, inputs):
    """The docstring's formula in NumPy."""
    channels = arguments.get("channels") or inputs.shape[-1]
    weights = matrices(arguments, channels)
    inputs = inputs.astype("float64")

    def rounded(numbers):
        if arguments.get("precision") == "bfloat16":
            return numbers.astype(ml_dtypes.bfloat16).astype("float64")
        return numbers

    x, rest = inputs[..., :channels], inputs[..., channels:]
    wide = rounded(x) @ weights["expand_kernel"] + weights["expand_bias"]
    wide = rounded(np.maximum(wide, 0))
    pool = arguments.get("pool_padding")
    if arguments.get("global_pool"):
        wide = rounded(wide.mean(axis=(1, 2), keepdims=True))
    elif pool is None:
        wide = integer_shift(wide, weights["displacements"])
    else:
        wide = rounded(pooled(wide, pool))
    rows, columns = arguments.get("strides", (1, 1))
    y = wide[:, ::rows, ::columns] @ weights["project_kernel"] + weights["project_bias"]
    y = np.maximum(y, 0) if arguments.get("output_relu") else y
    y = x + y if arguments.get("residual") else y
    return np.concatenate([y, rest], axis=-1) if rest.shape[-1] else y


@every_case
def test_formula(arguments, shape):
    x = images(shape)
    layer = layer_of(arguments, shape)
    y = ops.convert_to_numpy(layer(x))
    correct = expected(arguments, x)
    assert y.shape == correct.shape == layer.compute_output_shape(shape)
    np.testing.assert_allclose(y, correct, rtol=0, atol=1e-5 * np.abs(correct).max())
    empty = layer(x[:0])
    assert tuple(empty.shape) == (0, *correct.shape[1:])


@pytest.mark.parametrize("native", [True, False], ids=["layer", "keras.ops"])
@pytest.mark.parametrize("arguments, shape", IN_BFLOAT16)
def test_bfloat16_rounds_what_is_multiplied(arguments, shape, native, monkeypatch):
    """To the bit, wherever it is computed."""
    if not native:
        chosen = dispatch.Choice(None, "a test")
        monkeypatch.setattr(dispatch, "choose", lambda *_, **__: chosen)
    x = numbers(arguments, np.random.default_rng(0), shape, 1000).astype("float32")
    layer = layer_of(arguments, shape)
    correct = expected(arguments, x)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), correct)


@every_case
def test_one_model_takes_images_of_any_size(arguments, shape):
    inputs = keras.Input((None, None, shape[-1]))
    layer = FusedUnit2D(**arguments)
    model = keras.Model(inputs, layer(inputs))
    layer.set_matrices(**matrices(arguments, layer.channels))
    for size in ((2, 6, 5), (1, 3, 9), (3, 8, 2)):
        x = images((*size, shape[-1]))
        correct = expected(arguments, x)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), correct, atol=1e-5 * np.abs(correct).max()
        )


@every_precision
def test_config_and_weights(arguments, shape, tmp_path):
    layer = layer_of(arguments, shape)
    again = FusedUnit2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build(shape)
    again.set_weights(layer.get_weights())
    assert again.trainable_weights == []
    x = images(shape)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(layer(x))
    )


def test_panels():
    """In the order that the docstring tells."""
    arguments, shape = {"filters": 3, "wide_channels": 20}, (1, 2, 2, 5)
    layer = layer_of(arguments, shape)
    weights = matrices(arguments, 5)
    panels = ops.convert_to_numpy(layer.expand_panels)
    assert panels.shape == (2, 6, 16)
    np.testing.assert_allclose(panels[1, 0, :4], weights["expand_bias"][16:], rtol=1e-6)
    np.testing.assert_allclose(
        panels[0, 3], weights["expand_kernel"][2, :16], rtol=1e-6
    )
    assert not panels[1, :, 4:].any()


def test_panels_of_pairs():
    arguments = {"filters": 3, "wide_channels": 20, "precision": "bfloat16"}
    layer = layer_of(arguments, (1, 2, 2, 5))
    assert {layer.expand_panels.dtype, layer.project_panels.dtype} == {"bfloat16"}
    weights = matrices(arguments, 5)
    panels = ops.convert_to_numpy(ops.cast(layer.expand_panels, "float32"))
    assert panels.shape == (2, 4, 32)
    bias = panels[:, 0].reshape(32, 2)
    np.testing.assert_array_equal(bias.sum(axis=1)[:20], weights["expand_bias"])
    assert bias[:, 1].any()
    np.testing.assert_array_equal(panels[0, 2, ::2], weights["expand_kernel"][2, :16])
    np.testing.assert_array_equal(panels[1, 2, 1:8:2], weights["expand_kernel"][3, 16:])
    np.testing.assert_array_equal(panels[1, 3, :8:2], weights["expand_kernel"][4, 16:])
    assert not panels[:, 3, 1::2].any() and not panels[1, :, 8:].any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"filters": 0}, "(?s)`filters`.*Received: filters=0"),
        ({"strides": (1, -1)}, "(?s)`strides`.*Received: strides=-1"),
        ({"strides": (1, 2, 1)}, r"(?s)`strides`.*Received: strides=\(1, 2, 1\)"),
        ({"pool_padding": "full"}, "(?s)`pool_padding`.*Received: pool_padding=full"),
        ({"precision": "int8"}, "(?s)`precision`.*Received: precision=int8"),
        (
            {"global_pool": True, "strides": 2},
            r"(?s)global_pool=True.*Received: strides=\(2, 2\), pool_padding=None",
        ),
        (
            {"global_pool": True, "pool_padding": "same"},
            "(?s)global_pool=True.*Received: .*pool_padding=same",
        ),
        ({"dtype": "mixed_float16"}, "float32 only.*Received: dtype=mixed_float16"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FusedUnit2D(**{"filters": 4, "wide_channels": 8, **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 9}, "`channels` is 9"),
        ({"residual": True}, "residual=True.*Received: channels=6, filters=4"),
        ({"channels": 4, "pool_padding": "same"}, "keeps its size.*pool_padding=same"),
        ({"channels": 4, "global_pool": True}, "keeps its size.*global_pool=True"),
        ({"channels": 4, "strides": (1, 2)}, r"keeps its size.*strides=\(1, 2\)"),
    ],
)
def test_wrong_images(arguments, message):
    layer = FusedUnit2D(filters=4, wide_channels=8, **arguments)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        layer.build((None, 5, 5, 6))


def test_one_number_of_strides_is_for_both_sides():
    for strides in (2, np.array([2, 2])):
        layer = FusedUnit2D(filters=4, wide_channels=8, strides=strides)
        assert layer.strides == (2, 2)
    assert layer.compute_output_shape((None, 5, 4, 6)) == (None, 3, 2, 4)


def test_training_is_refused():
    layer = layer_of(*CASES[0])
    with pytest.raises(ValueError, match="(?s)for inference.*training=True"):
        layer(images(CASES[0][1]), training=True)
