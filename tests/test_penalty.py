import dataclasses
import math

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.training import Recipe, ShiftSGD, penalize_shifts
from keras_shift.training.learning_rate import learning_rate
from keras_shift.training.penalty import strength_of_decay
from marks import exhaustive

RECIPE = Recipe(
    name="tiny",
    network="FENet",
    dataset="none",
    batch_size=8,
    epochs=4,
    learning_rate=0.15,
    schedule="cosine",
    warmup=0.05,
    nesterov=True,
    displacement_gradient_factor=10,
    displacement_decay=3.0,
    displacement_costs="pixels",
    freeze_shifts=0.6,
)


def two_shifts():
    """Maps of 8x8 and 4x4 pixels, with 4 and 6 channels."""
    x = images = keras.Input((8, 8, 3))
    for number, filters in enumerate((4, 6)):
        x = keras.layers.Conv2D(filters, 1, strides=1 + number)(x)
        x = keras_shift.layers.SparseShift2D(name=f"shift{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(5, activation="softmax")(x))


def strengths(model):
    return [layer.displacement_regularizer.l2 for layer in shift_layers(model)]


def test_costs_weigh_layers_and_keep_the_mean_over_channels():
    model = two_shifts()
    penalize_shifts(model, 0.1, "pixels")
    first, second = strengths(model)
    assert first == pytest.approx(4 * second)
    assert (4 * first + 6 * second) / 10 == pytest.approx(0.1)
    penalize_shifts(model, 0.1, {"shift0": 1, "shift1": 3})
    assert strengths(model) == pytest.approx([0.1 * 10 / 22, 0.3 * 10 / 22])
    penalize_shifts(model, 0.1)
    assert strengths(model) == pytest.approx([0.1, 0.1])


def test_the_loss_has_the_penalty_once():
    # Of layers that had another one before.
    model = keras_shift.zoo.FENet(
        (32, 32, 3), 0.25, displacement_regularizer=keras.regularizers.L2(7.0)
    )
    penalize_shifts(model, 0.5)
    squares = sum(
        np.sum(np.square(layer.displacement_array())) for layer in shift_layers(model)
    )
    total = sum(float(loss) for loss in model.losses)
    assert total == pytest.approx(0.5 * squares, rel=1e-5)


@pytest.mark.parametrize(
    "costs",
    [
        "area",
        {"shift0": 1},
        {"shift0": 1, "shift1": 0},
        {"shift0": 1, "shift1": math.inf},
        {"shift0": 1, "shift1": "much"},
        3,
    ],
)
def test_refuses_costs_that_make_no_sense(costs):
    with pytest.raises(ValueError, match="`costs` must be .*Received: costs="):
        penalize_shifts(two_shifts(), 0.1, costs)


def test_refuses_a_model_without_learned_shifts():
    layers = [keras.Input((8, 8, 9)), keras_shift.layers.GroupedShift2D()]
    model = keras.Sequential(layers)
    with pytest.raises(ValueError, match="no layers with learned shifts"):
        penalize_shifts(model, 0.1)


def test_pixels_need_a_map_of_known_size():
    model = keras_shift.zoo.FENet((None, None, 3), 0.25, include_top=False)
    with pytest.raises(ValueError, match="height and a width"):
        penalize_shifts(model, 0.1, "pixels")


@pytest.mark.parametrize("nesterov", [exhaustive(False), True])
@pytest.mark.parametrize("steps", [1500, exhaustive(3000)])
def test_decay_is_what_is_left_of_a_displacement(steps, nesterov):
    """Whatever the length of the training, the learning rate and the factor."""
    recipe = dataclasses.replace(RECIPE, nesterov=nesterov)
    strength = strength_of_decay(recipe, steps)
    schedule = learning_rate(recipe, steps)
    displacement, velocity = 1.0, 0.0
    for step in range(round(recipe.freeze_shifts * steps)):
        rate = float(schedule(step)) * recipe.displacement_gradient_factor
        gradient = 2 * strength * displacement
        velocity = recipe.momentum * velocity - rate * gradient
        displacement += (
            recipe.momentum * velocity - rate * gradient if nesterov else velocity
        )
    # Momentum needs steps to build up, which a short training has few of.
    assert math.log(displacement) == pytest.approx(-3.0, rel=0.1)


def test_the_optimizer_decays_as_the_formula_says():
    layer = keras_shift.layers.SparseShift2D(displacement_initializer="ones")
    layer.build((None, 4, 4, 2))
    optimizer = ShiftSGD(0.1, momentum=0.9, displacement_gradient_factor=5)
    optimizer.build([layer.displacements])
    for _ in range(400):
        gradient = 2 * 2e-4 * layer.displacements
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    left = float(layer.displacements.numpy()[0, 0])
    assert math.log(left) == pytest.approx(-2 * 2e-4 * 5 * 0.1 / 0.1 * 400, rel=0.05)


def test_recipes_set_it_when_they_compile():
    recipe = dataclasses.replace(
        keras_shift.zoo.recipes.get_recipe("tiny_imagenet.fenet_0.5.sparse"),
        displacement_decay=20,
        displacement_costs="pixels",
    )
    # Zeros take less time than random numbers.
    model = keras_shift.zoo.recipes.build(recipe, kernel_initializer="zeros")
    keras_shift.training.trainer.compile_model(model, recipe, 1000)
    by_pixels = {
        layer.input.shape[1]: layer.displacement_regularizer.l2
        for layer in shift_layers(model)
    }
    assert by_pixels[32] == pytest.approx(256 * by_pixels[2])
    assert all(layer.max_displacement == 1 for layer in shift_layers(model))
