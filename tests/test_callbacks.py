import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.callbacks import FreezeShifts, ShiftSparsityLogger

X = np.random.default_rng(0).normal(size=(32, 6, 5, 18)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 120)).astype("float32")

# Keras has no such steps on torch.
steps = pytest.mark.parametrize(
    "steps_per_execution", [1] if keras.backend.backend() == "torch" else [1, 4]
)


def model(optimizer=None, regularizer=None, **arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5, 18))
    x = keras.layers.Conv2D(18, 1, activation="relu")(inputs)
    x = keras_shift.layers.SparseShift2D(
        displacement_initializer=keras.initializers.RandomUniform(-1, 2, seed=0),
        displacement_regularizer=regularizer,
        name="shift",
    )(x)
    x = keras_shift.layers.ActiveShift2D(name="active")(x)
    x = keras.layers.Conv2D(4, 1)(x)
    network = keras.Model(inputs, keras.layers.Flatten()(x))
    network.compile(optimizer or sgd(), "mse", **arguments)
    return network


def sgd(**arguments):
    # A rate at which displacements move by more than half a pixel.
    return keras.optimizers.SGD(30.0, momentum=0.9, clipnorm=0.02, **arguments)


class Recorder(keras.callbacks.Callback):
    """Keeps the displacements after every call of the train function."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.seen.append(displacements(self.model))


def displacements(network):
    return network.get_layer("shift").displacement_array()


def fit(network, *callbacks, epochs=3, shuffle=True):
    return network.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=4,
        shuffle=shuffle,
        verbose=0,
        callbacks=callbacks,
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: sgd(),
        lambda: sgd(nesterov=True, weight_decay=1e-2),
        lambda: keras.optimizers.AdamW(0.1, weight_decay=1e-2),
        lambda: sgd(gradient_accumulation_steps=2),
        lambda: sgd(use_ema=True, ema_momentum=0.5),
    ],
    ids=["momentum", "weight_decay", "adamw", "accumulation", "ema"],
)
@steps
def test_frozen_displacements_stay_to_the_last_bit(optimizer, steps_per_execution):
    recorder = Recorder()
    network = model(
        optimizer(),
        keras.regularizers.L2(1e-2),
        steps_per_execution=steps_per_execution,
    )
    fit(network, FreezeShifts(at_step=12), recorder)
    first = 12 // steps_per_execution
    # It had been learning until then, and not on whole numbers.
    assert not np.array_equal(recorder.seen[0], recorder.seen[first - 2])
    assert np.any(recorder.seen[first - 2] != np.rint(recorder.seen[first - 2]))
    frozen = recorder.seen[first - 1]
    np.testing.assert_array_equal(frozen, np.rint(frozen))
    assert not np.any(np.signbit(frozen) & (frozen == 0))
    assert len(recorder.seen) == 24 // steps_per_execution
    for later in [*recorder.seen[first:], displacements(network)]:
        assert later.tobytes() == frozen.tobytes()


@steps
def test_everything_else_trains_on_with_its_state(steps_per_execution):
    network = model(steps_per_execution=steps_per_execution)
    fit(network, FreezeShifts(at_step=8), epochs=2, shuffle=False)

    # The same by hand: the pattern is put back after every batch.
    reference = model()
    layer = reference.get_layer("shift")
    for step in range(16):
        batch = slice(step % 8 * 4, step % 8 * 4 + 4)
        reference.train_on_batch(X[batch], Y[batch])
        if step == 7:
            pattern = np.rint(layer.displacement_array()) + 0.0
        if step >= 7:
            layer.displacements.assign(pattern)

    for one, other in zip(network.weights, reference.weights):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    for one, other in zip(network.optimizer.variables, reference.optimizer.variables):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    assert int(network.optimizer.iterations) == 16


def test_epochs_and_steps_count_alike():
    results = []
    for callback in (FreezeShifts(at_epoch=2), FreezeShifts(at_step=16)):
        recorder = Recorder()
        network = model()
        fit(network, callback, recorder)
        results.append(recorder.seen[16:])
    np.testing.assert_array_equal(*results)


def test_steps_go_on_counting_when_training_is_resumed():
    network, recorder = model(), Recorder()
    fit(network, FreezeShifts(at_step=12), epochs=1)
    assert np.any(displacements(network) != np.rint(displacements(network)))
    fit(network, FreezeShifts(at_step=12), recorder, epochs=1)
    assert np.any(recorder.seen[2] != np.rint(recorder.seen[2]))
    np.testing.assert_array_equal(recorder.seen[3], np.rint(recorder.seen[3]))


def test_frozen_shifts_stay_frozen_without_the_callback():
    network = model()
    fit(network, FreezeShifts(at_step=0), epochs=1)
    before = displacements(network)
    fit(network, epochs=1)
    assert displacements(network).tobytes() == before.tobytes()


def test_interpolating_shifts_are_left_to_learn():
    network = model()
    fit(network, FreezeShifts(at_step=0), epochs=1)
    d = network.get_layer("active").displacement_array()
    assert np.any(d != np.rint(d))


def test_nested_models_are_frozen_as_well():
    inner = model()
    outer = keras.Sequential([keras.Input((6, 5, 18)), inner])
    outer.compile(sgd(), "mse")
    fit(outer, FreezeShifts(at_step=0), epochs=1)
    np.testing.assert_array_equal(displacements(inner), np.rint(displacements(inner)))


@pytest.mark.parametrize(
    "arguments", [{}, {"at_step": 1, "at_epoch": 1}, {"at_step": -1}, {"at_epoch": -1}]
)
def test_freeze_shifts_rejects(arguments):
    with pytest.raises(ValueError, match="Received: at_step="):
        FreezeShifts(**arguments)


def test_sparsity_is_logged_over_all_channels():
    network = model()
    network.get_layer("shift").displacements.assign(np.full((2, 18), 0.2))
    history = network.fit(
        X, Y, epochs=1, verbose=0, callbacks=[ShiftSparsityLogger(per_layer=True)]
    ).history
    layers = [network.get_layer(name) for name in ("shift", "active")]
    for layer in layers:
        assert history[f"shift_sparsity/{layer.name}"] == [layer.sparsity]
    mean = sum(layer.sparsity for layer in layers) / 2
    assert history["shift_sparsity"] == [pytest.approx(mean)]


def test_sparsity_reaches_csv_files(tmp_path):
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    fit(model(), ShiftSparsityLogger(), log, epochs=2)
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert "shift_sparsity" in header.split(",") and len(rows) == 2


def test_models_without_shifts_are_not_bothered():
    network = keras.Sequential([keras.Input((6, 5, 18)), keras.layers.Flatten()])
    network.add(keras.layers.Dense(120))
    network.compile("sgd", "mse")
    history = fit(network, ShiftSparsityLogger(), FreezeShifts(at_step=1), epochs=1)
    assert "shift_sparsity" not in history.history
