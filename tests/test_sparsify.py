import dataclasses

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.layers import SparseShift2D
from keras_shift.training import Data, ShiftSGD, SparsifyShifts, train
from keras_shift.training.shift_importance import ShiftImportance
from keras_shift.zoo import blocks
from marks import exhaustive

if keras.backend.backend() == "torch":
    pytest.skip("SparsifyShifts needs TensorFlow or JAX", allow_module_level=True)
JAX = keras.backend.backend() == "jax"
SGD = ShiftSGD if JAX else keras.optimizers.SGD
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(-1, 1, (48, 16, 16, 3)).astype("float32")
LABELS = np.arange(48) % 4


def network(**style):
    """Three shifts in maps of 16x16 and of 8x8 pixels."""
    keras.utils.set_random_seed(0)
    style = blocks.BlockStyle(**style)
    x = images = keras.Input((16, 16, 3))
    for name, strides in (("unit1", 1), ("unit2", 2), ("unit3", 1)):
        x = blocks.conv_shift_conv(x, 8, 48, style, name, strides=strides)
    return classifier(images, x)


def fe_blocks():
    """Five shifts of which some move a part of the channels."""
    keras.utils.set_random_seed(0)
    style = blocks.BlockStyle()
    x = images = keras.Input((16, 16, 3))
    x = blocks.convolution(x, 8, 3, style, "stem")
    x = blocks.fe_block(x, 16, 3, lambda c, f: 4 * c, style, "block1", strides=2)
    x = blocks.fe_block(x, 16, 3, lambda c, f: 4 * c, style, "block2")
    return classifier(images, x)


def classifier(images, x):
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(4, activation="softmax")(x)
    return compiled(keras.Model(images, x))


def compiled(model):
    optimizer = SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def fit(model, *callbacks, epochs=4):
    return model.fit(
        IMAGES, LABELS, epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks
    )


def patterns(model):
    if JAX:
        model.jax_state_sync()
    return [
        layer.displacements.numpy().copy()
        for layer in model.layers
        if isinstance(layer, SparseShift2D)
    ]


def share_unshifted(found):
    still = np.concatenate([~np.rint(pattern).any(axis=0) for pattern in found])
    return np.mean(still)


class Observer(keras.callbacks.Callback):
    """Keeps the share of unshifted channels after every step."""

    def on_train_begin(self, logs=None):
        self.shares = []

    def on_train_batch_end(self, batch, logs=None):
        self.shares.append(share_unshifted(patterns(self.model)))


@pytest.mark.parametrize("relu", [False, True])
def test_importance_is_the_squared_slope_of_every_images_loss(relu):
    """Against finite differences, image by image, in float64."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((5, 4, 2), dtype="float64")
    dtype = {"dtype": "float64"}
    x = keras.layers.Conv2D(3, 1, **dtype)(x)
    shift = SparseShift2D(input_relu=relu, name="shift", **dtype)
    x = shift(x)
    after = [
        keras.layers.Conv2D(4, 3, activation="tanh", **dtype),
        keras.layers.Flatten(**dtype),
        keras.layers.Dense(3, activation="softmax", **dtype),
    ]
    for layer in after:
        x = layer(x)
    model = compiled(keras.Model(inputs, x))
    shift.displacements.assign([[1, 0, -1], [0, 1, 2]])
    images = RANDOM.normal(size=(7, 5, 4, 2))
    labels = np.arange(7) % 3
    (found,) = ShiftImportance(model, [shift])(images, labels)

    hidden = keras.ops.convert_to_numpy(model.layers[1](images))
    hidden = np.maximum(hidden, 0) if relu else hidden
    moved = np.zeros_like(hidden)
    moved[:, :-1, :, 0] = hidden[:, 1:, :, 0]
    moved[:, :, :-1, 1] = hidden[:, :, 1:, 1]
    moved[:, 1:, :-2, 2] = hidden[:, :-1, 2:, 2]

    def losses(channel, share):
        y = moved.copy()
        y[..., channel] += share * (hidden - moved)[..., channel]
        for layer in after:
            y = layer(y)
        return -np.log(keras.ops.convert_to_numpy(y)[np.arange(7), labels])

    step = 1e-5
    expected = [
        np.mean(((losses(c, step) - losses(c, -step)) / (2 * step)) ** 2)
        for c in range(3)
    ]
    # On JAX, Keras convolves in float32 whatever the dtype.
    np.testing.assert_allclose(found, expected, rtol=2e-2 if JAX else 1e-4)


def test_takes_away_the_share_asked_for_fast_first_and_leaves_the_rest_in_place():
    model, observer = fe_blocks(), Observer()
    before = patterns(model)
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7, stages=4), observer)
    after = patterns(model)
    channels = sum(pattern.shape[1] for pattern in after)
    assert share_unshifted(after) == pytest.approx(0.7, abs=1 / channels)
    for old, new in zip(before, after):
        shifted = new.any(axis=0)
        assert shifted.any() == old.any()
        np.testing.assert_array_equal(new[:, shifted], np.rint(old)[:, shifted])
    # 6 steps in each of 4 epochs; a stage at the beginning of steps 0, 3, 6 and 9.
    shares = np.array(observer.shares)
    start = share_unshifted(before)
    left = (0.7 - shares[[0, 3, 6, 9]]) / (0.7 - start)
    np.testing.assert_allclose(left, [(3 / 4) ** 3, 1 / 8, 1 / 64, 0], atol=0.02)
    assert (np.diff(shares) >= 0).all() and len(set(shares)) == 4


def pixels(model):
    return [
        layer.input.shape[1] * layer.input.shape[2]
        for layer in model.layers
        if isinstance(layer, SparseShift2D)
    ]


def cost(model):
    """Pixels of all shifted channels."""
    counts = [pattern.any(axis=0).sum() for pattern in patterns(model)]
    return np.dot(counts, pixels(model))


def test_costs_decide_where():
    found = {}
    for costs in (None, "pixels"):
        model = network()
        fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.6, costs=costs), epochs=1)
        assert share_unshifted(patterns(model)) == pytest.approx(0.6, abs=1e-2)
        found[costs] = cost(model)
    assert found["pixels"] < found[None]


def test_a_budget_of_cost():
    model = network()
    before = cost(model)
    fit(model, SparsifyShifts(IMAGES, LABELS, cost=0.25), epochs=1)
    assert before / 4 - max(pixels(model)) <= cost(model) <= before / 4


def test_a_layers_first_shift_may_cost_more_than_the_next():
    model = network()
    before = sum(pattern.any() for pattern in patterns(model))
    sparsify = SparsifyShifts(IMAGES, LABELS, unshifted=0.6, layer_cost=1e9, stages=1)
    fit(model, sparsify, epochs=1)
    after = patterns(model)
    assert share_unshifted(after) >= 0.6
    # Without this cost, every layer keeps some (see the first test of this callback).
    assert 0 < sum(pattern.any() for pattern in after) < before


def test_a_budget_of_cost_counts_layers():
    """If all that costs is to shift at all, the budget is a number of layers."""
    model = network()
    before = sum(pattern.any() for pattern in patterns(model))
    sparsify = SparsifyShifts(
        IMAGES, LABELS, cost=0.41, costs=None, layer_cost=1e9, stages=2
    )
    fit(model, sparsify, epochs=1)
    assert sum(pattern.any() for pattern in patterns(model)) == int(0.41 * before) > 0


@pytest.mark.skipif(not JAX, reason="elsewhere, a constraint holds displacements")
def test_on_jax_the_optimizer_must_hold_displacements():
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="Received: optimizer=SGD"):
        fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7), epochs=1)


def test_cuts_what_lies_farther():
    model = network(displacement_initializer=keras.initializers.Constant(1.7))
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.5, max_displacement=1))
    assert {*np.unique(np.concatenate(patterns(model), axis=1))} == {0.0, 1.0}


def test_displacements_learn_until_it_begins():
    class Fractions(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.found = []

        def on_train_batch_end(self, batch, logs=None):
            now = np.concatenate(patterns(self.model), axis=1)
            self.found.append(bool((now != np.rint(now)).any()))

    model, fractions, observer = network(), Fractions(), Observer()
    before = share_unshifted(patterns(model))
    sparsify = SparsifyShifts(IMAGES, LABELS, unshifted=0.7, begin=0.5, stages=4)
    fit(model, sparsify, fractions, observer)
    # 6 steps in each of 4 epochs: it takes shifts away from step 12 to 18.
    assert fractions.found == [True] * 12 + [False] * 12
    assert observer.shares[11] == pytest.approx(before, abs=0.05)
    assert observer.shares[12] > observer.shares[11] + 0.1
    assert observer.shares[17] == observer.shares[-1] == pytest.approx(0.7, abs=1e-2)


def test_a_model_that_has_trained_before_loses_as_many():
    model = network()
    fit(model, epochs=3)
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7), epochs=1)
    assert share_unshifted(patterns(model)) == pytest.approx(0.7, abs=1e-2)


def test_executions_of_several_steps_pass_no_moment_by():
    model = network()
    model.compile(SGD(), model.loss, steps_per_execution=4)
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7, stages=9), epochs=1)
    assert share_unshifted(patterns(model)) == pytest.approx(0.7, abs=1e-2)


def test_shifts_stay_in_later_calls_of_fit_until_they_are_thawed():
    model = network()
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.9), epochs=1)
    before = patterns(model)
    fit(model, epochs=1)
    for old, new in zip(before, patterns(model)):
        np.testing.assert_array_equal(old, new)
    keras_shift.callbacks.thaw_shifts(model)
    fit(model, epochs=1)
    assert any((old != new).any() for old, new in zip(before, patterns(model)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("freeze_shifts, interrupted", [(None, 0), (0.25, 1)])
def test_an_interrupted_recipe_ends_with_the_same_weights(
    tmp_path, freeze_shifts, interrupted
):
    recipe = keras_shift.training.Recipe(
        name="tiny",
        network="the one above",
        dataset="none",
        batch_size=8,
        epochs=4,
        learning_rate=0.01,
        freeze_shifts=freeze_shifts,
        unshifted=0.8,
    )
    images = RANDOM.integers(0, 256, IMAGES.shape, "uint8")
    data = Data("none", images, LABELS, images[:8], LABELS[:8], list("abcd"))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == interrupted:
                raise KeyboardInterrupt

    def run(directory, **options):
        model = network()
        train(model, recipe, data, tmp_path / directory, verbose=0, **options)
        return model.get_weights()

    whole = run("whole")
    # Before it, there are stages from the first step on, or from the second epoch on.
    with pytest.raises(KeyboardInterrupt):
        run("parts", callbacks=[Stop()])
    for one, other in zip(whole, run("parts", resume=True)):
        np.testing.assert_array_equal(one, other)


def test_recipes_that_take_shifts_away_do_not_run_on_torch(tmp_path, monkeypatch):
    recipe = keras_shift.zoo.recipes.get_recipe("tiny_imagenet.fenet_0.75.sparse")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="or JAX. Received: backend torch"):
        train(None, recipe, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("use_ema", [exhaustive(False), True])
def test_nothing_goes_by_that_begins_between_executions(use_ema):
    """Executions begin at steps 0 and 5, and all shifts are due from 1 to 3."""
    model = network()
    optimizer = SGD(0.01, use_ema=use_ema, ema_momentum=0.5)
    model.compile(optimizer, model.loss, steps_per_execution=5)
    times = {"begin": 0.2, "end": 0.5}
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7, **times), epochs=1)
    after = patterns(model)
    assert share_unshifted(after) == pytest.approx(0.7, abs=1e-2)
    for pattern in after:
        np.testing.assert_array_equal(pattern, np.rint(pattern))


@pytest.mark.parametrize(
    "times", [exhaustive({"begin": 1.0}), {"begin": 0.99, "end": 1.0}]
)
def test_the_last_step_is_not_too_late(times):
    model = network()
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7, **times), epochs=1)
    assert share_unshifted(patterns(model)) == pytest.approx(0.7, abs=1e-2)


def test_an_execution_as_long_as_an_epoch_does_it_all_at_once():
    model = network()
    model.compile(SGD(), model.loss, steps_per_execution=6)
    fit(model, SparsifyShifts(IMAGES, LABELS, unshifted=0.7), epochs=2)
    assert share_unshifted(patterns(model)) == pytest.approx(0.7, abs=1e-2)


@pytest.mark.parametrize(
    "alpha, suffix", [exhaustive(1.0, "sparsified"), (0.75, "emptied")]
)
def test_a_recipe_may_begin_with_published_weights(alpha, suffix):
    recipe = keras_shift.zoo.recipes.get_recipe(f"tiny_imagenet.fenet_{alpha}.{suffix}")
    model = keras_shift.zoo.recipes.build(recipe)
    published = keras_shift.zoo.FENet(alpha=alpha, weights=recipe.initial_weights)
    left_out = set(recipe.arguments.get("without_shift", ()))
    for layer in published.layers:
        if layer.name.removesuffix("_shift") in left_out:
            continue
        here = model.get_layer(layer.name).get_weights()
        for one, other in zip(here, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    other = dataclasses.replace(recipe, initial_weights="nothing")
    with pytest.raises(ValueError, match="'nothing'"):
        keras_shift.zoo.recipes.build(other)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "Exactly one of the arguments `unshifted` and `cost`"),
        ({"unshifted": 0.5, "cost": 0.5}, "Exactly one"),
        ({"unshifted": 1.5}, "`unshifted` must be a share"),
        ({"cost": -1}, "`cost` must be a share"),
        ({"unshifted": 0.5, "end": 2}, "`end` must be a share"),
        ({"unshifted": 0.5, "begin": -1}, "`begin` must be a share"),
        ({"unshifted": 0.5, "begin": 0.6, "end": 0.5}, "`begin` must not be larger"),
        ({"unshifted": 0.5, "layer_cost": -1}, "`layer_cost` must be zero or more"),
        ({"cost": 0.5, "layer_cost": float("inf")}, "`layer_cost` must be .* finite"),
        ({"unshifted": 0.5, "stages": 0}, "`stages` must be a positive integer"),
    ],
)
def test_refuses_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparsifyShifts(IMAGES, LABELS, **arguments)


def test_refuses_images_without_labels_and_models_without_shifts():
    with pytest.raises(ValueError, match="Received: 48 images and 3 labels"):
        SparsifyShifts(IMAGES, LABELS[:3], unshifted=0.5)
    callback = SparsifyShifts(IMAGES, LABELS, unshifted=0.5)
    with pytest.raises(ValueError, match="has none there"):
        fit(network(spatial="none"), callback)
