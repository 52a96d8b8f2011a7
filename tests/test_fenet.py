"""FE-Net: the paper's figures, keras.applications' interface, saving."""

import math

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.analysis import multiply_adds
from keras_shift.layers import SqueezeExcite2D
from keras_shift.layers.shift_layer import ShiftLayer, shift_layers
from keras_shift.zoo import FENet, fenet
from marks import exhaustive
from networks import parameters, pixels, predict, randomize

pytestmark = pytest.mark.tensorflow

# The channels of the last map at alpha=0.35.
HEAD = 483


def small(input_shape=(32, 32, 3), **arguments):
    """An FE-Net that is built in half a second."""
    return FENet(input_shape, **{"alpha": 0.35, "classes": 10, **arguments})


class TestCounts:
    def test_grouped_and_active_shifts_cost_what_sparse_ones_do(self):
        sparse, grouped, active, none = (
            small(spatial=spatial)
            for spatial in ("sparse_shift", "grouped_shift", "active_shift", "none")
        )
        shifts = parameters(layer.displacements for layer in shift_layers(sparse))
        assert active.count_params() == sparse.count_params()
        assert grouped.count_params() == sparse.count_params() - shifts
        assert none.count_params() == grouped.count_params()
        assert len(shift_layers(grouped)) == len(shift_layers(sparse)) == 16
        assert shift_layers(none) == []
        assert (
            multiply_adds(sparse)
            == multiply_adds(active)
            == multiply_adds(grouped)
            == multiply_adds(none)
        )

    @pytest.mark.parametrize("variant, gates", [("v1", 20), ("v2", 20), (None, 0)])
    def test_every_unit_has_a_gate(self, variant, gates):
        model = small(squeeze_excite=variant)
        found = [layer for layer in model.layers if isinstance(layer, SqueezeExcite2D)]
        assert len(found) == gates

    def test_squeeze_ratio_divides_the_gates_hidden_vector(self):
        by_two, by_four = (
            small(squeeze_excite="v2", squeeze_ratio=ratio) for ratio in (2, 4)
        )
        name = "fe_block5_unit3_squeeze_excite"
        wide = by_two.get_layer(name).squeeze_kernel.shape[0]
        assert by_two.get_layer(name).squeeze_kernel.shape[1] == round(wide / 2)
        assert by_four.get_layer(name).squeeze_kernel.shape[1] == round(wide / 4)


class TestWithoutShift:
    NAMES = ("unit1", "fe_block2_unit3")

    def test_no_other_unit_loses_its_shift(self):
        names = [layer.name for layer in shift_layers(small())]
        removed = [f"{name}_shift" for name in self.NAMES]
        model = small(without_shift=self.NAMES)
        assert set(removed) < set(names)
        assert [layer.name for layer in shift_layers(model)] == [
            name for name in names if name not in removed
        ]

    def test_is_the_network_with_displacements_of_zero_there(self):
        whole = randomize(small(classifier_activation=None))
        model = small(without_shift=self.NAMES, classifier_activation=None)
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(whole.get_layer(layer.name).get_weights())
        images = pixels(2, 32, 32, 3)
        assert np.abs(predict(model, images) - predict(whole, images)).max() > 1e-3
        for name in self.NAMES:
            displacements = whole.get_layer(f"{name}_shift").displacements
            displacements.assign(np.zeros(displacements.shape))
        np.testing.assert_allclose(
            predict(model, images), predict(whole, images), rtol=1e-4, atol=1e-3
        )

    def test_leaves_out_whatever_exchanges_information(self):
        model = small(spatial="depthwise", without_shift=["unit1"])
        names = [layer.name for layer in model.layers]
        assert "unit1_depthwise" not in names
        assert "fe_block1_unit1_depthwise" in names

    def test_every_unit_has_a_name(self):
        expand = {f"{name}_expand" for name in fenet._UNITS}
        layers = {layer.name for layer in small().layers}
        assert expand == {name for name in layers if name.endswith("_expand")}

    @pytest.mark.parametrize("bad", [("unit3",), "unit1", ("stem",), None])
    def test_refuses_names_of_no_unit(self, bad):
        with pytest.raises(ValueError, match="'fe_block5_unit3'.*Received: without_sh"):
            small(without_shift=bad)


class TestShapes:
    def test_defaults_are_those_of_keras_applications(self):
        model = FENet()
        assert model.input_shape == (None, 224, 224, 3)
        assert model.output_shape == (None, 1000)
        assert model.layers[-1].activation is keras.activations.softmax

    def test_without_top_and_shape_images_may_have_any_size(self):
        model = FENet(alpha=0.35, include_top=False)
        assert model.input_shape == (None, None, None, 3)
        assert model.output_shape == (None, None, None, HEAD)
        assert predict(model, pixels(2, 64, 33, 3)).shape == (2, 2, 2, HEAD)
        assert predict(model, pixels(1, 32, 96, 3)).shape == (1, 1, 3, HEAD)

    def test_the_top_also_takes_any_size(self):
        model = small((None, None, 3))
        assert predict(model, pixels(2, 40, 24, 3)).shape == (2, 10)

    def test_pooling_reduces_the_last_map(self):
        keras.utils.set_random_seed(0)
        maps = small((64, 64, 3), include_top=False)
        images = pixels(2, 64, 64, 3)
        expected = predict(maps, images)
        for pooling, reduce in (("avg", np.mean), ("max", np.max)):
            pooled = small((64, 64, 3), include_top=False, pooling=pooling)
            pooled.set_weights(maps.get_weights())
            assert pooled.output_shape == (None, HEAD)
            np.testing.assert_allclose(
                predict(pooled, images),
                reduce(expected, axis=(1, 2)),
                rtol=1e-4,
                atol=1e-4,
            )

    @pytest.mark.parametrize(
        "size", [(1, 1), exhaustive((1, 5)), (33, 47), exhaustive((31, 7))]
    )
    def test_maps_are_halved_rounding_up(self, size):
        model = small((*size, 3), include_top=False)
        expected = tuple(math.ceil(length / 32) for length in size)
        assert model.output_shape == (None, *expected, HEAD)
        output = predict(model, pixels(2, *size, 3))
        assert output.shape == (2, *expected, HEAD)
        assert np.isfinite(output).all()

    @pytest.mark.parametrize("output_stride", [32, 16, 8, 4])
    def test_output_stride(self, output_stride):
        model = small((64, 64, 3), include_top=False, output_stride=output_stride)
        last = 64 // output_stride
        assert model.output_shape == (None, last, last, HEAD)

    def test_output_stride_leaves_out_the_first_reductions(self):
        model = small((64, 64, 3), output_stride=8)
        assert model.get_layer("stem").strides == (1, 1)
        pools = [layer.name for layer in model.layers if "_pool" in layer.name]
        assert pools == [
            "fe_block1_unit3_pool",
            "fe_block2_unit4_pool",
            "fe_block4_unit4_pool",
            "average_pool",
        ]
        assert isinstance(model.get_layer("unit2_shift"), ShiftLayer)

    # Networks of width 0.35 and of width 1 run in other tests.
    @pytest.mark.parametrize(
        "alpha", [0.1, exhaustive(0.35), exhaustive(0.5), 0.77, exhaustive(1.0)]
    )
    def test_any_width_multiplier_gives_a_network_that_runs(self, alpha):
        model = small(alpha=alpha)
        assert np.isfinite(predict(model, pixels(1, 32, 32, 3))).all()
        # The width that FE-blocks divide by eight.
        channels = model.get_layer("fe_block4_unit3_mix").output.shape[-1]
        assert channels % 8 == 0
        assert abs(channels - 128 * alpha) <= 4

    @pytest.mark.parametrize("eighths", [exhaustive(1), 5, exhaustive(11)])
    def test_multiples_of_an_eighth_need_no_rounding_but_in_the_head(self, eighths):
        model = small(alpha=eighths / 8)
        units = ["unit2", "fe_block1_unit3", "fe_block2_unit4", "fe_block3_unit4"]
        units += ["fe_block4_unit4", "fe_block5_unit3"]
        layers = ["stem", *(f"{unit}_project" for unit in units)]
        at_one = [16, 32, 64, 128, 128, 256, 256]
        widths = [model.get_layer(layer).filters for layer in layers]
        assert widths == [width * eighths // 8 for width in at_one]
        assert abs(model.get_layer("head").filters - 1380 * eighths / 8) <= 0.5


class TestInputs:
    def test_input_tensor(self):
        images = keras.Input((32, 48, 3))
        model = FENet(input_tensor=images, alpha=0.35, include_top=False)
        assert model.inputs[0] is images
        assert model.output_shape == (None, 1, 2, HEAD)

    def test_input_tensor_may_be_an_output_of_layers(self):
        images = keras.Input((32, 32, 1))
        colours = keras.layers.Concatenate()([images] * 3)
        model = FENet(input_tensor=colours, alpha=0.35, classes=10)
        assert model.inputs[0] is images
        grey = pixels(2, 32, 32, 1)
        reference = small()
        reference.set_weights(model.get_weights())
        np.testing.assert_allclose(
            predict(model, grey),
            predict(reference, np.repeat(grey, 3, axis=-1)),
            rtol=1e-4,
            atol=1e-6,
        )

    def test_model_with_input_tensor_takes_a_tensor_not_a_list(self):
        images = keras.Input((32, 32, 3))
        model = FENet(input_tensor=images, alpha=0.35, classes=10)
        assert isinstance(model.input, type(images))

    def test_preprocessing_maps_pixels_to_plus_minus_one(self):
        keras.utils.set_random_seed(0)
        inside = small()
        outside = small(include_preprocessing=False)
        outside.set_weights(inside.get_weights())
        images = pixels(2, 32, 32, 3)
        np.testing.assert_allclose(
            predict(inside, images),
            predict(outside, images / 127.5 - 1),
            rtol=1e-4,
            atol=1e-6,
        )

    def test_bytes_are_as_good_as_floats(self):
        images = keras.Input((32, 32, 3), dtype="uint8")
        model = FENet(input_tensor=images, alpha=0.35, classes=10)
        floats = small()
        floats.set_weights(model.get_weights())
        data = pixels(2, 32, 32, 3).astype("uint8")
        np.testing.assert_allclose(
            predict(model, data), predict(floats, data.astype("float32")), rtol=1e-5
        )

    def test_channels_first(self, channels_first):
        first = small((3, 40, 64), include_top=False)
        assert first.input_shape == (None, 3, 40, 64)
        assert first.output_shape == (None, HEAD, 2, 2)
        assert FENet(alpha=0.35, include_top=False).input_shape[1] == 3
        axes = {
            layer.axis
            for layer in first.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        }
        assert axes == {1}
        keras.config.set_image_data_format("channels_last")
        last = small((40, 64, 3), include_top=False)
        assert [w.shape for w in first.weights] == [w.shape for w in last.weights]

    @pytest.fixture
    def channels_first(self):
        before = keras.config.image_data_format()
        keras.config.set_image_data_format("channels_first")
        yield
        keras.config.set_image_data_format(before)


class TestArguments:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"weights": "imagenet"}, "`weights`.*ImageNet.*weights='imagenet'"),
            ({"weights": "no/such.weights.h5"}, "`weights`.*no such file.*no/such"),
            ({"weights": 3}, "`weights`.*weights=3"),
            ({"alpha": 0}, "`alpha`.*alpha=0"),
            ({"alpha": float("inf")}, "`alpha`.*alpha=inf"),
            ({"alpha": float("nan")}, "`alpha`.*alpha=nan"),
            ({"input_shape": (32, 32)}, r"`input_shape`.*\(32, 32\)"),
            ({"input_shape": (32, 32, None)}, r"`input_shape`.*\(32, 32, None\)"),
            ({"input_shape": (0, 32, 3)}, r"`input_shape`.*\(0, 32, 3\)"),
            ({"pooling": "mean"}, "`pooling`.*pooling=mean"),
            ({"classes": 0}, "`classes`.*classes=0"),
            ({"output_stride": 2}, "`output_stride`.*output_stride=2"),
            ({"spatial": "shift"}, "`spatial`.*spatial=shift"),
            ({"squeeze_excite": "v3"}, "`squeeze_excite`.*squeeze_excite=v3"),
            (
                {"squeeze_excite": "v1", "squeeze_ratio": 0},
                "`squeeze_ratio`.*squeeze_ratio=0",
            ),
            ({"output_stride": 32.0}, "`output_stride`.*output_stride=32.0"),
            ({"head_filters": 0}, "`head_filters`.*head_filters=0"),
            ({"head_filters": 100.0}, "`head_filters`.*head_filters=100.0"),
            ({"expand_from": "both"}, "`expand_from`.*expand_from=both"),
            ({"max_displacement": -1}, "`max_displacement`.*max_displacement=-1"),
            ({"input_tensor": "image"}, "`input_tensor`.*input_tensor=image"),
            ({"alpha": "1"}, "`alpha`.*alpha='1'"),
            ({"alpha": True}, "`alpha`.*alpha=True"),
            ({"classes": "10"}, "`classes`.*classes='10'"),
            ({"classes": 1.5}, "`classes`.*classes=1.5"),
            ({"input_shape": 5}, "`input_shape`.*input_shape=5"),
            ({"input_shape": "abc"}, "`input_shape`.*input_shape='abc'"),
            ({"input_shape": (32, 32, "3")}, r"`input_shape`.*\(32, 32, '3'\)"),
            ({"input_shape": (32.5, 32, 3)}, r"`input_shape`.*\(32.5, 32, 3\)"),
            ({"max_displacement": float("inf")}, "`max_dis.*max_displacement=inf"),
            ({"max_displacement": "2"}, "`max_displacement`.*max_displacement='2'"),
            ({"include_top": "no"}, "`include_top`.*include_top=no"),
            ({"include_preprocessing": "no"}, "`include_preprocessing`.*=no"),
            ({"batch_norm_momentum": float("nan")}, "`batch_norm_momentum`.*=nan"),
            ({"batch_norm_momentum": "a"}, "`batch_norm_momentum`.*='a'"),
            ({"head_filters": "9"}, "`head_filters`.*head_filters='9'"),
            (
                {"weights": "tiny_imagenet", "alpha": 1, "input_shape": 5},
                "`input_shape`.*input_shape=5",
            ),
            ({"weights": "tiny_imagenet", "alpha": "1"}, "alpha=1.0.*alpha=1"),
        ],
    )
    def test_message_names_the_argument_and_what_was_received(self, arguments, message):
        arguments = {"input_shape": (32, 32, 3), "alpha": 0.35, **arguments}
        with pytest.raises(ValueError, match="(?s)" + message):
            FENet(**arguments)

    def test_numpy_has_integers_too(self):
        arguments = {"classes": np.int32(4), "alpha": np.float32(0.5)}
        model = FENet(
            list(np.array([32, 32, 3])), max_displacement=np.int8(2), **arguments
        )
        assert model.output_shape == (None, 4) and model.input_shape[1:] == (32, 32, 3)

    def test_images_may_be_smaller_than_the_stride(self):
        """Maps of one pixel stay maps of one pixel, and depend on the image."""
        model = small((8, 8, 3), classifier_activation=None)
        one, other = predict(model, pixels(2, 8, 8, 3))
        assert np.isfinite(one).all() and np.abs(one - other).max() > 0.01

    def test_input_tensor_and_shape_must_agree(self):
        with pytest.raises(ValueError, match=r"(?s)`input_tensor`.*\(32, 33, 3\)"):
            FENet((32, 33, 3), input_tensor=keras.Input((32, 32, 3)))

    def test_no_more_than_nine_arguments_are_positional(self):
        with pytest.raises(TypeError):
            FENet((32, 32, 3), 1.0, True, None, None, None, 10, None, "name", True)

    def test_regularizers_reach_every_kernel_and_displacement(self):
        model = small(
            squeeze_excite="v2",
            kernel_regularizer=keras.regularizers.L2(1.0),
            displacement_regularizer=keras.regularizers.L1(1.0),
        )
        kernels = [w for w in model.trainable_weights if "kernel" in w.name]
        shifts = [w for w in model.trainable_weights if w.name == "displacements"]
        assert len(shifts) == 16
        assert {bool(w.regularizer) for w in kernels + shifts} == {True}
        total = sum(np.sum(np.square(w.numpy())) for w in kernels)
        total += sum(np.sum(np.abs(w.numpy())) for w in shifts)
        np.testing.assert_allclose(
            sum(float(loss) for loss in model.losses), total, rtol=1e-5
        )

    def test_one_initializer_does_not_give_two_layers_the_same_values(self):
        model = small(
            squeeze_excite="v2",
            kernel_initializer=keras.initializers.HeNormal(),
            displacement_initializer=keras.initializers.RandomUniform(-1, 2),
        )
        for kind in ("fe_block3_unit{}_expand", "fe_block3_unit{}_shift"):
            # Both are the first of their block and of the same shape.
            one = model.get_layer(kind.format(1)).trainable_weights[0].numpy()
            other = model.get_layer(kind.format(1).replace("3", "4", 1))
            other = other.trainable_weights[0].numpy()
            assert one.shape == other.shape
            assert not np.array_equal(one, other)

    def test_initializers_may_be_functions(self):
        def half(shape, dtype=None):
            return keras.ops.full(shape, 0.5, dtype)

        model = small(displacement_initializer=half, kernel_initializer=half)
        assert np.all(model.get_layer("unit1_shift").displacements.numpy() == 0.5)
        assert np.all(model.get_layer("head").kernel.numpy() == 0.5)

    def test_displacements_start_grouped_and_are_bounded(self):
        layer = small().get_layer("unit1_shift")
        np.testing.assert_array_equal(
            layer.displacement_array(),
            keras_shift.ops.grouped_displacements(layer.channels),
        )
        assert layer.max_displacement == 2
        unbounded = small(max_displacement=None).get_layer("unit1_shift")
        assert unbounded.displacements.constraint is None

    def test_remaining_arguments_reach_their_layers(self):
        model = small(
            batch_norm_momentum=0.7, dropout_rate=0.4, classifier_activation=None
        )
        momenta = {
            layer.momentum
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        }
        assert momenta == {0.7}
        assert model.get_layer("dropout").rate == 0.4
        assert model.layers[-1].activation is keras.activations.linear


class TestGradients:
    # A gate with one or two hidden units may start with none that is alive.
    @pytest.mark.parametrize(
        "arguments",
        [
            # In .ci/run, tests/test_zoo.py looks at this one's and the depthwise one's.
            exhaustive({}),
            exhaustive({"max_displacement": None}),
            {"spatial": "active_shift"},
            exhaustive({"spatial": "grouped_shift"}),
            exhaustive({"spatial": "depthwise"}),
            exhaustive({"spatial": "none"}),
            {"squeeze_excite": "v1", "squeeze_ratio": 0.5},
            {"squeeze_excite": "v2", "squeeze_ratio": 1},
        ],
        ids=str,
    )
    def test_every_trainable_parameter_gets_a_gradient(self, arguments):
        import tensorflow as tf

        keras.utils.set_random_seed(0)
        model = small(output_stride=8, classifier_activation=None, **arguments)
        labels = np.arange(8)
        with tf.GradientTape() as tape:
            logits = model(pixels(8, 32, 32, 3), training=True)
            loss = keras.losses.sparse_categorical_crossentropy(
                labels, logits, from_logits=True
            )
        weights = model.trainable_weights
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        for weight, gradient in zip(weights, gradients):
            assert gradient is not None, weight.path
            assert np.isfinite(gradient).all(), weight.path
            assert np.any(gradient != 0), weight.path


class TestSaving:
    def test_weights_file(self, tmp_path):
        model = randomize(small(squeeze_excite="v1"))
        path = tmp_path / "fenet.weights.h5"
        model.save_weights(path)
        images = pixels(2, 32, 32, 3)
        for weights in (path, str(path)):
            loaded = small(squeeze_excite="v1", weights=weights)
            np.testing.assert_array_equal(
                predict(loaded, images), predict(model, images)
            )

    def test_weights_serve_any_image_size_and_stride(self, tmp_path):
        path = tmp_path / "fenet.weights.h5"
        small((64, 64, 3)).save_weights(path)
        model = small((None, None, 3), weights=path)
        assert predict(model, pixels(1, 40, 40, 3)).shape == (1, 10)

    @pytest.mark.filterwarnings("ignore:Skipping nested container")
    def test_weights_of_another_architecture_are_refused(self, tmp_path):
        path = tmp_path / "fenet.weights.h5"
        small().save_weights(path)
        with pytest.raises(ValueError):
            small(alpha=0.5, weights=path)

    def test_clone_model(self):
        model = randomize(small(squeeze_excite="v2"))
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        images = pixels(2, 32, 32, 3)
        np.testing.assert_array_equal(predict(clone, images), predict(model, images))
        ours = {id(weight) for weight in model.weights}
        assert not ours & {id(weight) for weight in clone.weights}

    def test_model_is_flat(self):
        assert not any(isinstance(layer, keras.Model) for layer in small().layers)

    def test_name(self):
        assert small().name == "fenet_0.35"
        assert small(name="mine").name == "mine"


def test_probabilities_are_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
        backbone = small(include_top=False)
    finally:
        keras.config.set_dtype_policy(before)
    probabilities = predict(model, pixels(2, 32, 32, 3))
    assert probabilities.dtype == "float32"
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert backbone.output.dtype == "float16"
    assert model.get_layer("unit1_shift").displacements.dtype == "float32"
