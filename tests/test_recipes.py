"""The recipes of the zoo."""

import csv
import dataclasses

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.training import Data, Recipe, train
from keras_shift.zoo import recipes
from marks import exhaustive
from networks import ROOT

ALL = recipes.list_recipes()


def regularizer_of(model, weight_name):
    """The distinct factors of L2 regularizers of weights with this name."""
    return {
        round(float(weight.regularizer.l2), 9) if weight.regularizer else None
        for weight in model.trainable_weights
        if weight.name == weight_name
    }


def test_names_are_unique_and_say_the_dataset():
    families = (recipes.fenet, recipes.mobilenet_v2, recipes.shiftnet)
    families += (recipes.shiftresnet,)
    assert sum(len(family.RECIPES) for family in families) == len(set(ALL)) == len(ALL)
    for recipe in map(recipes.get_recipe, ALL):
        assert recipe.name.split(".")[0] == recipe.dataset
        assert recipe.source


def test_networks_exist():
    known = {*zoo.list_models(), "FENet", "MobileNetV2"}
    assert {recipes.get_recipe(name).network for name in ALL} <= known


def test_pattern():
    assert recipes.list_recipes("imagenet2012.shiftnet_?") == [
        "imagenet2012.shiftnet_a",
        "imagenet2012.shiftnet_b",
        "imagenet2012.shiftnet_c",
    ]
    assert recipes.list_recipes("nothing*") == []


def test_unknown_names_get_a_hint():
    with pytest.raises(ValueError, match="Did you mean.*imagenet2012.fenet_1.0"):
        recipes.get_recipe("imagenet.fenet_1.0")


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_shifts_are_removed_in_the_order_of_the_papers_table_2(dataset):
    shares = {}
    with open(ROOT / "tools" / "paper_results.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["table"], row["dataset"]) == ("SSL Table 2", dataset):
                unshifted, channels = map(int, row["paper"].split(" / "))
                shares[row["layer"].removesuffix("_shift")] = unshifted / channels
    del shares[""]  # the total
    for removed in (4, 6, 8):
        name = f"{dataset}.shiftresnet20_ssl_without{removed}"
        modules = recipes.get_recipe(name).arguments["without_shift"]
        kept = [share for name, share in shares.items() if name not in modules]
        assert len(modules) == removed and len(kept) == 9 - removed
        assert min(shares[name] for name in modules) >= max(kept)
    # The last of these recipes, the one with the fewest shifts.
    model = recipes.build(recipes.get_recipe(name), alpha=0.25)
    assert len(shift_layers(model)) == 9 - removed


def test_the_papers_recipes_say_what_the_papers_print():
    ssl = recipes.get_recipe("cifar10.shiftresnet20_ssl_lambda4e-4")
    assert (ssl.steps, ssl.batch_size, ssl.learning_rate) == (64_000, 128, 0.1)
    assert [round(b * ssl.steps) for b in ssl.boundaries] == [32_000, 48_000]
    assert ssl.freeze_shifts * ssl.steps == 48_000
    assert (ssl.displacement_penalty, ssl.displacement_norm) == (4e-4, "l2")
    fenet = recipes.get_recipe("imagenet2012.fenet_1.0")
    assert (fenet.epochs, fenet.batch_size, fenet.learning_rate) == (480, 1024, 0.6)
    assert fenet.freeze_shifts * fenet.epochs == 240
    assert (fenet.schedule, fenet.weight_decay) == ("linear", 4e-5)
    shiftnet = recipes.get_recipe("imagenet2012.shiftnet_a")
    assert (shiftnet.epochs, shiftnet.batch_size) == (90, 2048)
    assert [round(b * 90) for b in shiftnet.boundaries] == [30, 60]


def test_the_comparison_differs_in_the_network_alone():
    for name in recipes.list_recipes("*.mobilenet_v2_1.0"):
        ours = recipes.get_recipe(name.replace("mobilenet_v2", "fenet"))
        theirs = recipes.get_recipe(name)
        different = {
            field.name
            for field in dataclasses.fields(Recipe)
            if getattr(ours, field.name) != getattr(theirs, field.name)
        }
        assert {"name", "network"} <= different
        assert different <= {
            "name",
            "network",
            "displacement_gradient_factor",
            "freeze_shifts",
            "precision",
        }


class TestBuild:
    def test_regularizers_are_the_papers(self):
        recipe = recipes.get_recipe("cifar10.shiftresnet20_ssl_lambda5e-4")
        model = recipes.build(recipe)
        # Keras' L2(l) has the gradient 2 l w, the papers' weight decay w w.
        assert regularizer_of(model, "kernel") == {2.5e-4}
        assert regularizer_of(model, "displacements") == {5e-4}
        assert regularizer_of(model, "gamma") == {None}

    def test_l1(self):
        recipe = dataclasses.replace(
            recipes.get_recipe("cifar10.shiftresnet20_ssl_lambda5e-4"),
            displacement_norm="l1",
        )
        shifts = recipes.build(recipe).get_layer("group1_module1_shift")
        assert float(shifts.displacements.regularizer.l1) == pytest.approx(5e-4)

    def test_weights_are_functions_of_the_seed(self):
        recipe = recipes.get_recipe("cifar10.shiftresnet20_ssl.short")
        one, same = recipes.build(recipe), recipes.build(recipe)
        other = recipes.build(dataclasses.replace(recipe, seed=1))
        kernels = [
            m.get_layer("group1_module1_expand").kernel for m in (one, same, other)
        ]
        kernels = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert not np.array_equal(kernels[0], kernels[2])

    def test_fractional_start(self):
        recipe = dataclasses.replace(
            recipes.get_recipe("cifar10.shiftresnet20_ssl"),
            displacement_start="fractional",
        )
        layer = recipes.build(recipe).get_layer("group1_module1_shift")
        values = keras.ops.convert_to_numpy(layer.displacements)
        assert -1 <= values.min() < -0.5 and 1.5 < values.max() < 2

    def test_precision_is_the_recipes_and_nobody_elses(self):
        recipe = recipes.get_recipe("cifar10.shiftresnet20_ssl.short")
        assert recipes.build(recipe).dtype_policy.name == "mixed_bfloat16"
        assert keras.config.dtype_policy().name == "float32"

    def test_arguments_come_first(self):
        recipe = recipes.get_recipe("cifar100.fenet_1.0")
        model = recipes.build(recipe, classes=7, classifier_activation=None)
        assert model.output_shape == (None, 7)
        assert model.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("cifar10.shiftresnet20_ssl_lambda5e-4.short", {"alpha": 0.25}),
        exhaustive(
            "tiny_imagenet.fenet_1.0",
            {"alpha": 0.25, "input_shape": (32, 32, 3)},
        ),
        exhaustive("cifar10.resnet20", {"alpha": 0.25}),
        exhaustive(
            "tiny_imagenet.mobilenet_v2_1.0",
            {"alpha": 0.35, "input_shape": (32, 32, 3)},
        ),
        exhaustive(
            "imagenet2012.shiftnet_c",
            {"alpha": 0.25, "input_shape": (32, 32, 3)},
        ),
    ],
)
@pytest.mark.exhaustive
def test_trains(name, arguments, tmp_path):
    recipe = dataclasses.replace(
        recipes.get_recipe(name),
        batch_size=8,
        steps=None,
        epochs=2,
        augmentation="flip_crop",
    )
    model = recipes.build(recipe, classifier_activation=None, **arguments)
    size = model.input_shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (16, *size), "uint8")
    labels = np.arange(16) % 10
    classes = [str(index) for index in range(model.output_shape[-1])]
    data = Data("none", images, labels, images[:8], labels[:8], classes)
    before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    rows = train(model, recipe, data, tmp_path, verbose=0)
    assert len(rows) == 2 and np.isfinite(rows[-1]["val_loss"])
    for weight, value in zip(model.trainable_weights, before):
        assert weight.name == "displacements" or not np.array_equal(weight, value)
