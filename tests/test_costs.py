"""What shifts cost in a file, but for how long files really take."""

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.deploy import costs, shift_costs
from keras_shift.deploy.timing import Timing
from networks import predict

pytestmark = pytest.mark.tensorflow

# Shares of a file's time, by layer: of the first shift, and of each channel.
COSTS = {"unit1_shift": (0.06, 0.004), "unit2_shift": (0.0, 0.01)}
CHANNELS = {"unit1_shift": 16, "unit2_shift": 24}


def two_units():
    keras.utils.set_random_seed(0)
    style = keras_shift.zoo.blocks.BlockStyle(max_displacement=2)
    x = images = keras.Input((8, 8, 3))
    for number, (strides, filters) in enumerate(((1, 8), (1, 12))):
        name = f"unit{number + 1}"
        x = keras.layers.AveragePooling2D(strides + number)(x)
        x = keras_shift.zoo.blocks.inverted_bottleneck(
            x, filters, CHANNELS[f"{name}_shift"], style, name
        )
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(3, activation="softmax")(x))


def give_shifts(model, **counts):
    for name, count in counts.items():
        layer = model.get_layer(name)
        displacements = np.zeros(layer.displacements.shape)
        displacements[0, :count] = 2
        layer.displacements.assign(displacements)
    return model


@pytest.fixture
def clock(monkeypatch):
    """Files take what their shifts cost, in place of what this machine would take."""
    exported = []

    class File:
        def __init__(self, shifted):
            self.shifted = shifted

        def invoke(self):
            raise AssertionError("only timed")

    def to_tflite(model, path, quantize, images):
        exported.append((quantize, None if images is None else len(list(images))))
        shifted = {
            name: int(model.get_layer(name).displacement_array().any(axis=0).sum())
            for name in COSTS
        }
        with open(path, "w") as file:
            file.write(repr(shifted))

    def read(path):
        with open(path) as file:
            return File(eval(file.read()))

    def time_alternately(calls, repeats):
        assert repeats == 7
        assert not any(next(iter(calls.values())).__self__.shifted.values())
        timings = {}
        for key, call in calls.items():
            counts = call.__self__.shifted
            extra = sum(
                fixed + per_channel * counts[name]
                for name, (fixed, per_channel) in COSTS.items()
                if counts[name]
            )
            # By chance, the first file is faster than other copies of it.
            timings[key] = Timing(*[(1 + extra) / 0.9 if timings else 1.0] * 6)
        return timings

    monkeypatch.setattr(costs, "to_tflite", to_tflite)
    monkeypatch.setattr(costs, "LiteRTModel", read)
    monkeypatch.setattr(costs, "warm_up", lambda file: None)
    monkeypatch.setattr(costs, "time_alternately", time_alternately)
    return exported


def test_finds_what_the_first_shift_and_every_other_cost(clock):
    model = give_shifts(two_units(), unit1_shift=5, unit2_shift=0)
    images = (np.zeros((8, 8, 3)) for _ in range(2))
    found = shift_costs(model, "int8", images, repeats=7)
    for name, (fixed, per_channel) in COSTS.items():
        layer = found.layers[name]
        assert layer.fixed == pytest.approx(fixed, abs=1e-9)
        assert layer.per_channel == pytest.approx(per_channel)
        assert layer.channels == CHANNELS[name]
        expected = fixed / CHANNELS[name] + per_channel
        assert found.per_channel[name] == pytest.approx(expected)
    first, second = found.layers.values()
    assert (first.map_size, second.map_size) == ((8, 8), (4, 4))
    assert (first.shifted, second.shifted) == (5, 0)
    assert first.own == pytest.approx(0.06 + 5 * 0.004) == found.total
    assert second.own == 0
    # Every file, though the images can be read but once.
    assert set(clock) == {("int8", 2)}
    text = str(found)
    assert "8x8" in text and "5 of 16" in text and "8.0%" in text


def test_leaves_the_model_as_it_is(clock):
    model = give_shifts(two_units(), unit1_shift=5, unit2_shift=3)
    before = model.get_weights()
    shift_costs(model, repeats=7)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_times_files_of_what_was_adapted(clock, monkeypatch):
    """Its copies of the model compute with what a `Normalization` has learned."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (4, 8, 8, 16)).astype("float32")
    normalization = keras.layers.Normalization()
    normalization.adapt(images)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16)),
            normalization,
            keras_shift.layers.SparseShift2D(name="unit1_shift"),
            keras.layers.Conv2D(24, 1),
            keras_shift.layers.SparseShift2D(name="unit2_shift"),
            keras.layers.GlobalMaxPooling2D(),
        ]
    )
    answers, write = [], costs.to_tflite

    def keep(model, *args):
        answers.append(predict(model, images))
        return write(model, *args)

    monkeypatch.setattr(costs, "to_tflite", keep)
    shift_costs(give_shifts(model, unit1_shift=4), repeats=7)
    expected = predict(model, images)
    assert any(np.array_equal(answer, expected) for answer in answers)


def test_displacements_count_as_their_layer_reads_them(clock):
    """A layer that does not round moves a channel by any part of a pixel."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16)),
            keras_shift.layers.ActiveShift2D(name="unit1_shift"),
            keras.layers.Conv2D(24, 1),
            keras_shift.layers.SparseShift2D(name="unit2_shift"),
        ]
    )
    for name, channels in CHANNELS.items():
        model.get_layer(name).displacements.assign(np.full((2, channels), 0.3))
    first, second = shift_costs(model, repeats=7).layers.values()
    assert (first.shifted, second.shifted) == (16, 0)
    assert first.own == pytest.approx(0.06 + 16 * 0.004) and second.own == 0


def test_penalties_take_the_costs(clock):
    model = two_units()
    per_channel = shift_costs(model, repeats=7).per_channel
    keras_shift.training.penalize_shifts(model, 1.0, per_channel)
    strengths = [
        model.get_layer(name).displacement_regularizer.l2 / per_channel[name]
        for name in COSTS
    ]
    assert strengths[0] == pytest.approx(strengths[1])


def test_times_real_files():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 9)),
            keras_shift.layers.SparseShift2D(name="unit1_shift"),
            keras.layers.Conv2D(9, 1),
            keras_shift.layers.SparseShift2D(name="unit2_shift"),
        ]
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 9))
    before = predict(model, images.astype("float32"))
    found = shift_costs(model, repeats=2.0)
    assert list(found.layers) == list(COSTS)
    np.testing.assert_array_equal(before, predict(model, images.astype("float32")))


def test_refuses_what_cannot_be_exported_before_it_reads_images(clock):
    images = (np.zeros((8, 8, 3)) for _ in range(2))
    inputs = keras.Input((None, None, 3))
    of_any_size = keras.Model(inputs, keras_shift.layers.SparseShift2D()(inputs))
    with pytest.raises(ValueError, match="fixed image size"):
        shift_costs(of_any_size, "int8", images)
    with pytest.raises(ValueError, match="Received: representative_data=None"):
        shift_costs(two_units(), "int8")
    for repeats in (0, 1.5):
        with pytest.raises(ValueError, match="`repeats` must be a positive integer"):
            shift_costs(two_units(), "int8", images, repeats=repeats)
    assert clock == [] and len(list(images)) == 2


def test_refuses_layers_of_one_name(clock):
    images = keras.Input((8, 8, 3))
    twins = [give_shifts(two_units(), unit1_shift=5) for _ in range(2)]
    for name, twin in zip("ab", twins):
        twin.name = name
    x = keras.layers.Average()([twin(images) for twin in twins])
    with pytest.raises(ValueError, match="different names.*unit1_shift"):
        shift_costs(keras.Model(images, x))
    assert clock == []


def test_refuses_a_model_without_learned_shifts():
    layers = [keras.Input((8, 8, 9)), keras_shift.layers.GroupedShift2D()]
    model = keras.Sequential(layers)
    with pytest.raises(ValueError, match="no layers with learned shifts"):
        shift_costs(model)
