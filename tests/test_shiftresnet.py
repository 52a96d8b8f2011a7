"""ShiftResNets: both papers' wirings, their modules and arguments."""

import keras
import numpy as np
import pytest

from keras_shift.layers import ActiveShift2D, GroupedShift2D, SparseShift2D
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import ShiftResNet20, ShiftResNet50, ShiftResNet56, ShiftResNet110
from marks import exhaustive
from networks import pixels, predict, randomize

pytestmark = pytest.mark.tensorflow


def tap(model, *names):
    return keras.Model(
        model.inputs[0], [model.get_layer(name).output for name in names]
    )


@pytest.mark.parametrize(
    "constructor, modules",
    [(ShiftResNet20, 3), exhaustive(ShiftResNet56, 9), exhaustive(ShiftResNet110, 18)],
)
def test_depth(constructor, modules):
    model = constructor(expansion=1)
    assert len(shift_layers(model)) == 3 * modules
    for group, (size, channels) in enumerate([(32, 16), (16, 32), (8, 64)]):
        name = f"group{group + 1}_module{modules}_add"
        assert model.get_layer(name).output.shape == (None, size, size, channels)


def test_the_two_papers_make_their_wide_tensors_of_different_ends():
    """Table 2 of the SSL paper: 96 channels 4 times, 192 3 times, 384 twice."""
    ssl = [
        layer.channels for layer in shift_layers(ShiftResNet20(wiring="concatenate"))
    ]
    assert ssl == [96] * 4 + [192] * 3 + [384] * 2
    shiftnet = [layer.channels for layer in shift_layers(ShiftResNet20())]
    assert shiftnet == [96] * 3 + [192] * 3 + [384] * 3


def test_each_wiring_has_its_papers_shift():
    for arguments, kind in [
        ({}, GroupedShift2D),
        ({"wiring": "concatenate"}, SparseShift2D),
        ({"spatial": "active_shift"}, ActiveShift2D),
    ]:
        model = ShiftResNet20(alpha=0.25, **arguments)
        assert {type(layer) for layer in shift_layers(model)} == {kind}
    for spatial in ("none", "depthwise"):
        assert shift_layers(ShiftResNet20(alpha=0.25, spatial=spatial)) == []


def test_modules_without_shift():
    model = ShiftResNet20(
        wiring="concatenate", without_shift=["group1_module2", "group3_module1"]
    )
    names = [layer.name for layer in shift_layers(model)]
    assert names == [
        f"group{group}_module{module}_shift"
        for group, module in [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    ]
    whole = ShiftResNet20(wiring="concatenate")
    assert model.count_params() == whole.count_params() - 2 * (96 + 192)
    for bad in (["group3_module4"], "group1_module1", None):
        with pytest.raises(ValueError, match="'group3_module3'.*Received: without_shi"):
            ShiftResNet20(without_shift=bad)
    model = ShiftResNet20(module="sc2", without_shift=["group1_module1"])
    assert shift_layers(model)[0].name == "group1_module2_input_shift"


def test_concatenation_keeps_the_pooled_input():
    model = randomize(ShiftResNet20(wiring="concatenate", expansion=1))
    names = ["group1_module3_add", "group2_module1_concatenate"]
    before, after = (np.asarray(y) for y in tap(model, *names)(pixels(2, 32, 32, 3)))
    pooled = before.reshape(2, 16, 2, 16, 2, 16).mean((2, 4))
    np.testing.assert_allclose(after[..., 16:], pooled, rtol=1e-4, atol=1e-4)


def test_modules_add_their_input():
    model = randomize(ShiftResNet20(expansion=1))
    names = ["group1_module1_add", "group1_module2_project_relu", "group1_module2_add"]
    before, branch, after = (
        np.asarray(y) for y in tap(model, *names)(pixels(2, 32, 32, 3))
    )
    np.testing.assert_allclose(after, before + branch, rtol=1e-4, atol=1e-4)
    # Nothing follows the sum, as in the published code.
    names = ["group2_module1_shortcut_bn", "group2_module1_project_relu"]
    names += ["group2_module1_add"]
    shortcut, branch, after = (
        np.asarray(y) for y in tap(model, *names)(pixels(2, 32, 32, 3))
    )
    np.testing.assert_allclose(after, shortcut + branch, rtol=1e-4, atol=1e-4)
    assert after.min() < 0


def test_sc2_shifts_twice():
    assert len(shift_layers(ShiftResNet20(expansion=1, module="sc2"))) == 18


def test_50_has_a_module_for_each_3x3_convolution():
    model = ShiftResNet50((32, 32, 3), alpha=0.25, classes=10)
    channels = [layer.channels for layer in shift_layers(model)]
    assert channels == [48] * 3 + [96] * 4 + [192] * 6 + [384] * 3
    kernels = {
        layer.kernel_size
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "stem"
    }
    assert kernels == {(1, 1)}
    assert np.isfinite(predict(model, pixels(1, 32, 32, 3))).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha": 0}, "`alpha`.*alpha=0"),
        ({"expansion": 0}, "`expansion`.*expansion=0"),
        ({"expansion": 2.5}, "`expansion`.*expansion=2.5"),
        ({"wiring": "plain"}, "`wiring`.*wiring=plain"),
        ({"module": "sc"}, "`module`.*module=sc"),
        ({"spatial": "conv"}, "`spatial`.*spatial=conv"),
    ],
)
def test_message_names_the_argument_and_what_was_received(arguments, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        ShiftResNet20(**arguments)


def test_50_has_the_same_messages():
    for expansion in (-3, 2.5):
        with pytest.raises(ValueError, match=f"`expansion`.*expansion={expansion}"):
            ShiftResNet50(expansion=expansion)
