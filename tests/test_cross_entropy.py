"""The loss against its formula."""

import keras
import numpy as np
import pytest

from keras_shift.training.cross_entropy import CrossEntropy


class TestCrossEntropy:
    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_equals_its_formula(self, from_logits, smoothing):
        scores = np.random.default_rng(0).normal(size=(6, 4))
        labels = np.array([0, 3, 1, 2, 2, 0])
        probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        target = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4
        expected = -(target * np.log(probabilities)).sum(-1).mean()
        loss = CrossEntropy(4, smoothing, from_logits)
        value = loss(labels[:, None], scores if from_logits else probabilities)
        assert float(value) == pytest.approx(expected, rel=1e-5)

    def test_config_round_trip(self):
        loss = CrossEntropy(4, 0.1, True, name="loss")
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()
