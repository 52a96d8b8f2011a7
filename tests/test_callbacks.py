import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.callbacks import FreezeShifts, ShiftSparsityLogger
from marks import exhaustive

X = np.random.default_rng(0).normal(size=(32, 6, 5, 18)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 120)).astype("float32")

# Keras has no such steps on torch. Where it has, several at once are the harder case.
SEVERAL = keras.backend.backend() != "torch"
steps = pytest.mark.parametrize(
    "steps_per_execution", [exhaustive(1), 4] if SEVERAL else [1]
)


def model(optimizer=None, regularizer=None, active=False, **arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5, 18))
    x = keras.layers.Conv2D(18, 1, activation="relu")(inputs)
    x = keras_shift.layers.SparseShift2D(
        displacement_initializer=keras.initializers.RandomUniform(-1, 2, seed=0),
        displacement_regularizer=regularizer,
        name="shift",
    )(x)
    if active:
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


OPTIMIZERS = {
    "momentum": lambda: sgd(),
    "weight_decay": lambda: sgd(nesterov=True, weight_decay=1e-2),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=1e-2),
    # A step every other batch.
    "accumulation": lambda: sgd(gradient_accumulation_steps=2),
    "ema": lambda: sgd(use_ema=True, ema_momentum=0.5),
}


# Of every kind of optimizer and of every number of steps, .ci/run has one.
@pytest.mark.parametrize(
    "optimizer, steps_per_execution",
    [
        ("momentum", 1),
        ("weight_decay", 1),
        exhaustive("adamw", 1),
        ("accumulation", 1),
        exhaustive("ema", 1),
    ]
    + [
        exhaustive("momentum", 4),
        exhaustive("weight_decay", 4),
        exhaustive("adamw", 4),
        exhaustive("accumulation", 4),
        ("ema", 4),
    ]
    * SEVERAL,
)
def test_frozen_displacements_stay_to_the_last_bit(optimizer, steps_per_execution):
    at_step = 6 if optimizer == "accumulation" else 12
    recorder = Recorder()
    network = model(
        OPTIMIZERS[optimizer](),
        keras.regularizers.L2(1e-2),
        steps_per_execution=steps_per_execution,
    )
    fit(network, FreezeShifts(at_step=at_step), recorder)
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


@pytest.mark.parametrize(
    "least_shifted, stays", [(0.0, True), (0.1, True), (0.2, False)]
)
def test_layers_with_hardly_a_shift_are_frozen_without_any(least_shifted, stays):
    network = model(keras.optimizers.SGD(0.0))
    displacements = np.full((2, 18), 0.3)
    displacements[0, :2] = 1.2  # 2 of 18 channels
    network.get_layer("shift").displacements.assign(displacements)
    fit(network, FreezeShifts(at_epoch=0, least_shifted=least_shifted), epochs=1)
    found = network.get_layer("shift").displacement_array()
    expected = np.zeros((2, 18))
    expected[0, :2] = 1.0 if stays else 0.0
    np.testing.assert_array_equal(found, expected)


def test_epochs_are_counted_as_steps_are():
    recorder = Recorder()
    fit(model(), FreezeShifts(at_epoch=2), recorder)
    whole = [np.array_equal(seen, np.rint(seen)) for seen in recorder.seen]
    # There are 8 steps in each of 3 epochs.
    assert whole == [False] * 16 + [True] * 8


def test_steps_go_on_counting_when_training_is_resumed():
    network, recorder = model(), Recorder()
    fit(network, FreezeShifts(at_step=12), epochs=1)
    assert np.any(displacements(network) != np.rint(displacements(network)))
    fit(network, FreezeShifts(at_step=12), recorder, epochs=1)
    assert np.any(recorder.seen[2] != np.rint(recorder.seen[2]))
    np.testing.assert_array_equal(recorder.seen[3], np.rint(recorder.seen[3]))


@steps
def test_epochs_that_executions_do_not_divide_are_counted_right(steps_per_execution):
    # 6 batches an epoch are executions of 4 and 2; 6 + 4 is the first end from 9 on.
    recorder = Recorder()
    network = model(steps_per_execution=steps_per_execution)
    network.fit(
        X[:24],
        Y[:24],
        epochs=3,
        batch_size=4,
        verbose=0,
        callbacks=[FreezeShifts(at_step=9), recorder],
    )
    whole = [np.array_equal(seen, np.rint(seen)) for seen in recorder.seen]
    assert whole.index(True) == {1: 8, 4: 2}[steps_per_execution]


def test_restored_weights_are_left_alone():
    # EarlyStopping goes back to the best epoch, here one before the freeze.
    network = model()
    best = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=1, restore_best_weights=True
    )
    recorder = Recorder()
    fit(network, FreezeShifts(at_epoch=1), best, recorder)
    assert np.any(displacements(network) != np.rint(displacements(network)))
    np.testing.assert_array_equal(displacements(network), recorder.seen[7])


def test_thawed_shifts_learn_again():
    network = model()
    fit(network, FreezeShifts(at_step=0), epochs=1)
    keras_shift.callbacks.thaw_shifts(network)
    fit(network, epochs=1)
    assert np.any(displacements(network) != np.rint(displacements(network)))


def test_shifts_out_of_reach_are_reported():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.shift = keras_shift.layers.SparseShift2D()

        def call(self, x):
            return self.shift(x)

    network = keras.Sequential([keras.Input((6, 5, 18)), Block()])
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(120))
    network.compile("sgd", "mse")
    with pytest.raises(ValueError, match="1 learned shifts, of which 0 are found"):
        fit(network, FreezeShifts(at_step=0), epochs=1)


def test_frozen_shifts_stay_frozen_without_the_callback():
    network = model()
    fit(network, FreezeShifts(at_step=0), epochs=1)
    before = displacements(network)
    fit(network, epochs=1)
    assert displacements(network).tobytes() == before.tobytes()


def test_interpolating_shifts_are_left_to_learn():
    network = model(active=True)
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
    inputs = keras.Input((6, 5, 2))
    x = keras_shift.layers.SparseShift2D(name="two")(inputs)
    x = keras.layers.Conv2D(10, 1)(x)
    x = keras_shift.layers.GroupedShift2D(name="ten")(x)
    network = keras.Model(inputs, keras.layers.Flatten()(x))
    network.compile(keras.optimizers.SGD(0.0), "mse")
    network.get_layer("two").displacements.assign([[0.2, 0.7], [-0.4, 0.0]])
    history = network.fit(
        X[..., :2],
        np.zeros((32, 300)),
        verbose=0,
        callbacks=[ShiftSparsityLogger(per_layer=True)],
    ).history
    assert history["shift_sparsity/two"] == [0.5]
    # One channel in the middle of the window, one left over.
    assert history["shift_sparsity/ten"] == [0.2]
    assert history["shift_sparsity"] == [pytest.approx(3 / 12)]


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
