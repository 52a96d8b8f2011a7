"""Trains a recipe with several seeds at once, as one program, on JAX.

    KERAS_BACKEND=jax python tools/train_seeds.py --data-dir DIR --output RUNS \\
        RECIPE:0,1,2
    KERAS_BACKEND=jax python tools/train_seeds.py --data-dir DIR --output RUNS \\
        RECIPE.json+OTHER.json:0,1

The networks of this package are small: a GPU takes as long to start a kernel as to run
it. Here one kernel serves all seeds. The training step of Keras is mapped over their
weights (`jax.vmap`), images lie in the GPU's memory, and convolutions are products of
matrices, which is what can be mapped best. Recipes that differ in nothing but their
names, `unshifted` and `layer_cost` are trained together, too, since these decide what
is done between steps.

RUNS gets a folder for every recipe and seed, as keras_shift.training.train writes it,
but without checkpoints: a training takes minutes and cannot be resumed. Images, their
order and their augmentation are those of that function, so one seed alone ends where it
ends there, but for rounding (tests/test_train_seeds.py).
"""

import argparse
import concurrent.futures
import contextlib
import copy
import dataclasses
import itertools
import json
import re
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src import backend

from keras_shift import callbacks, training
from keras_shift.environment import environment
from keras_shift.files import replacing
from keras_shift.layers import SparseShift2D
from keras_shift.training import checkpoint, data, trainer
from keras_shift.zoo import recipes

_VALIDATION_BATCH = 500
_MAY_DIFFER = {"name": "", "seed": 0, "unshifted": None, "layer_cost": 0.0}


def parse(group):
    """Returns the recipes of RECIPE[+RECIPE...][:SEED[,SEED...]], with their seeds.

    Raises:
        ValueError: If they cannot be trained together.
    """
    parts = re.fullmatch(r"(.+?)(?::(\d+(?:,\d+)*))?", group)
    found = []
    for name in parts[1].split("+"):
        if name.endswith(".json"):
            recipe = training.Recipe.from_json(Path(name).read_text(encoding="utf-8"))
        else:
            recipe = recipes.get_recipe(name)
        for seed in map(int, (parts[2] or "0").split(",")):
            found.append(dataclasses.replace(recipe, seed=seed))
    programs = {dataclasses.replace(recipe, **_MAY_DIFFER).to_json() for recipe in found}
    sparsified = {recipe.unshifted is None for recipe in found}
    if len(programs) > 1 or len(sparsified) > 1:
        raise ValueError(
            f"Recipes that are trained together may differ in {list(_MAY_DIFFER)} "
            f"only, and must all have `unshifted`, or none. Received: {group}"
        )
    if found[0].ema_momentum is not None or found[0].augmentation == "inception":
        raise ValueError(
            "Neither moving averages nor streamed images are implemented for several "
            f"seeds. Received: {group}"
        )
    return found


def folder_of(recipe):
    """Returns the name of a training's folder."""
    return f"{recipe.name}.seed{recipe.seed}"


# Convolutions as products of matrices, and depthwise ones as sums of their taps


def conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    """Does what `keras.ops.conv` does for two dimensions, channels last, one group."""
    taps = _taps(inputs, kernel.shape[:2], strides, padding, data_format, dilation_rate)
    patches = taps[0] if len(taps) == 1 else jnp.concatenate(taps, -1)
    kernel = backend.convert_to_tensor(kernel)
    return patches @ kernel.reshape(patches.shape[-1], -1).astype(patches.dtype)


def depthwise_conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    """Does what `keras.ops.depthwise_conv` does for a multiplier of one."""
    taps = _taps(inputs, kernel.shape[:2], strides, padding, data_format, dilation_rate)
    kernel = backend.convert_to_tensor(kernel)
    kernels = kernel.reshape(len(taps), inputs.shape[-1]).astype("float32")
    total = sum(tap.astype("float32") * row for tap, row in zip(taps, kernels))
    return total.astype(inputs.dtype)


def _taps(inputs, size, strides, padding, data_format, dilation_rate):
    """Returns what each place of a kernel sees, as a list of images."""
    if data_format != "channels_last" or np.any(np.array(dilation_rate) != 1):
        raise ValueError("These networks are channels last, and not dilated.")
    steps = np.broadcast_to(strides, 2)
    extents = np.array(inputs.shape[1:3])
    if padding == "same":
        counts = -(-extents // steps)
        missing = np.maximum((counts - 1) * steps + size - extents, 0)
        before = missing // 2
        border = [(0, 0), *zip(before, missing - before), (0, 0)]
        inputs = jnp.pad(inputs, [(int(a), int(b)) for a, b in border])
    else:
        counts = (extents - size) // steps + 1
    rows, columns = (int(n) for n in (counts - 1) * steps + 1)
    return [
        inputs[:, i : i + rows : steps[0], j : j + columns : steps[1]]
        for i, j in itertools.product(*map(range, size))
    ]


# Images


def choice(recipe, order, epoch, index):
    """Returns what decides a batch, in the order in which `augment` draws it."""
    rows = order[index * recipe.batch_size :][: recipe.batch_size]
    random = np.random.default_rng((data._AUGMENTATION, recipe.seed, epoch, index))
    count, reach = len(rows), 2 * recipe.crop_padding + 1
    made = {"rows": rows.astype("int32")}
    if recipe.augmentation != "none":
        made["mirrored"] = random.random(count) < 0.5
    if recipe.augmentation == "flip_crop":
        made["corners"] = random.integers(0, reach, (2, count)).T.astype("int32")
    return made


def batch(images, labels, padding, chosen):
    """Returns the images and labels of a batch, as `TrainingBatches` does."""
    x = images[chosen["rows"]]
    if "mirrored" in chosen:
        x = jnp.where(chosen["mirrored"][:, None, None, None], x[:, :, ::-1], x)
    if "corners" in chosen:
        size = x.shape[1:]
        border = ((0, 0), (padding, padding), (padding, padding), (0, 0))

        def window(image, corner):
            return jax.lax.dynamic_slice(image, (*corner, 0), size)

        x = jax.vmap(window)(jnp.pad(x, border), chosen["corners"])
    return x.astype("float32"), labels[chosen["rows"]]


# Training


class Together:
    """Trains networks that share a program.

    Args:
        group: List of recipes, see `parse`.
        dataset: A `keras_shift.training.Data`.
        output: Path of the folder that holds the trainings' folders.
    """

    def __init__(self, group, dataset, output):
        self.group = group
        self.dataset = dataset
        self.first = group[0]
        self.steps = self.first.steps_per_epoch(dataset.train_count)
        self.epochs = self.first.epochs_of(dataset.train_count)
        self.folders = [Path(output) / folder_of(recipe) for recipe in group]
        self.state = self._states()
        self.params = {"epochs": self.epochs, "steps": self.steps}
        self.logs = [self._log(*pair) for pair in zip(self.folders, group)]
        self.sparsify = self._sparsifying()
        # Displacements among the trainable variables.
        self.displacements = [
            index
            for index, variable in enumerate(self.model.trainable_variables)
            if variable.name == "displacements"
        ]

    def _states(self):
        """Makes the model, and what all of them begin with."""
        beginnings = []
        for recipe in self.group:
            model = recipes.build(recipe, classifier_activation=None)
            beginnings.append([v.numpy() for v in self._weights(model)])
        self.model = model
        trainer.compile_model(model, self.first, self.epochs * self.steps)
        size = model.input_shape[1:]
        x = jnp.zeros((self.first.batch_size, *size))
        # Makes the optimizer's variables and those of metrics.
        model._symbolic_build(data_batch=(x, jnp.zeros(len(x), "int32")))
        stacked = [jnp.stack(values) for values in zip(*beginnings)]
        count = len(model.trainable_variables)
        others = [model.optimizer.variables, model.metrics_variables]
        return (
            stacked[:count],
            stacked[count:],
            *(
                [jnp.stack([v.value] * len(self.group)) for v in variables]
                for variables in others
            ),
        )

    def _weights(self, model):
        return [*model.trainable_variables, *model.non_trainable_variables]

    def _log(self, folder, recipe):
        folder.mkdir(parents=True, exist_ok=True)
        trainer._write_origin(folder, recipe, begins=True)
        log = Log(folder, checkpoint.Progress(0, [], recipe.to_json()))
        log.set_model(self.model)
        log.set_params(self.params)
        return log

    def _sparsifying(self):
        """Returns a `SparsifyShifts` for each recipe. They share what is compiled."""
        if self.first.unshifted is None:
            return []
        made = training.SparsifyShifts(
            *self.dataset.training_examples(trainer._JUDGED_IMAGES),
            unshifted=self.first.unshifted,
            begin=self.first.freeze_shifts or 0.0,
        )
        made.set_model(self.model)
        made.set_params(self.params)
        made.on_train_begin()
        found = []
        for recipe in self.group:
            found.append(copy.copy(made))
            found[-1].unshifted = recipe.unshifted
            found[-1].layer_cost = recipe.layer_cost
        return found

    def run(self):
        """Trains from the beginning to the end."""
        images = jax.device_put(self.dataset.train_images)
        labels = jax.device_put(self.dataset.train_labels)
        held_out = jax.device_put(self.dataset.held_out_images)
        held_out_labels = jax.device_put(self.dataset.held_out_labels)
        freezes = self.first.freeze_shifts is not None or bool(self.sparsify)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            steps = [self._compiled(pool, images, labels, frozen=False)]
            validation = self._validation(pool, held_out, held_out_labels)
            if freezes:
                steps.append(self._compiled(pool, images, labels, frozen=True))
            self.model.optimizer.frozen = False
            for epoch in range(self.epochs):
                self._epoch(epoch, images, labels, steps, validation)
        for index, folder in enumerate(self.folders):
            self.load(index)
            with replacing(folder / trainer.WEIGHTS) as temporary:
                # Without the optimizer's momentum.
                self.model.optimizer, optimizer = None, self.model.optimizer
                trainer.save_weights(temporary, self.model)
                self.model.optimizer = optimizer

    def _compiled(self, pool, images, labels, frozen):
        """Begins to compile a step of training, and returns what will hold it."""
        model, padding = self.model, self.first.crop_padding

        def step(state, images, labels, chosen):
            def one(state, chosen):
                return model.train_step(state, batch(images, labels, padding, chosen))

            return jax.vmap(one)(state, chosen)

        model.optimizer.frozen = frozen
        example = self._choices(self._orders(0), 0, 0)
        with as_products():
            lowered = jax.jit(step, donate_argnums=0).lower(
                self.state, images, labels, example
            )
        return pool.submit(lowered.compile)

    def _validation(self, pool, images, labels):
        """Returns a function of the state that evaluates all networks."""
        size = min(_VALIDATION_BATCH, len(images))
        starts = range(0, len(images), size)
        if len(images) % size:
            raise ValueError(
                f"The number of held-out images must be a multiple of {size}. "
                f"Received: {len(images)}"
            )

        def step(state, images, labels, start):
            x = jax.lax.dynamic_slice_in_dim(images, start, size).astype("float32")
            y = jax.lax.dynamic_slice_in_dim(labels, start, size)
            return jax.vmap(lambda state: self.model.test_step(state, (x, y)))(state)

        trained, others, _, metrics = self.state
        with as_products():
            lowered = jax.jit(step).lower((trained, others, metrics), images, labels, 0)
        program = pool.submit(lowered.compile)

        def validate(state):
            trained, others, _, metrics = state
            state = trained, others, [jnp.zeros_like(value) for value in metrics]
            for start in starts:
                logs, state = program.result()(state, images, labels, start)
            return logs

        return validate

    def _epoch(self, epoch, images, labels, steps, validation):
        for log in self.logs:
            log.on_epoch_begin(epoch)
        for callback in self.sparsify:
            callback.on_epoch_begin(epoch)
        self._freeze(epoch)
        orders = self._orders(epoch)
        self.state = (*self.state[:3], [jnp.zeros_like(v) for v in self.state[3]])
        moments = set(self.sparsify[0]._moments) if self.sparsify else ()
        for index in range(self.steps):
            if epoch * self.steps + index in moments:
                self._change(lambda i: self.sparsify[i].on_train_batch_begin(index))
            step = steps[self.model.optimizer.frozen].result()
            chosen = self._choices(orders, epoch, index)
            logs, self.state = step(self.state, images, labels, chosen)
        logs |= {f"val_{key}": value for key, value in validation(self.state).items()}
        logs = {key: np.asarray(logs[key], "float64") for key in sorted(logs)}
        sparsity = callbacks.ShiftSparsityLogger()
        sparsity.set_model(self.model)
        for index, log in enumerate(self.logs):
            if not np.isfinite(logs["loss"][index]):
                raise FloatingPointError(f"{log.directory}: the loss became infinite")
            self.load(index)
            row = {key: value[index] for key, value in logs.items()}
            sparsity.on_epoch_end(epoch, row)
            log.on_epoch_end(epoch, row)
            text = ", ".join(f"{key} {value:.4f}" for key, value in row.items())
            print(f"{log.directory.name}: epoch {epoch + 1}, {text}", flush=True)

    def _orders(self, epoch):
        return [
            np.random.default_rng((data._ORDER, recipe.seed, epoch)).permutation(
                self.dataset.train_count
            )
            for recipe in self.group
        ]

    def _choices(self, orders, epoch, index):
        chosen = [
            choice(recipe, order, epoch, index)
            for recipe, order in zip(self.group, orders)
        ]
        return {key: np.stack([one[key] for one in chosen]) for key in chosen[0]}

    def _freeze(self, epoch):
        """Does what `keras_shift.callbacks.FreezeShifts` does."""
        share = self.first.freeze_shifts
        if share is None or self.sparsify or epoch != round(share * self.epochs):
            return
        self.model.optimizer.frozen = True

        def freeze(_):
            for layer in self.model.layers:
                if isinstance(layer, SparseShift2D):
                    pattern = layer.whole_displacements()
                    if np.mean(pattern.any(axis=0)) < self.first.least_shifted:
                        pattern[:] = 0.0
                    layer.displacements.assign(pattern)

        self._change(freeze)

    def _change(self, change):
        """Lets a function change the displacements of each network."""
        trained = list(self.state[0])
        for index in range(len(self.group)):
            self.load(index)
            change(index)
            for place in self.displacements:
                value = self.model.trainable_variables[place].value
                trained[place] = trained[place].at[index].set(value)
        self.state = (trained, *self.state[1:])

    def load(self, index):
        """Gives the model the weights of one network."""
        trained, others, optimizer, _ = self.state
        variables = [*self._weights(self.model), *self.model.optimizer.variables]
        for variable, values in zip(variables, [*trained, *others, *optimizer]):
            variable.assign(values[index])


class Log(trainer.Recorder):
    """Writes the log of every epoch, and no checkpoints."""

    def save(self):
        pass


@contextlib.contextmanager
def as_products():
    """Replaces Keras' convolutions while a program is made."""
    with mock.patch.object(backend.nn, "conv", conv):
        with mock.patch.object(backend.nn, "depthwise_conv", depthwise_conv):
            yield


def main(arguments=None):
    """Trains what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("group", help="RECIPE[+RECIPE...][:SEED[,SEED...]]")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    options = parser.parse_args(arguments)
    group = parse(options.group)
    if options.epochs is not None:
        changes = {"epochs": options.epochs, "steps": None}
        group = [dataclasses.replace(recipe, **changes) for recipe in group]
    keras.config.set_dtype_policy("float32")
    size = recipes.build(group[0]).input_shape[1:3]
    dataset = training.load_data(group[0].dataset, size, options.data_dir)
    Together(group, dataset, options.output).run()
    print(json.dumps(environment()["device"]))


if __name__ == "__main__":
    main()
