"""ResNets, the papers' baselines: shortcuts, reductions, arguments."""

import keras
import numpy as np
import pytest

from keras_shift.zoo import ResNet20, ResNet50
from networks import parameters, pixels, predict, randomize

pytestmark = pytest.mark.tensorflow


def tap(model, *names):
    return keras.Model(
        model.inputs[0], [model.get_layer(name).output for name in names]
    )


@pytest.fixture(params=["channels_last", "channels_first"])
def data_format(request):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(request.param)
    yield request.param
    keras.config.set_image_data_format(before)


def test_zero_padded_shortcut(data_format):
    model = ResNet20(shortcut="zero_padding")
    names = ["group1_module3_relu", "group2_module1_second_bn", "group2_module1_add"]
    shapes = [model.get_layer(name).output.shape for name in names]
    if data_format == "channels_first":
        # TensorFlow cannot run these on CPUs.
        assert shapes[1] == shapes[2] == (None, 32, 16, 16)
        return
    randomize(model)
    before, branch, after = (
        np.asarray(y) for y in tap(model, *names)(pixels(2, 32, 32, 3))
    )
    shortcut = np.zeros_like(branch)
    shortcut[..., :16] = before[:, ::2, ::2]
    np.testing.assert_allclose(after, branch + shortcut, rtol=1e-4, atol=1e-4)


def test_zero_padding_has_no_parameters():
    projections = sum((16 * 32 + 2 * 32, 32 * 64 + 2 * 64))
    difference = parameters(ResNet20().trainable_weights) - parameters(
        ResNet20(shortcut="zero_padding").trainable_weights
    )
    assert difference == projections


def test_module_wise_reduction_divides_each_modules_first_convolution():
    model = ResNet20(module_reduction=3.3)
    for group, filters in ((1, 16), (2, 32), (3, 64)):
        for module in (1, 2, 3):
            name = f"group{group}_module{module}"
            assert model.get_layer(f"{name}_first").filters == int(filters / 3.3)
            assert model.get_layer(f"{name}_second").filters == filters
            assert model.get_layer(f"{name}_shortcut").filters == filters


def test_net_wise_reduction_divides_all_widths():
    model = ResNet20(alpha=8**-0.5)
    widths = [model.get_layer(f"group{g}_module1_second").filters for g in (1, 2, 3)]
    assert [model.get_layer("stem").filters, *widths] == [5, 5, 11, 22]


def test_50_differs_from_that_of_keras_applications_where_its_docstring_says():
    ours = ResNet50(kernel_initializer="zeros")  # which takes less time
    theirs = keras.applications.ResNet50(weights=None)
    biases = sum(
        layer.filters
        for layer in theirs.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert theirs.count_params() - ours.count_params() == biases
    assert ours.get_layer("group2_module1_middle").strides == (2, 2)


def test_images_of_any_size():
    model = ResNet20((None, None, 1), classes=7)
    assert predict(model, pixels(2, 29, 41, 1)).shape == (2, 7)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha": 0}, "`alpha`.*alpha=0"),
        ({"shortcut": "A"}, "`shortcut`.*shortcut=A"),
        ({"module_reduction": 0}, "`module_reduction`.*module_reduction=0"),
    ],
)
def test_message_names_the_argument_and_what_was_received(arguments, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        ResNet20(**arguments)


def test_50_has_the_same_messages():
    with pytest.raises(ValueError, match="`alpha`.*alpha=-1"):
        ResNet50(alpha=-1)
