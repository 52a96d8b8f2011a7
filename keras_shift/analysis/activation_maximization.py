"""Which images a classifier likes best."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_shift.analysis import keras_vis
from keras_shift.integers import positive_integer

# Seed images are of one grey with noise of this range of pixel values.
_GREY = 128
_SEED_NOISE = 32

# Between two steps the image moves by up to this share of its width, and turns by up to
# this many degrees. So a class must be seen wherever it is.
_JITTER = 1 / 16
_TURN = 4

# The learning rate is in pixel values. At every step, the mean of the gradients'
# squares keeps this share of what it was.
_STEP = 4.0
_MEMORY = 0.99


def maximize_activation(
    model: keras.Model,
    classes: Sequence[int],
    *,
    steps: int = 96,
    smoothness: float = 0.02,
) -> np.ndarray:
    """Searches for the images in which a classifier sees its classes best.

    It begins with grey noise and goes along the gradient of a class' logit. Between
    steps it moves and turns the image a little, and it keeps neighbouring pixels alike.
    Computed by tf-keras-vis, which `pip install "keras-shift[explain]"` installs.

    Example:

    >>> model = keras_shift.zoo.FENet((64, 64, 3), alpha=0.25, classes=10)
    >>> keras_shift.analysis.maximize_activation(model, [3, 5], steps=2).shape
    (2, 64, 64, 3)

    Args:
        model: A functional or sequential `keras.Model`, a classifier of colour images
            of a known size with pixel values in [0, 255], without models inside of it,
            which ends in a layer. TensorFlow must be Keras' backend.
        classes: List of indices of classes.
        steps: Int, number of steps along the gradient. Defaults to 96.
        smoothness: Float, weight of the total variation of an image: in logits, for
            each pixel value of the mean difference of vertical neighbours and of that
            of horizontal ones. Defaults to 0.02.

    Returns:
        A float32 array of an image for each class, `(count, height, width, 3)`, with
        values in [0, 255]. It is the same in every call.

    Raises:
        ImportError: If tf-keras-vis is not installed.
        ValueError: If an argument is none of the above.

    References:

    - [Deep Inside Convolutional Networks](https://arxiv.org/abs/1312.6034), section 2
    """
    keras_vis.check_classifier(model)
    keras_vis.check_classes(classes, model, "classes")
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise ValueError(
            "Argument `model` must take images of a known size. "
            f"Received: {model.name}, of images of shape {shape}"
        )
    if not len(classes):
        raise ValueError(
            f"Argument `classes` must not be empty. Received: classes={classes}"
        )
    steps = positive_integer("steps", steps)
    if not 0 <= smoothness < np.inf:
        raise ValueError(
            "Argument `smoothness` must be zero or more. "
            f"Received: smoothness={smoothness}"
        )
    maximization = keras_vis.visualization("activation_maximization")
    modifiers = keras_vis.visualization("activation_maximization.input_modifiers")
    regularizers = keras_vis.visualization("activation_maximization.regularizers")
    random = np.random.default_rng(0)
    noise = random.uniform(-_SEED_NOISE, _SEED_NOISE, (len(classes), *shape))
    farthest = max(1, round(_JITTER * shape[1]))

    def move(images):
        by = random.integers(-farthest, farthest, 2, endpoint=True)
        return keras.ops.roll(images, tuple(map(int, by)), axis=(1, 2))

    turn = modifiers.Rotate2D(degree=_TURN)
    turn.random_generator = random
    images = maximization.ActivationMaximization(keras_vis.with_logits(model))(
        keras_vis.logits_of(classes),
        seed_input=(_GREY + noise).astype("float32"),
        input_range=(0.0, 255.0),
        input_modifiers=[move, turn],
        regularizers=[regularizers.TotalVariation2D(weight=smoothness)],
        steps=int(steps),
        optimizer=keras.optimizers.RMSprop(_STEP, rho=_MEMORY),
    )
    return keras.ops.convert_to_numpy(images)
