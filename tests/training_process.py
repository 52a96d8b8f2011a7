"""One process of a training, which tests start: a tiny network on made-up images.

    python tests/training_process.py FOLDER [--resume] [--die-in-step N]

It dies as if it were killed, in step N of its whole training, if it is the process that
DIES names. On TensorFlow, LOGICAL_CPUS makes so many of the processor.
"""

import os
import sys

import keras
import numpy as np

import keras_shift
from keras_shift.training import distribution

RECIPE = keras_shift.training.Recipe(
    name="tiny",
    network="none",
    dataset="none",
    augmentation="flip_crop",
    crop_padding=1,
    batch_size=8,
    epochs=3,
    learning_rate=0.2,
    schedule="cosine",
    displacement_gradient_factor=10,
    freeze_shifts=0.5,
    # One that is not a multiple of anything.
    seed=7,
)


def data():
    random = np.random.default_rng(0)
    labels = np.arange(40, dtype="int32") % 3
    images = random.integers(0, 200, (40, 8, 8, 3)) + 25 * labels[:, None, None, None]
    images = images.astype("uint8")
    return keras_shift.training.Data(
        "tiny", images, labels, images[:15], labels[:15], ["a", "b", "c"]
    )


def network(batch_normalization=True, classes=3):
    keras.utils.set_random_seed(RECIPE.seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    # A bias in front of batch normalization has no effect, and would be only what
    # rounding leaves of its gradients.
    x = keras.layers.Conv2D(6, 1, use_bias=not batch_normalization)(x)
    if batch_normalization:
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    start = keras.initializers.RandomUniform(-1, 2)
    x = keras_shift.layers.SparseShift2D(displacement_initializer=start)(x)
    x = keras.layers.Conv2D(6, 1)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


class Die(keras.callbacks.Callback):
    """Ends the process without a word."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            os._exit(9)


def main(folder, *options):
    if "LOGICAL_CPUS" in os.environ:
        import tensorflow as tf

        cpus = [tf.config.LogicalDeviceConfiguration()] * int(
            os.environ["LOGICAL_CPUS"]
        )
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, cpus)
    with distribution.scope():
        callbacks = []
        if os.environ.get("DIES") == os.environ.get(distribution.PROCESS, "0"):
            callbacks.append(Die(int(options[options.index("--die-in-step") + 1])))
        keras_shift.training.train(
            # MirroredStrategy's replicas have statistics of their own.
            network(batch_normalization="LOGICAL_CPUS" not in os.environ),
            RECIPE,
            data(),
            folder,
            resume="--resume" in options,
            callbacks=callbacks,
            verbose=0,
        )
        print("division:", distribution.division())


if __name__ == "__main__":
    with distribution.fail_fast():
        main(*sys.argv[1:])
