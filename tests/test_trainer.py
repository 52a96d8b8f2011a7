"""Training by recipes, interrupted and not."""

import contextlib
import csv
import dataclasses
import errno
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import rich.progress

from keras_shift import zoo
from keras_shift.training import Data, Recipe, ShiftSGD, train
from keras_shift.training.cross_entropy import CrossEntropy
from keras_shift.training.trainer import Recorder, compile_model
from marks import exhaustive

RECIPE = Recipe(
    name="tiny",
    network="ShiftResNet20",
    dataset="none",
    augmentation="flip_crop",
    crop_padding=1,
    batch_size=8,
    epochs=4,
    learning_rate=0.05,
    schedule="cosine",
    warmup=0.2,
    displacement_gradient_factor=20,
    displacement_penalty=1e-3,
    freeze_shifts=0.5,
)


AVERAGED = dataclasses.replace(
    RECIPE, ema_momentum=0.9, label_smoothing=0.1, schedule="step", boundaries=(0.5,)
)


def tiny_data():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), "uint8")
    labels = np.arange(40) % 3
    return Data("none", images[:32], labels[:32], images[32:], labels[32:], list("abc"))


def tiny_model():
    """A network with learned shifts and with dropout, whose seed is a state, too."""
    keras.utils.set_random_seed(0)
    x = images = keras.Input((8, 8, 3))
    style = zoo.blocks.BlockStyle(
        spatial="sparse_shift",
        displacement_initializer="grouped",
        displacement_regularizer=keras.regularizers.L2(1e-3),
        max_displacement=2,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(1e-4),
        batch_norm_momentum=0.9,
    )
    x = zoo.blocks.conv_shift_conv(x, 6, 18, style, "module", strides=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(images, keras.layers.Dense(3)(x))


def one_layer():
    """A model for what does not depend on the network, since it trains in no time."""
    layers = keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)
    return keras.Sequential(layers)


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def assert_same_weights(model, expected):
    for value, other in zip(weights_of(model), weights_of(expected)):
        np.testing.assert_array_equal(value, other)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.when = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.when:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A training that nothing interrupted: network, logs, folder."""
    model, folder = tiny_model(), tmp_path_factory.mktemp("ended")
    return model, train(model, RECIPE, tiny_data(), folder, verbose=0), folder


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """The network of another, with averages, smooth labels, and a schedule of steps."""
    model, folder = tiny_model(), tmp_path_factory.mktemp("averaged")
    train(model, AVERAGED, tiny_data(), folder, verbose=0)
    return model


@pytest.fixture
def folder(ended, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(ended[2], tmp_path / "copy")


class TestTrain:
    def test_leaves_all_files(self, ended):
        model, rows, folder = ended
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
        assert [row["steps"] for row in rows] == [4, 8, 12, 16]
        with open(folder / "log.csv", newline="") as file:
            log = list(csv.DictReader(file))
        assert [float(row["val_accuracy"]) for row in log] == [
            row["val_accuracy"] for row in rows
        ]
        assert {"loss", "accuracy", "val_loss", "shift_sparsity", "seconds"} <= set(
            log[0]
        )
        assert Recipe.from_json((folder / "recipe.json").read_text()) == RECIPE
        fresh = tiny_model()
        fresh.load_weights(folder / "final.weights.h5")
        assert_same_weights(fresh, model)
        assert not list(folder.glob("unfinished*"))

    def test_needs_tensorflow_for_tensorboard(self, tmp_path, monkeypatch):
        """Both may be installed, or TensorBoard alone: Keras' callback needs both."""
        find = importlib.util.find_spec

        def without_tensorflow(name, *package):
            if name == "tensorboard":
                return find("keras")
            return None if name == "tensorflow" else find(name, *package)

        monkeypatch.setattr(importlib.util, "find_spec", without_tensorflow)
        recipe = dataclasses.replace(RECIPE, epochs=1)
        train(one_layer(), recipe, tiny_data(), tmp_path, verbose=0)
        assert not (tmp_path / "tensorboard").exists()

    def test_the_loss_falls(self, tmp_path):
        recipe = dataclasses.replace(RECIPE, epochs=20, augmentation="none")
        rows = train(tiny_model(), recipe, tiny_data(), tmp_path, verbose=0)
        assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]

    def test_displacements_freeze_at_their_rounded_values(self, ended):
        for layer in ended[0].layers:
            if hasattr(layer, "displacements"):
                pattern = keras.ops.convert_to_numpy(layer.displacements)
                np.testing.assert_array_equal(pattern, np.rint(pattern))

    @pytest.mark.parametrize("epochs", [1, 2])
    def test_displacements_freeze_in_short_trainings(self, epochs, tmp_path):
        recipe = dataclasses.replace(
            RECIPE, epochs=epochs, freeze_shifts=0.75, least_shifted=0.99
        )
        model = tiny_model()
        train(model, recipe, tiny_data(), tmp_path, verbose=0)
        assert not model.get_layer("module_shift").displacement_array().any()

    @pytest.mark.parametrize(
        "epoch, batch", [exhaustive(0, 2), (1, 3), exhaustive(3, 1)]
    )
    def test_goes_on_as_if_never_interrupted(self, ended, tmp_path, epoch, batch):
        interrupt = [Interrupt(epoch, batch)]
        options = {"directory": tmp_path, "data": tiny_data(), "verbose": 0}
        with pytest.raises(KeyboardInterrupt):
            train(tiny_model(), RECIPE, **options, callbacks=interrupt)
        resumed = tiny_model()
        rows = train(resumed, RECIPE, **options, resume=True)
        assert_same_weights(resumed, ended[0])
        for row, expected in zip(rows, ended[1], strict=True):
            assert row["val_loss"] == expected["val_loss"]

    def test_goes_on_with_every_kind_of_state(self, averaged, tmp_path):
        resumed = tiny_model()
        options = {"data": tiny_data(), "directory": tmp_path, "verbose": 0}
        with pytest.raises(KeyboardInterrupt):
            train(tiny_model(), AVERAGED, **options, callbacks=[Interrupt(2, 1)])
        train(resumed, AVERAGED, **options, resume=True)
        assert_same_weights(resumed, averaged)

    @pytest.mark.exhaustive
    def test_goes_on_with_states_of_mixed_precision(self, tmp_path):
        changes = {"precision": "mixed_bfloat16", "nesterov": True}
        changes |= {"schedule": "linear", "label_smoothing": 0.1}
        recipe = dataclasses.replace(RECIPE, **changes)
        keras.config.set_dtype_policy(recipe.precision)
        try:
            whole, stopped, resumed = tiny_model(), tiny_model(), tiny_model()
        finally:
            keras.config.set_dtype_policy("float32")
        options = {"data": tiny_data(), "verbose": 0}
        train(whole, recipe, **options, directory=tmp_path / "whole")
        options["directory"] = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(stopped, recipe, **options, callbacks=[Interrupt(2, 1)])
        train(resumed, recipe, **options, resume=True)
        assert_same_weights(resumed, whole)

    def test_resuming_what_is_done_changes_nothing(self, ended, folder):
        model, rows, _ = ended
        environment = folder / "environment.json"
        environment.write_text("that of the machine which trained")
        again = tiny_model()
        assert rows == train(again, RECIPE, tiny_data(), folder, resume=True, verbose=0)
        assert_same_weights(again, model)
        assert environment.read_text() == "that of the machine which trained"

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("killed", [False, True])
    def test_averaged_weights_survive_resuming(self, averaged, tmp_path, killed):
        resumed = tiny_model()
        options = {"recipe": AVERAGED, "data": tiny_data(), "verbose": 0}
        directory = tmp_path / "run"
        if killed:
            # Between the last epoch and the end of `fit`.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Recorder, "on_train_end", interrupt, raising=False)
                with pytest.raises(KeyboardInterrupt):
                    train(tiny_model(), **options, directory=directory)
            assert not (directory / "final.weights.h5").exists()
        else:
            train(tiny_model(), **options, directory=directory)
        train(resumed, **options, directory=directory, resume=True)
        assert_same_weights(resumed, averaged)
        resumed.load_weights(directory / "final.weights.h5")
        assert_same_weights(resumed, averaged)

    def test_goes_on_after_a_callback_ended_it(self, averaged, tmp_path):
        resumed = tiny_model()
        options = {"recipe": AVERAGED, "data": tiny_data(), "verbose": 0}
        options["directory"] = tmp_path
        early, stop = tiny_model(), keras.callbacks.Callback()
        stop.on_epoch_end = lambda epoch, logs: setattr(
            early, "stop_training", epoch == 1
        )
        assert len(train(early, **options, callbacks=[stop])) == 2
        assert len(train(resumed, **options, resume=True)) == 4
        assert_same_weights(resumed, averaged)

    def test_goes_on_after_the_last_checkpoint(self, ended, folder):
        (folder / "final.weights.h5").unlink()
        again = tiny_model()
        train(again, RECIPE, tiny_data(), folder, resume=True, verbose=0)
        assert_same_weights(again, ended[0])
        again.load_weights(folder / "final.weights.h5")
        assert_same_weights(again, ended[0])

    @pytest.mark.exhaustive
    def test_goes_on_with_more_to_log(self, tmp_path):
        options = {"directory": tmp_path, "data": tiny_data(), "verbose": 0}
        with pytest.raises(KeyboardInterrupt):
            train(tiny_model(), RECIPE, **options, callbacks=[Interrupt(2, 1)])
        more = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(extra=1.0)
        )
        train(tiny_model(), RECIPE, **options, resume=True, callbacks=[more])
        with open(tmp_path / "log.csv", newline="") as file:
            extra = [row["extra"] for row in csv.DictReader(file)]
        assert extra == ["", "", "1.0", "1.0"]

    @pytest.mark.parametrize("resume", [False, True])
    def test_does_not_overwrite_a_training(self, folder, resume):
        message = "go on with it .*--resume"
        if resume:
            (folder / "checkpoint.npz").unlink()
            message = "no checkpoint.npz to go on from"
        with pytest.raises(FileExistsError, match=message):
            train(tiny_model(), RECIPE, tiny_data(), folder, resume=resume, verbose=0)

    def test_full_disks_are_found_out_before_hdf5_crashes(self, tmp_path, monkeypatch):
        """What writes zeros first, as many bytes as the file gets, needs that space."""
        write, zeros = Path.write_bytes, []
        options = {"data": tiny_data(), "directory": tmp_path, "verbose": 0}

        def full(path, content):
            zeros.append(len(content))
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        weights = tmp_path / "final.weights.h5"
        message = f"Errno {errno.ENOSPC}. No space .*: '{weights}'"
        with pytest.raises(OSError, match=message):
            train(tiny_model(), RECIPE, **options)
        assert not list(tmp_path.glob("*.h5"))
        monkeypatch.undo()
        assert len(train(tiny_model(), RECIPE, **options, resume=True)) == 4
        assert weights.stat().st_size <= zeros[0]

    def test_two_do_not_train_into_one_folder(self, tmp_path):
        refused = []

        def train_beside(epoch, logs):
            if not epoch:
                with pytest.raises(FileExistsError, match="Another process") as error:
                    train(one_layer(), RECIPE, tiny_data(), tmp_path, verbose=0)
                refused.append(error)

        beside = keras.callbacks.LambdaCallback(on_epoch_begin=train_beside)
        options = {"data": tiny_data(), "directory": tmp_path, "verbose": 0}
        train(one_layer(), RECIPE, **options, callbacks=[beside])
        assert refused and not (tmp_path / "lock").exists()

    def test_refuses_the_checkpoint_of_another_recipe(self, folder):
        other = dataclasses.replace(RECIPE, seed=1, epochs=5)
        message = "another recipe: its epochs was 4 and now is 5, its seed was 0 and"
        with pytest.raises(ValueError, match=message):
            train(tiny_model(), other, tiny_data(), folder, resume=True, verbose=0)

    def test_recipes_of_before_a_field_existed_are_the_same(self, folder):
        path = folder / "checkpoint.npz"
        with np.load(path) as file:
            arrays = dict(file)
        progress = json.loads(str(arrays["progress"]))
        recipe = json.loads(progress["recipe"])
        del recipe["undistorted"]
        progress["recipe"] = json.dumps(recipe)
        np.savez(path, **{**arrays, "progress": np.array(json.dumps(progress))})
        train(tiny_model(), RECIPE, tiny_data(), folder, resume=True, verbose=0)

    def test_refuses_other_classes(self, tmp_path):
        data = dataclasses.replace(tiny_data(), class_names=list("abcde"))
        with pytest.raises(ValueError, match="5 classes.*Received: a model with 3"):
            train(tiny_model(), RECIPE, data, tmp_path, verbose=0)

    def test_refuses_the_checkpoint_of_another_network(self, folder):
        with pytest.raises(ValueError, match="another network or optimizer"):
            train(one_layer(), RECIPE, tiny_data(), folder, resume=True, verbose=0)

    @pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
    def test_refuses_damaged_checkpoints(self, folder, damage):
        path = folder / "checkpoint.npz"
        content = path.read_bytes()
        path.write_bytes(
            {"cut": content[:-200], "garbage": b"?" * 1000, "empty": b""}[damage]
        )
        with pytest.raises(ValueError, match="is no checkpoint, or damaged"):
            train(tiny_model(), RECIPE, tiny_data(), folder, resume=True, verbose=0)

    def test_stops_clearly_when_the_loss_is_no_number(self, tmp_path):
        bad = one_layer()
        kernel = bad.layers[-1].kernel
        kernel.assign(np.full(kernel.shape, np.nan))
        with pytest.raises(FloatingPointError, match="No epoch has .* smaller `lea"):
            train(bad, RECIPE, tiny_data(), tmp_path, verbose=0)
        assert not (tmp_path / "checkpoint.npz").exists()

    @pytest.mark.parametrize("end", [None, Interrupt(1, 0)])
    def test_leaves_the_terminal_as_it_was(self, tmp_path, monkeypatch, end):
        started = []
        start = rich.progress.Progress.start
        monkeypatch.setattr(
            rich.progress.Progress,
            "start",
            lambda bar: (started.append(bar), start(bar)),
        )
        monkeypatch.setenv("FORCE_COLOR", "1")  # as if it were a terminal
        with contextlib.suppress(KeyboardInterrupt):
            callbacks = [end] if end else []
            train(one_layer(), RECIPE, tiny_data(), tmp_path, callbacks=callbacks)
        assert [bar.disable for bar in started] == [False]
        assert [bar.live.is_started for bar in started] == [False]

    def test_prints_a_line_an_epoch_where_nobody_watches(self, tmp_path, capfd):
        train(one_layer(), RECIPE, tiny_data(), tmp_path)
        lines = [
            line for line in capfd.readouterr().err.splitlines() if "epoch" in line
        ]
        assert len(lines) == 4
        assert lines[0].startswith("epoch 1/4: ") and lines[0].endswith(" left")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_trainer import RECIPE, tiny_data, tiny_model
from keras_shift.training import train
train(tiny_model(), RECIPE, tiny_data(), sys.argv[1])
"""


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def lines_of(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def start(directory):
    script = SCRIPT.format(tests=os.path.dirname(__file__))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stderr=subprocess.PIPE
    )


@pytest.mark.exhaustive
def test_survives_kill_9_at_a_random_moment(ended, tmp_path):
    directory = tmp_path / "run"
    process = start(directory)
    # After the first to third of four epochs, and some time of the next.
    lines = random.randint(2, 4)
    while lines_of(directory / "log.csv") < lines:
        assert process.poll() in (None, 0), process.stderr.read().decode()
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    process.kill()
    process.communicate()
    resumed = tiny_model()
    train(resumed, RECIPE, tiny_data(), directory, resume=True, verbose=0)
    resumed.load_weights(directory / "final.weights.h5")
    assert_same_weights(resumed, ended[0])


def test_logits_are_told_from_probabilities():
    model = tiny_model()
    compile_model(model, RECIPE, 10)
    assert model.loss.from_logits
    softmax = keras.Model(
        model.inputs, keras.layers.Dense(3, "softmax")(model.layers[-2].output)
    )
    compile_model(softmax, RECIPE, 10)
    assert not softmax.loss.from_logits
    layer = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    compile_model(layer, RECIPE, 10)
    assert not layer.loss.from_logits
    for inner, from_logits in ((softmax, False), (tiny_model(), True)):
        images = keras.Input(inner.input_shape[1:])
        scaled = keras.layers.Rescaling(0.5)(images)
        for outer in (
            keras.Model(images, inner(scaled)),
            keras.Sequential([images, keras.layers.Rescaling(0.5), inner]),
        ):
            compile_model(outer, RECIPE, 10)
            assert outer.loss.from_logits is from_logits


class TestShiftSGD:
    def test_the_models_variables_do_not_become_the_optimizers(self):
        # JAX refuses to update one buffer in two places.
        model = tiny_model()
        optimizer = ShiftSGD(0.01, momentum=0.9, displacement_gradient_factor=8)
        optimizer.build(model.trainable_variables)
        own = {id(variable) for variable in optimizer.variables}
        assert not own & {id(variable) for variable in model.variables}

    def test_displacements_take_larger_steps_and_nothing_else_does(self):
        moved = []
        for factor in (1, 8):
            model = tiny_model()
            before = weights_of(model)
            model.compile(
                ShiftSGD(0.01, momentum=0.9, displacement_gradient_factor=factor),
                CrossEntropy(3, from_logits=True),
            )
            data = tiny_data()
            keras.utils.set_random_seed(0)
            model.train_on_batch(data.train_images.astype("float32"), data.train_labels)
            moved.append([b - a for b, a in zip(before, weights_of(model))])
        for weight, one, eight in zip(tiny_model().weights, *moved):
            scale = 8 if weight.name == "displacements" else 1
            np.testing.assert_allclose(eight, scale * one, rtol=1e-4, atol=1e-6)

    def test_keras_clips_multiplied_gradients(self):
        displacements = keras.Variable([0.0, 0.0], name="displacements")
        optimizer = ShiftSGD(1.0, displacement_gradient_factor=8, clipvalue=1.0)
        optimizer.apply([keras.ops.array([0.1, 0.5])], [displacements])
        np.testing.assert_allclose(displacements.numpy(), [-0.8, -1.0], rtol=1e-6)

    def test_variables_need_no_mention(self):
        variables = [
            keras.Variable([0.0], name=name) for name in ("a", "displacements")
        ]
        optimizer = ShiftSGD(1.0, displacement_gradient_factor=8)
        gradients = [keras.ops.array([0.1]), keras.ops.array([0.1])]
        with pytest.raises(ValueError, match="must already be built"):
            optimizer.apply(gradients)
        optimizer.build(variables)
        optimizer.apply(gradients)
        found = np.concatenate([variable.numpy() for variable in variables])
        np.testing.assert_allclose(found, [-0.1, -0.8], rtol=1e-6)

    @pytest.mark.parametrize("named", [True, False])
    def test_gradients_are_as_many_as_variables(self, named):
        variables = [keras.Variable([0.0], name=name) for name in ("a", "b")]
        optimizer = ShiftSGD(1.0)
        optimizer.build(variables)
        message = "one gradient, or None, .* Received: 1 gradients for 2 variables"
        with pytest.raises(ValueError, match=message):
            optimizer.apply([keras.ops.array([0.1])], variables if named else None)

    @pytest.mark.parametrize("named", [True, False])
    def test_displacements_keep_their_values(self, named):
        found = []
        for freezes in (False, True):
            variables = [keras.Variable([1.0], name=n) for n in ("a", "displacements")]
            optimizer = ShiftSGD(0.1, momentum=0.9, weight_decay=0.01)
            optimizer.build(variables)
            rows = []
            for step in range(5):
                optimizer.frozen = freezes and step >= 2
                gradients = [keras.ops.array([0.5]), keras.ops.array([0.5])]
                optimizer.apply(gradients, variables if named else None)
                rows.append([variable.numpy().item() for variable in variables])
            found.append(np.array(rows))
        free, frozen = found
        np.testing.assert_array_equal(frozen[:, 0], free[:, 0])
        np.testing.assert_array_equal(frozen[:2, 1], free[:2, 1])
        assert (frozen[2:, 1] == frozen[1, 1]).all() and free[2, 1] != free[1, 1]

    @pytest.mark.parametrize("named", [True, False])
    def test_refuses_gradients_without_variables(self, named):
        variables = [keras.Variable([0.0]), keras.Variable([0.0])]
        optimizer = ShiftSGD(1.0)
        optimizer.build(variables)
        gradients = [keras.ops.array([0.1])] * 3
        with pytest.raises(ValueError, match="3 gradients for 2 variables"):
            optimizer.apply(gradients, variables if named else None)

    def test_config_round_trip(self):
        optimizer = ShiftSGD(
            0.01, displacement_gradient_factor=8, frozen=True, nesterov=True
        )
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.displacement_gradient_factor == 8 and again.frozen
        assert again.nesterov

    @pytest.mark.parametrize("factor", [0, -1, float("nan")])
    def test_refuses_factors_that_are_not_positive(self, factor):
        with pytest.raises(ValueError, match="displacement_gradient_factor"):
            ShiftSGD(displacement_gradient_factor=factor)
