"""Center loss against its paper's formulas, in every backend."""

import keras
import numpy as np
import pytest

from keras_shift.training import CenterLoss, embedding_classifier

LABELS = np.array([2, 0, 2, 2, 1, 0], "int32")
CLASSES = 4  # of which the last one is in no batch


def embeddings():
    return np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def paper(x, centers, strength, rate):
    """The loss (Eq. 2, with a mean) and the centers after a step (Eq. 4), by loops."""
    loss, moved = 0.0, centers.copy()
    for row, label in zip(x, LABELS):
        loss += strength / 2 * sum((row - centers[label]) ** 2) / len(x)
    for label in range(CLASSES):
        own = x[LABELS == label]
        moved[label] -= rate * (centers[label] - own).sum(0) / (1 + len(own))
    return loss, moved


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


class TestCenterLoss:
    def test_loss_and_centers_are_the_papers(self):
        layer, x = CenterLoss(CLASSES, 0.3, 0.6), embeddings()
        layer([x, LABELS])
        centers = np.random.default_rng(1).normal(size=(CLASSES, 3)).astype("float32")
        layer.centers.assign(centers)
        for _ in range(2):
            loss, centers = paper(x, centers, 0.3, 0.6)
            np.testing.assert_array_equal(array(layer([x, LABELS], training=True)), x)
            (found,) = layer.losses
            assert float(array(found)) == pytest.approx(loss, rel=1e-5)
            np.testing.assert_allclose(array(layer.centers), centers, rtol=1e-5)

    def test_nothing_happens_outside_of_a_training(self):
        layer, x = CenterLoss(CLASSES), embeddings()
        for training in (None, False):
            np.testing.assert_array_equal(
                array(layer([x, LABELS], training=training)), x
            )
        assert not layer.losses and not array(layer.centers).any()
        assert layer.trainable_weights == []

    def test_fit(self):
        """A step of SGD: the loss moves embeddings, and centers move without it."""
        images, labels = keras.Input((3,)), keras.Input((), dtype="int32")
        dense = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")
        x = CenterLoss(CLASSES, 1.0, 0.5, name="center_loss")([dense(images), labels])
        model = keras.Model([images, labels], x)
        model.compile(keras.optimizers.SGD(0.1), loss=lambda y, x: 0.0 * x[:, 0])
        x = embeddings()
        model.fit([x, LABELS], LABELS, batch_size=6, verbose=0)
        # With centers at zero, the gradient of the kernel is that of half a square.
        kernel = np.eye(3) - 0.1 * x.T @ x / len(x)
        np.testing.assert_allclose(array(dense.kernel), kernel, rtol=1e-4, atol=1e-6)
        _, centers = paper(x, np.zeros((CLASSES, 3)), 1.0, 0.5)
        layer = model.get_layer("center_loss")
        np.testing.assert_allclose(array(layer.centers), centers, rtol=1e-4)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"classes": 0}, "`classes` must be an integer, 1 or more.*classes=0"),
            ({"classes": 2.5}, "`classes` must be an integer"),
            ({"strength": -1.0}, "`strength` must be zero or more.*strength=-1.0"),
            ({"center_learning_rate": 1.5}, "`center_learning_rate`.*from 0 to 1"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=f"{message}"):
            CenterLoss(**{"classes": 3, **arguments})

    @pytest.mark.parametrize("shapes", [[(None, 3)], [(None, 3), (None, 1)], (None, 3)])
    def test_other_inputs(self, shapes):
        with pytest.raises(ValueError, match="takes embeddings of a known length"):
            CenterLoss(3).build(shapes)


class TestEmbeddingClassifier:
    @staticmethod
    def network():
        images = keras.Input((3,), name="image")
        x = keras.layers.Dense(2)(images)
        return keras.Model(images, keras.layers.UnitNormalization()(x), name="small")

    def test_it_trains_the_network_and_is_saved(self, tmp_path):
        keras.utils.set_random_seed(0)
        model, x = self.network(), embeddings()
        before = array(model(x))
        classifier = embedding_classifier(model, CLASSES, center_loss=0.1, scale=8.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        classifier.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"])
        losses = classifier.fit([x, LABELS], LABELS, epochs=12, verbose=0).history
        assert losses["loss"][-1] < 0.7 * losses["loss"][0]
        after = array(model(x))
        assert np.abs(after - before).max() > 0.1
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, rtol=1e-5)
        # Logits are those of the scaled embeddings.
        kernel, bias = classifier.get_layer("logits").get_weights()
        logits = array(classifier([x, LABELS]))
        np.testing.assert_allclose(logits, 8 * after @ kernel + bias, atol=1e-4)
        classifier.save(tmp_path / "classifier.keras")
        again = keras.saving.load_model(tmp_path / "classifier.keras")
        np.testing.assert_allclose(array(again([x, LABELS])), logits, atol=1e-5)
        layer = again.get_layer("center_loss")
        assert (layer.classes, layer.strength) == (CLASSES, 0.1)
        assert np.abs(array(layer.centers)).max() > 0.1

    def test_errors(self):
        images = keras.Input((4, 4, 3))
        for model in (images, keras.Model(images, keras.layers.ReLU()(images))):
            with pytest.raises(ValueError, match="`model` must be a functional model"):
                embedding_classifier(model, 3)
        with pytest.raises(ValueError, match="`scale` must be positive.*scale=0"):
            embedding_classifier(self.network(), 3, scale=0)
