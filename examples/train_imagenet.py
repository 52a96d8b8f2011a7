"""Trains a network on ImageNet, on all devices, and on more than one machine.

    python examples/train_imagenet.py --output run
    python examples/train_imagenet.py --output run --resume

The images are TensorFlow Datasets' imagenet2012 (which says where to put the files that
only ImageNet gives away), or the folders `train` and `validation` with a folder of
images for each class in `--data-dir`/imagenet2012; TensorFlow reads them, on every
backend. `--recipe` names another recipe, see `keras_shift.zoo.recipes.list_recipes()`.

On TensorFlow, all GPUs of one machine train, by `tf.distribute.MirroredStrategy`. On
JAX (KERAS_BACKEND=jax), all devices of all processes do, and it does not matter whether
those run on one machine or on many. Start the same command once for each process,

    export KERAS_BACKEND=jax
    export KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:1234  # process 0, a free port
    export KERAS_DISTRIBUTION_NUM_PROCESSES=2
    export KERAS_DISTRIBUTION_PROCESS_ID=0  # and 1 on the other machine
    python examples/train_imagenet.py --output /shared/run --resume

where `--output` is a folder that all of them see, and the recipe's batch a multiple of
the number of devices. Process 0 writes it. If one process ends early, all others end
with an error, within seconds or, if its machine vanished, after JAX has missed it for
100 seconds; the same command then goes on from the last whole epoch.
"""

import argparse
import dataclasses

import quiet_start  # noqa: F401  # isort: skip

import keras_shift
from keras_shift.training import distribution
from keras_shift.zoo import recipes


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="imagenet2012.fenet_1.0")
    parser.add_argument("--data-dir", help="default: that of TensorFlow Datasets")
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument("--resume", action="store_true", help="go on, if there is one")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--image-size", type=int, help="instead of the recipe's")
    parser.add_argument("--alpha", type=float, help="width, instead of the recipe's")
    return parser.parse_args(arguments)


def changed(recipe, options):
    """Returns the recipe, with what the command line has instead."""
    changes = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if options.epochs is not None:
        changes["steps"] = None
    arguments = dict(recipe.arguments)
    if options.image_size is not None:
        arguments["input_shape"] = (options.image_size, options.image_size, 3)
    if options.alpha is not None:
        arguments["alpha"] = options.alpha
    return dataclasses.replace(recipe, arguments=arguments, **changes)


def main(options):
    recipe = changed(recipes.get_recipe(options.recipe), options)
    with distribution.scope():
        model = recipes.build(recipe)
        data = keras_shift.training.load_data(
            recipe.dataset,
            model.input_shape[1:3],
            options.data_dir,
            augmentation=recipe.augmentation,
        )
        return keras_shift.training.train(
            model, recipe, data, options.output, resume=options.resume
        )


if __name__ == "__main__":
    with distribution.fail_fast():
        main(parse())
