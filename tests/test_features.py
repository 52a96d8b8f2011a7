"""FENet(features=...): which maps they are, their weights, and what is refused."""

import re

import keras
import numpy as np
import pytest

from keras_shift import deploy
from keras_shift.layers.shift_layer import LearnedShift
from keras_shift.zoo import FENet
from networks import pixels, randomize

pytestmark = pytest.mark.tensorflow

SPARSE = {"alpha": 0.75, "weights": "tiny_imagenet.sparse"}


def small(input_shape=(64, 64, 3), features=(4, 8, 16, 32), **arguments):
    arguments = {"alpha": 0.35, "include_top": False, **arguments}
    return FENet(input_shape, features=features, **arguments)


def predict(model, images):
    """Arrays in the structure of the model's outputs."""
    outputs = model(images, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def sizes(model):
    return {key: tuple(tensor.shape[1:3]) for key, tensor in model.output.items()}


def channels(model):
    return {key: tensor.shape[-1] for key, tensor in model.output.items()}


class TestMaps:
    def test_names_sizes_and_channels(self):
        model = FENet(include_top=False, features=(2, 4, 8, 16, 32))
        # Images of any size, as without `features`.
        assert model.input_shape == (None, None, None, 3)
        assert channels(model) == {"P1": 16, "P2": 32, "P3": 64, "P4": 128, "P5": 256}
        maps = model.predict(pixels(1, 64, 96, 3), verbose=0)
        assert {key: value.shape for key, value in maps.items()} == {
            "P1": (1, 32, 48, 16),
            "P2": (1, 16, 24, 32),
            "P3": (1, 8, 12, 64),
            "P4": (1, 4, 6, 128),
            "P5": (1, 2, 3, 256),
        }

    def test_strides_round_up(self):
        model = small((100, 75, 3))
        assert sizes(model) == {
            f"P{level}": (int(np.ceil(100 / 2**level)), int(np.ceil(75 / 2**level)))
            for level in (2, 3, 4, 5)
        }

    @pytest.mark.parametrize(
        "output_stride, gate", [(32, None), (16, "v1"), (8, None), (4, "v2")]
    )
    def test_every_stride_has_its_last_map(self, output_stride, gate):
        """Behind a map, only one unit computes at its stride: that which halves it."""
        strides = [2**level for level in range(6) if 2**level <= output_stride]
        strides = strides[1:] if output_stride == 32 else strides
        arguments = {"output_stride": output_stride, "squeeze_excite": gate}
        model = small((32, 32, 3), strides, **arguments)
        assert sizes(model) == {
            f"P{stride.bit_length() - 1}": (32 // stride,) * 2 for stride in strides
        }
        whole = small((32, 32, 3), None, **arguments)
        order = [layer.name for layer in whole.layers]
        for stride, tensor in zip(strides, model.output.values()):
            (name,) = (layer.name for layer in model.layers if layer.output is tensor)
            behind = {
                re.match(r"head|unit\d|fe_block\d_unit\d", layer.name)[0]
                for layer in whole.layers[order.index(name) + 1 :]
                if layer.output.shape[1] == tensor.shape[1]
                and "_part" not in layer.name
            }
            assert len(behind) == 1, (stride, behind)

    def test_equal_the_network_cut_by_hand(self):
        whole = randomize(small(features=None))
        model = small()
        for layer in model.layers:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
        cut = keras.Model(
            whole.input,
            [
                whole.get_layer(name).output
                for name in (
                    "fe_block1_unit2_mix",
                    "fe_block2_unit3_mix",
                    "fe_block4_unit3_mix",
                    "fe_block5_unit3_project_bn",
                )
            ],
        )
        images = pixels(2, 64, 64, 3)
        maps = predict(model, images)
        assert list(maps) == ["P2", "P3", "P4", "P5"]
        for found, expected in zip(maps.values(), predict(cut, images)):
            np.testing.assert_array_equal(found, expected)

    def test_what_no_map_needs_is_left_out(self):
        names = {layer.name for layer in small(features=(4, 8)).layers}
        assert "fe_block2_unit3_mix" in names
        assert not any(name.startswith(("fe_block3", "head")) for name in names)
        assert "head" not in {layer.name for layer in small().layers}

    def test_none_changes_nothing(self):
        models = []
        for arguments in ({}, {"features": None}):
            keras.utils.set_random_seed(0)
            model = FENet((32, 32, 3), alpha=0.35, classes=4, **arguments)
            models.append(model)
        one, other = models
        assert [layer.name for layer in one.layers] == [
            layer.name for layer in other.layers
        ]
        for weight, same in zip(one.get_weights(), other.get_weights()):
            np.testing.assert_array_equal(weight, same)

    def test_input_tensor(self):
        images = keras.Input((64, 64, 1))
        colours = keras.layers.Concatenate()([images] * 3)
        model = small(None, input_tensor=colours)
        assert model.inputs[0] is images
        reference = small()
        reference.set_weights(model.get_weights())
        grey = pixels(2, 64, 64, 1)
        expected = predict(reference, np.repeat(grey, 3, axis=-1))
        for key, found in predict(model, grey).items():
            np.testing.assert_allclose(found, expected[key], rtol=1e-4, atol=1e-4)

    def test_channels_first(self):
        keras.config.set_image_data_format("channels_first")
        try:
            model = small((3, 64, 32), (4, 32))
        finally:
            keras.config.set_image_data_format("channels_last")
        shapes = {key: tensor.shape for key, tensor in model.output.items()}
        assert shapes == {"P2": (None, 12, 16, 8), "P5": (None, 90, 2, 1)}


class TestWeights:
    def test_are_those_of_the_classifier(self):
        classifier = FENet(**SPARSE)
        model = small(None, **SPARSE)
        for layer in model.layers:
            trained = classifier.get_layer(layer.name).get_weights()
            for weight, expected in zip(layer.get_weights(), trained, strict=True):
                np.testing.assert_array_equal(weight, expected)
        images = pixels(2, 64, 64, 3)
        cut = keras.Model(
            classifier.input, classifier.get_layer("fe_block4_unit3_mix").output
        )
        np.testing.assert_allclose(
            predict(model, images)["P4"], predict(cut, images), rtol=1e-5, atol=1e-5
        )

    def test_serve_other_strides(self):
        model = small((64, 64, 3), (1, 8), output_stride=8, **SPARSE)
        assert sizes(model) == {"P0": (64, 64), "P3": (8, 8)}
        trained = FENet(**SPARSE)
        names = {layer.name for layer in trained.layers}
        new = [
            layer
            for layer in model.layers
            if isinstance(layer, LearnedShift) and layer.name not in names
        ]
        # Here the training had a pooling.
        assert [layer.name for layer in new] == ["unit2_shift"]
        assert not new[0].displacement_array().any()
        shift = "fe_block5_unit2_shift"
        np.testing.assert_array_equal(
            model.get_layer(shift).displacement_array(),
            trained.get_layer(shift).displacement_array(),
        )

    def test_saving(self, tmp_path):
        model = randomize(small())
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        images = pixels(1, 64, 64, 3)
        expected = predict(model, images)
        assert list(predict(loaded, images)) == list(expected)
        for key, found in predict(loaded, images).items():
            np.testing.assert_array_equal(found, expected[key])

    @pytest.mark.parametrize("function", [deploy.fuse, deploy.portable])
    def test_exporters_keep_the_maps(self, function):
        if function is deploy.fuse:
            pytest.importorskip("tensorflow")
        model = randomize(small())
        images = pixels(2, 64, 64, 3)
        expected = predict(model, images)
        for key, found in predict(function(model), images).items():
            scale = np.abs(expected[key]).max()
            np.testing.assert_allclose(found, expected[key], atol=1e-4 * scale)


class TestArguments:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"include_top": True}, r"include_top=False.*features=\(4, 8, 16, 32\), i"),
            ({"pooling": "avg"}, "pooling=None.*pooling='avg'"),
            ({"features": (1, 2)}, r"among \(2, 4, 8, 16, 32\).*features=\(1, 2\)"),
            ({"features": (64,)}, r"output_stride=32.*features=\(64,\)"),
            (
                {"features": (16,), "output_stride": 8},
                r"among \(1, 2, 4, 8\).*output_stride=8.*features=\(16,\)",
            ),
            ({"features": (3,)}, r"Received: features=\(3,\)"),
            ({"features": (4, 4)}, r"once, in ascending order.*features=\(4, 4\)"),
            ({"features": [8, 4]}, r"once, in ascending order.*features=\[8, 4\]"),
            ({"features": ()}, r"Received: features=\(\)"),
            ({"features": 4}, "Received: features=4"),
            ({"features": "48"}, "Received: features='48'"),
            ({"features": (4.0, 8.0)}, r"Received: features=\(4.0, 8.0\)"),
            ({"features": (True, 2)}, r"Received: features=\(True, 2\)"),
            ({"features": (4, None)}, r"Received: features=\(4, None\)"),
        ],
    )
    def test_message_names_the_argument_and_what_was_received(self, arguments, message):
        with pytest.raises(ValueError, match="(?s)`features`.*" + message):
            small(**arguments)

    def test_contradictions_to_published_weights_are_refused_as_well(self):
        with pytest.raises(ValueError, match=r"features=\(4,\), include_top=True"):
            FENet(features=(4,), **SPARSE)

    def test_numpy_has_integers_too(self):
        assert list(small(features=list(np.array([4, 8]))).output) == ["P2", "P3"]
