"""Learning rates against their formulas."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_shift.training import Recipe
from keras_shift.training.learning_rate import learning_rate

RECIPE = Recipe(
    name="test",
    network="FENet",
    dataset="none",
    batch_size=8,
    epochs=1,
    learning_rate=0.05,
)


class TestLearningRate:
    def values(self, **changes):
        recipe = dataclasses.replace(RECIPE, **changes)
        schedule = learning_rate(recipe, 100)
        return [float(schedule(step)) for step in range(100)]

    def test_constant(self):
        assert self.values(schedule="constant") == [np.float32(0.05)] * 100

    def test_step(self):
        values = self.values(schedule="step", boundaries=(0.5, 0.75))
        expected = [0.05] * 50 + [0.005] * 25 + [0.0005] * 25
        np.testing.assert_allclose(values, expected, rtol=1e-6)

    def test_linear(self):
        expected = 0.05 * (1 - np.arange(100) / 100)
        np.testing.assert_allclose(self.values(schedule="linear"), expected, rtol=1e-5)

    def test_cosine(self):
        expected = 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
        np.testing.assert_allclose(self.values(schedule="cosine"), expected, atol=1e-7)

    @pytest.mark.parametrize(
        "schedule",
        [
            {"schedule": "linear"},
            {"schedule": "cosine"},
            {"schedule": "step", "boundaries": (0.5,)},
            {"schedule": "constant"},
        ],
    )
    def test_warmup_rises_to_the_peak(self, schedule):
        values = self.values(warmup=0.2, **schedule)
        np.testing.assert_allclose(
            values[:20], 0.05 * np.arange(20) / 20, rtol=1e-5, atol=1e-8
        )
        assert values[20] == pytest.approx(0.05)
        assert max(values) <= 0.05 * 1.000001
        if "boundaries" in schedule:
            assert values[49] == pytest.approx(0.05)
            assert values[50] == pytest.approx(0.005)

    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_a_short_training_does_not_only_warm_up(self, schedule):
        recipe = dataclasses.replace(RECIPE, warmup=0.9, schedule=schedule)
        rates = learning_rate(recipe, 4)
        values = [float(rates(step)) for step in range(4)]
        np.testing.assert_allclose(values, 0.05 * np.arange(4) / 3, rtol=1e-6)
        assert float(learning_rate(recipe, 1)(0)) == pytest.approx(0.05)

    def test_config_round_trip(self):
        recipe = dataclasses.replace(RECIPE, warmup=0.2, schedule="linear")
        schedule = learning_rate(recipe, 100)
        config = keras.optimizers.schedules.serialize(schedule)
        again = keras.optimizers.schedules.deserialize(config)
        for step in (0, 10, 20, 60):
            assert float(again(step)) == float(schedule(step))
