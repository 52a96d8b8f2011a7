"""Grad-CAM++, saliency and activation maximization of networks made by hand."""

import itertools
import sys

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift import analysis
from marks import exhaustive
from networks import pixels, predict

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf-keras-vis needs TensorFlow", allow_module_level=True)
pytest.importorskip("tf_keras_vis")
pytest.importorskip("matplotlib").use("agg")
from keras_shift.analysis import keras_vis  # noqa: E402


def explain(*args, **kwargs):
    """Explains with fewer noisy copies than are the default."""
    return analysis.explain(*args, noisy_copies=2, **kwargs)


def classifier(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers], name="by_hand")


def red_or_blue(certainty):
    """Class 0 depends on how much of an image is red, class 1 on what is blue."""
    model = classifier(
        keras.layers.Conv2D(2, 4, strides=4, use_bias=False, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, use_bias=False, activation="softmax"),
        shape=(32, 32, 3),
    )
    kernel = np.zeros((4, 4, 3, 2))
    kernel[:, :, 0] = [1, -1]
    kernel[:, :, 2] = [-1, 1]
    model.set_weights([kernel / 16, certainty * np.eye(2)])
    return model


class TestGradCAM:
    RED = np.s_[4:12, 8:16]
    BLUE = np.s_[20:28, 16:28]

    def image(self):
        image = np.full((32, 32, 3), 90, "float32")
        image[self.RED] = [250, 20, 20]
        image[self.BLUE] = [20, 20, 250]
        return image

    # The last one's logits are in the ten thousands; exp(89) is infinite.
    @pytest.mark.parametrize("certainty", [1e-3, 1, 1e3])
    def test_is_largest_on_what_the_class_depends_on(self, certainty):
        model = red_or_blue(certainty)
        images = np.stack([self.image(), self.image()[:, ::-1]])
        for class_index, patch in [(0, self.RED), (1, self.BLUE)]:
            inside = np.zeros((32, 32), bool)
            inside[patch] = True
            straight, mirrored = explain(model, images, class_index=class_index)
            for found, expected in [
                (straight.grad_cam, inside),
                (mirrored.grad_cam, inside[:, ::-1]),
            ]:
                assert found.shape == (32, 32)
                assert found.max() == 1 and found.min() == 0
                # A map of 8x8: a patch's corner is 0.39, the pixel beside it 0.375.
                np.testing.assert_array_equal(found > 0.38, expected)

    def test_formula(self):
        """With global average pooling, it is the positive weights' sum of features."""
        model = classifier(
            keras.layers.Conv2D(6, 1, activation="relu", name="features"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        )
        images = pixels(5, 8, 8, 3)  # more than a batch
        features = predict(keras.Model(model.inputs[0], model.layers[0].output), images)
        weights = np.maximum(model.layers[-1].get_weights()[0], 0)
        explanations = list(explain(model, images))
        assert len(explanations) == 5
        for explanation, feature, scores in zip(
            explanations, features, predict(model, images)
        ):
            np.testing.assert_allclose(explanation.scores, scores, rtol=1e-4)
            assert explanation.class_index == scores.argmax()
            expected = feature @ weights[:, explanation.class_index]
            expected /= expected.max()
            np.testing.assert_allclose(explanation.grad_cam, expected, rtol=1e-3)

    def test_of_a_layer(self):
        keras.utils.set_random_seed(0)  # With some seeds, no channel is ever on.
        model = classifier(
            keras.layers.Conv2D(4, 1, activation="relu", name="first"),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="last"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        )
        images = pixels(1, 8, 8, 3)
        maps = {
            layer: next(explain(model, images, 0, layer)).grad_cam
            for layer in (None, "first", "last")
        }
        np.testing.assert_array_equal(maps[None], maps["last"])
        assert np.abs(maps["last"] - maps["first"]).max() > 0.1


def test_saliency_is_the_gradient():
    model = classifier(
        keras.layers.Rescaling(0.5),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    )
    weights = model.layers[-1].get_weights()[0].reshape(8, 8, 3, 3)
    (explanation,) = explain(model, pixels(1, 8, 8, 3), class_index=1)
    expected = np.abs(weights[..., 1]).max(-1)
    np.testing.assert_allclose(
        explanation.saliency, expected / expected.max(), rtol=1e-4
    )


class TestNetworks:
    @pytest.mark.parametrize(
        ("last", "probabilities"),
        [
            ([keras.layers.Dense(3, activation="softmax")], keras.ops.softmax),
            ([keras.layers.Dense(3), keras.layers.Softmax()], keras.ops.softmax),
            (
                [keras.layers.Dense(3), keras.layers.Activation("softmax")],
                keras.ops.softmax,
            ),
            ([keras.layers.Dense(1, activation="sigmoid")], keras.ops.sigmoid),
            ([keras.layers.Dense(3)], lambda logits: logits),
        ],
        ids=["softmax", "Softmax", "Activation", "sigmoid", "logits"],
    )
    def test_with_logits(self, last, probabilities):
        layers = [type(layer).from_config(layer.get_config()) for layer in last]
        model = classifier(keras.layers.GlobalAveragePooling2D(), *layers)
        images = pixels(4, 8, 8, 3) / 255
        before = predict(model, images)
        logits = predict(keras_vis.with_logits(model), [images])
        np.testing.assert_allclose(probabilities(logits), before, rtol=1e-5)
        # The model given is as it was.
        np.testing.assert_array_equal(predict(model, images), before)

    @pytest.mark.parametrize("size", [exhaustive(32), None])
    def test_last_map(self, size):
        fenet = keras_shift.zoo.FENet((size, size, 3), alpha=0.125, classes=3)
        expected = "head_relu"
        if size:  # whose map is 1x1, and that of three blocks before it 2x2
            expected = keras_vis.layer_with_map(fenet)
            assert fenet.get_layer(expected).output.shape[1:3] == (2, 2)
        assert keras_vis.layer_with_map(fenet) == expected
        # A pooling that keeps its axes is no map, nor is what follows it.
        model = classifier(
            keras.layers.Conv2D(4, 3, name="features"),
            keras.layers.GlobalAveragePooling2D(keepdims=True),
            keras.layers.Conv2D(5, 1),
            keras.layers.Flatten(),
            shape=(size, size, 3) if size else (None, None, 3),
        )
        assert keras_vis.layer_with_map(model) == "features"

    def test_no_map(self):
        model = classifier(keras.layers.Flatten(), keras.layers.Dense(2))
        with pytest.raises(ValueError, match="by_hand, which has none"):
            keras_vis.layer_with_map(model)

    @pytest.mark.parametrize(
        ("shape", "layer", "message"),
        [
            ((8, 8, 1), keras.layers.GlobalAveragePooling2D, "shape .8, 8, 1."),
            ((8, 8, 4), keras.layers.GlobalAveragePooling2D, "shape .8, 8, 4."),
            ((8,), keras.layers.ReLU, "shape .8,."),
            ((8, 8, 3), keras.layers.ReLU, "has outputs of shape"),
        ],
    )
    def test_others_are_refused(self, shape, layer, message):
        with pytest.raises(ValueError, match=message):
            keras_vis.check_classifier(classifier(layer(), shape=shape))

    def test_two_inputs_are_refused(self):
        inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
        outputs = keras.layers.Flatten()(keras.layers.Add()(inputs))
        with pytest.raises(ValueError, match="more than one input"):
            keras_vis.check_classifier(keras.Model(inputs, outputs))

    def test_a_model_within_a_model_is_refused(self):
        inner = classifier(keras.layers.Conv2D(2, 3))
        model = classifier(inner, keras.layers.GlobalAveragePooling2D())
        with pytest.raises(ValueError, match="by_hand, which contains another model"):
            keras_vis.check_classifier(model)

    def test_an_operation_at_the_end_is_refused(self):
        images = keras.Input((8, 8, 3))
        logits = keras.layers.GlobalAveragePooling2D()(images)
        model = keras.Model(images, keras.ops.softmax(logits))
        with pytest.raises(ValueError, match="ends in an operation"):
            keras_vis.check_classifier(model)

    @pytest.mark.parametrize("structure", ["list", "dict"])
    def test_inputs_of_any_structure(self, structure):
        images = keras.Input((8, 8, 3), name="image")
        features = keras.layers.Conv2D(2, 3)(images)
        outputs = keras.layers.GlobalAveragePooling2D()(features)
        inputs = [images] if structure == "list" else {"image": images}
        model = keras.Model(inputs, outputs)
        (explanation,) = explain(model, pixels(1, 8, 8, 3))
        assert explanation.grad_cam.shape == explanation.saliency.shape == (8, 8)

    @pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
    def test_mixed_precision(self, dtype):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            model = classifier(
                keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()
            )
        finally:
            keras.config.set_dtype_policy(before)
        (explanation,) = explain(model, pixels(1, 8, 8, 3))
        # Matplotlib shows no others.
        for array in (explanation.scores, explanation.grad_cam, explanation.saliency):
            assert array.dtype == "float32" and np.isfinite(array).all()

    def test_a_model_without_layers_is_refused(self):
        with pytest.raises(ValueError, match="which is neither"):
            keras_vis.check_classifier(keras.Model())


def test_explains_what_was_adapted():
    """A copy of a `Normalization` must compute with what the layer has learned."""
    normalization = keras.layers.Normalization()
    normalization.adapt(pixels(4, 8, 8, 3))
    model = classifier(
        normalization,
        keras.layers.Conv2D(4, 1, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    )
    images = pixels(2, 8, 8, 3)
    np.testing.assert_allclose(
        predict(keras_vis.with_logits(model), [images]), predict(model, images), 1e-5
    )


def test_the_same_in_every_call_and_no_random_state_is_touched():
    model = red_or_blue(1)
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    first, second = (next(explain(model, pixels(1, 32, 32, 3))) for _ in range(2))
    np.testing.assert_array_equal(first.saliency, second.saliency)
    assert np.random.random() == expected


class TestArguments:
    @pytest.fixture
    def model(self):
        return classifier(
            keras.layers.Conv2D(4, 3, name="map"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(3),
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"class_index": 3}, "`class_index` must be .* 0 to 2 .* class_index=3"),
            ({"class_index": -1}, "class_index=-1"),
            ({"layer": "wrong"}, "`layer` .*'map'.* Received: layer='wrong'"),
            ({"layer": "pool"}, "Received: layer='pool'"),
            ({"images": np.zeros((1, 9, 8, 3))}, r"count, \*\(8, 8, 3\).*\(1, 9, 8, 3"),
            ({"images": np.zeros((8, 8, 3))}, "`images` must be of shape"),
            ({"noisy_copies": 0}, "noisy_copies=0"),
        ],
    )
    def test_wrong_ones_are_refused_at_once(self, model, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.explain(model, **{"images": np.zeros((1, 8, 8, 3)), **arguments})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"classes": [0, 3]}, "`classes` must be .* 0 to 2 .* classes=3"),
            ({"classes": []}, "must not be empty"),
            ({"steps": 0}, "steps=0"),
            ({"smoothness": float("nan")}, "smoothness=nan"),
        ],
    )
    def test_of_maximize_activation(self, model, arguments, message):
        with pytest.raises(ValueError, match=message):
            analysis.maximize_activation(model, **{"classes": [0], **arguments})

    def test_of_plot_explanations(self, model):
        images = pixels(2, 8, 8, 3)
        explanations = list(explain(model, images))
        with pytest.raises(ValueError, match=r"one length.* Received: lengths \[1, 2"):
            analysis.plot_explanations(images, explanations, ["one"])
        with pytest.raises(ValueError, match="each of 3 classes. Received: 1 names"):
            analysis.plot_explanations(images, explanations, class_names=["one"])
        with pytest.raises(ValueError, match=r"\(height, width, 3\)"):
            analysis.plot_explanations(images[..., :1], explanations)

    def test_a_missing_extra_is_told_at_once(self, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "tf_keras_vis.saliency", None)
        with pytest.raises(ImportError, match="tf-keras-vis"):
            analysis.explain(model, np.zeros((1, 8, 8, 3)))


def test_the_image_that_a_class_is_most_certain_of():
    """The first class depends on red pixels, the second on blue ones."""
    model = red_or_blue(1)
    images = analysis.maximize_activation(model, [0, 1], steps=60, smoothness=0)
    assert images.shape == (2, 32, 32, 3)
    assert images.min() >= 0 and images.max() <= 255
    difference = (images[..., 0] - images[..., 2]).mean(axis=(1, 2))
    assert difference[0] > 80 and difference[1] < -80
    again = analysis.maximize_activation(model, [0, 1], steps=60, smoothness=0)
    np.testing.assert_array_equal(images, again)


def test_smoothness_keeps_neighbouring_pixels_alike():
    """Without it, the image of a class of random weights is random as well."""
    model = classifier(keras.layers.Flatten(), keras.layers.Dense(1))
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 1e-3, (192, 1)), np.zeros(1)])
    rough, smooth = (
        analysis.maximize_activation(model, [0], steps=20, smoothness=smoothness)
        for smoothness in (0, 1)
    )
    variation = [np.abs(np.diff(image, axis=2)).mean() for image in (rough, smooth)]
    assert variation[1] < variation[0] / 2


def test_the_picture_has_a_row_for_each_image():
    model = classifier(
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
        shape=(16, 24, 3),
    )
    images = pixels(2, 16, 24, 3)
    names = ["ash", "birch", "cedar"]
    grid = analysis.plot_explanations(
        images, list(explain(model, images)), ["a.png", "b.png"], names
    )
    # A row holds the image, Grad-CAM++ on it, and saliency.
    assert [len(panel.images) for panel in grid.flat] == [1, 2, 1] * 2
    for (image, cam, saliency), title in zip(grid, ["a.png", "b.png"]):
        assert image.get_ylabel() == title
        tree, score = image.get_title().split(": ")
        assert tree in names and score.endswith("%")
        assert cam.get_title() == f"Grad-CAM++ for {tree}"
        assert saliency.get_title() == f"saliency for {tree}"
    figure = grid[0, 0].figure
    figure.draw_without_rendering()
    boxes = [panel.get_position() for panel in grid.flat]
    for left, right in itertools.pairwise(boxes[:3]):
        assert 0 < left.x0 and left.x1 < right.x0 and right.x1 < 1
    assert boxes[0].y0 > boxes[3].y1 and boxes[3].y0 > 0


@pytest.mark.parametrize(
    "module", ["gradcam_plus_plus", "saliency", "activation_maximization"]
)
def test_missing_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, f"tf_keras_vis.{module}", None)
    with pytest.raises(ImportError, match=r'pip install "keras-shift\[explain\]"'):
        keras_vis.visualization(module)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(monkeypatch, backend):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f"Received: backend {backend}"):
        keras_vis.visualization("saliency")
