"""ShiftNet-A, B and C: what Table 6 says of their maps, and their arguments."""

import keras
import numpy as np
import pytest

from keras_shift.layers import GroupedShift2D
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import ShiftNetA, ShiftNetB, ShiftNetC
from networks import parameters, pixels, predict, randomize

pytestmark = pytest.mark.tensorflow


def small(**arguments):
    return ShiftNetC((32, 32, 3), **{"alpha": 0.25, "classes": 10, **arguments})


@pytest.mark.parametrize(
    "constructor, repeats, channels, kernel_sizes",
    [
        (ShiftNetA, (5, 6, 7, 3), (64, 128, 256, 512), (5, 5, 3, 3)),
        (ShiftNetB, (5, 6, 7, 3), (32, 64, 128, 256), (5, 5, 3, 3)),
        (ShiftNetC, (1, 4, 4, 3), (32, 64, 128, 256), (3, 3, 3, 3)),
    ],
)
def test_groups(constructor, repeats, channels, kernel_sizes):
    model = constructor(weights=None)
    inputs = {layer.name: layer for layer in model.layers}
    for group in range(4):
        name = f"group{group + 1}_module{{}}"
        last = [layer for layer in inputs if layer.startswith(name.format(""))][-1]
        size = 56 // 2**group
        assert inputs[last].output.shape == (None, size, size, channels[group])
        shifts = [
            layer
            for layer in shift_layers(model)
            if layer.name.startswith(name.format(""))
        ]
        assert len(shifts) == repeats[group]
        assert {layer.kernel_size for layer in shifts} == {kernel_sizes[group]}
        assert {type(layer) for layer in shifts} == {GroupedShift2D}


def test_b_is_a_of_half_width():
    half, b = ShiftNetA(alpha=0.5), ShiftNetB()
    assert [w.shape for w in half.weights] == [w.shape for w in b.weights]


def test_reducing_module_keeps_the_pooled_input_beside_its_own_channels():
    model = randomize(small(wiring="concatenate"))
    name = "group2_module1"
    tap = keras.Model(
        model.inputs[0],
        [
            model.get_layer("group1_module1_project").output,
            model.get_layer(f"{name}_concatenate").output,
        ],
    )
    before, after = (np.asarray(y) for y in tap(pixels(2, 32, 32, 3)))
    # Of equal width, group 1 has nothing to keep.
    assert before.shape == (2, 8, 8, 8) and after.shape == (2, 4, 4, 16)
    pooled = before.reshape(2, 4, 2, 4, 2, 8).mean((2, 4))
    np.testing.assert_allclose(after[..., 8:], pooled, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def grouped():
    return small()


@pytest.mark.parametrize(
    "spatial", ["sparse_shift", "active_shift", "depthwise", "none"]
)
def test_other_spatial_layers(spatial, grouped):
    model = small(spatial=spatial)
    displacements = parameters(
        w for w in model.trainable_weights if w.name == "displacements"
    )
    channels = sum(layer.channels for layer in shift_layers(grouped))
    assert displacements == (2 * channels if "shift" in spatial else 0)
    if spatial != "depthwise":
        others = parameters(model.trainable_weights) - displacements
        assert others == parameters(grouped.trainable_weights)
    assert np.isfinite(predict(model, pixels(1, 32, 32, 3))).all()


def test_sc2_shifts_twice_and_costs_the_same():
    once, twice = small(), small(module="sc2")
    assert len(shift_layers(twice)) == 2 * len(shift_layers(once))
    assert once.count_params() == twice.count_params()
    twice.set_weights(once.get_weights())
    images = pixels(2, 32, 32, 3)
    assert not np.allclose(predict(once, images), predict(twice, images))


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (31, 70)])
def test_odd_maps(size):
    for wiring in ("plain", "concatenate"):
        model = ShiftNetC(
            (*size, 3), alpha=0.25, include_top=False, pooling="avg", wiring=wiring
        )
        assert np.isfinite(predict(model, pixels(2, *size, 3))).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha": -1}, "`alpha`.*alpha=-1"),
        ({"module": "csc2"}, "`module`.*module=csc2"),
        ({"wiring": "add"}, "`wiring`.*wiring=add"),
        ({"stem_filters": 0}, "`stem_filters`.*stem_filters=0"),
        ({"spatial": "shift"}, "`spatial`.*spatial=shift"),
        ({"classes": 0}, "`classes`.*classes=0"),
        ({"pooling": "mean"}, "`pooling`.*pooling=mean"),
        ({"weights": "imagenet"}, "`weights`.*imagenet"),
    ],
)
def test_message_names_the_argument_and_what_was_received(arguments, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        small(**arguments)
