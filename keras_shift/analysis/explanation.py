"""What a classifier looks at: Grad-CAM++ and saliency maps."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_shift.analysis import drawing, keras_vis
from keras_shift.integers import positive_integer

_BATCH_SIZE = 4

# SmoothGrad's noise has this share of the range of pixel values as its standard
# deviation.
_NOISE = 0.1

# The longest name of a class or an image that fits above its panel.
_LONGEST = 24

# Few pixels have far larger gradients than all others, which would stay dark beside
# them. This share of the pixels is not at the bright end of the colours.
_NOT_BRIGHTEST = 0.995


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Holds what a network predicts for an image, and why it might say so of a class.

    Attributes:
        scores: Array of the network's outputs, `(classes,)`.
        class_index: Index of the class that the maps are about.
        grad_cam: Array of shape `(height, width)`, where the last map of features
            speaks for the class. Its largest value is 1, unless all are 0.
        saliency: Array of the same shape, how much the class depends on each pixel. Its
            largest value is 1, unless all are 0.
    """

    scores: np.ndarray
    class_index: int
    grad_cam: np.ndarray
    saliency: np.ndarray


def explain(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | None = None,
    layer: str | None = None,
    *,
    noisy_copies: int = 25,
) -> Iterator[Explanation]:
    """Explains a classifier's decisions by Grad-CAM++ and saliency maps.

    Grad-CAM++ shows where the last map of features, in front of the global pooling,
    speaks for a class. Saliency shows which pixels the class depends on: the gradient
    of its logit, averaged over noisy copies of the image (SmoothGrad). Both are
    computed by tf-keras-vis, which `pip install "keras-shift[explain]"` installs.

    Example:

    >>> model = keras_shift.zoo.FENet((64, 64, 3), alpha=0.25, classes=10)
    >>> images = np.random.uniform(0, 255, (1, 64, 64, 3))
    >>> explanation = next(keras_shift.analysis.explain(model, images))
    >>> explanation.grad_cam.shape
    (64, 64)

    Args:
        model: A functional or sequential `keras.Model`, a classifier of colour images,
            without models inside of it, which ends in a layer. TensorFlow must be
            Keras' backend.
        images: Array of images, `(count, height, width, 3)`, in the range of pixel
            values that the model expects.
        class_index: Int, the class to explain, or `None` for each image's predicted
            one. Defaults to `None`.
        layer: Name of the layer whose output Grad-CAM++ looks at, or `None` for the
            last one with height and width. Defaults to `None`.
        noisy_copies: Int, number of noisy copies of each image. Defaults to 25.

    Returns:
        An iterator over an `Explanation` of each image, in their order. It computes a
        few at a time. They are the same in every call.

    Raises:
        ImportError: If tf-keras-vis is not installed.
        ValueError: If an argument is none of the above.

    References:

    - [Grad-CAM++](https://arxiv.org/abs/1710.11063)
    - [SmoothGrad](https://arxiv.org/abs/1706.03825)
    """
    keras_vis.check_classifier(model)
    shape = tuple(model.inputs[0].shape[1:])
    images = np.asarray(images, "float32")
    if images.ndim != 4 or any(
        size not in (None, own) for size, own in zip(shape, images.shape[1:])
    ):
        raise ValueError(
            f"Argument `images` must be of shape (count, *{shape}). "
            f"Received: images of shape {images.shape}"
        )
    if class_index is not None:
        keras_vis.check_classes([class_index], model, "class_index")
    noisy_copies = positive_integer("noisy_copies", noisy_copies)
    grad_cam = keras_vis.visualization("gradcam_plus_plus").GradcamPlusPlus
    saliency = keras_vis.visualization("saliency").Saliency
    # Without a list or a dict around its input, the model takes an array.
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    layer = keras_vis.layer_with_map(model, layer)
    logits_model = keras_vis.with_logits(model)
    return _explanations(
        model,
        grad_cam(logits_model),
        saliency(logits_model),
        images,
        class_index,
        layer,
        int(noisy_copies),
    )


def _explanations(model, grad_cam, saliency, images, class_index, layer, noisy_copies):
    for start in range(0, len(images), _BATCH_SIZE):
        batch = images[start : start + _BATCH_SIZE]
        scores = _array(model(batch, training=False))
        classes = scores.argmax(-1)
        if class_index is not None:
            classes = np.full(len(batch), class_index)
        maps = grad_cam(
            _gradients_only(classes),
            batch,
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
            # It would stretch the map from corner to corner. A pixel of the map stands
            # for a square of the image, though.
            expand_cam=False,
            normalize_cam=False,
        )
        maps = keras.ops.cast(maps, "float32")[..., np.newaxis]
        maps = _array(keras.ops.image.resize(maps, batch.shape[1:3], "bilinear"))
        with _same_noise():
            gradients = saliency(
                _gradients_only(classes),
                batch,
                smooth_samples=noisy_copies,
                smooth_noise=_NOISE,
                normalize_map=False,
            )
        for row in zip(scores, classes, maps[..., 0], gradients):
            yield Explanation(row[0], int(row[1]), _to_one(row[2]), _to_one(row[3]))


@contextlib.contextmanager
def _same_noise():
    """Seeds NumPy's global generator, which tf-keras-vis takes, and restores it."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _gradients_only(classes):
    """Returns a score with the gradients of the classes' logits, and the value zero.

    Grad-CAM++ multiplies its map by exp(score), which a large logit makes infinite,
    and a small one zero. With a score of zero the factor is 1, and maps are scaled to
    their largest value anyhow.
    """
    score = keras_vis.logits_of(classes)

    def gradients_only(logits):
        return score(logits) - keras.ops.stop_gradient(score(logits))

    return gradients_only


def _array(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def _to_one(image_map):
    return image_map / max(image_map.max(), np.finfo(np.float32).tiny)


def plot_explanations(
    images: np.ndarray,
    explanations: Sequence[Explanation],
    titles: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draws a row for each image: itself, Grad-CAM++ on it, and its saliency map.

    Example:

    >>> explanations = list(keras_shift.analysis.explain(model, images[:2]))
    >>> axes = keras_shift.analysis.plot_explanations(images[:2], explanations)
    >>> axes.shape
    (2, 3)

    Args:
        images: Array of images, `(count, height, width, 3)`, with values in [0, 255].
        explanations: An `Explanation` of each.
        titles: Name of each image, or `None` for no names. Defaults to `None`.
        class_names: Name of each class of the network, or `None` for their indices.
            Defaults to `None`.

    Returns:
        An array of Matplotlib axes, `(count, 3)`, in a new figure.

    Raises:
        ImportError: If Matplotlib is not installed.
        ValueError: If the arguments are not of one length, or an image or a class has
            no name or another shape.
    """
    lengths = {len(images), len(explanations)}
    if titles is not None:
        lengths.add(len(titles))
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "Arguments `images`, `explanations` and `titles` must have one length, and "
            f"not zero. Received: lengths {sorted(lengths)}"
        )
    if any(np.ndim(image) != 3 or np.shape(image)[-1] != 3 for image in images):
        raise ValueError(
            "Argument `images` must hold images of shape (height, width, 3). "
            f"Received: shapes {sorted({np.shape(image) for image in images})}"
        )
    classes = len(explanations[0].scores)
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"Argument `class_names` must name each of {classes} classes. "
            f"Received: {len(class_names)} names"
        )
    height, width = images[0].shape[:2]
    side = 2.2
    figure, grid = drawing.pyplot().subplots(
        len(images),
        3,
        squeeze=False,
        figsize=(3 * side + 0.5, len(images) * (side * height / width + 0.3) + 0.5),
        layout="constrained",
    )
    for row, (axes, image, explanation) in enumerate(zip(grid, images, explanations)):
        _draw_row(axes, image / 255, explanation, class_names)
        if titles is not None:
            title = drawing.shorten(titles[row], _LONGEST)
            axes[0].set_ylabel(title, size=8, parse_math=False)
    figure.supxlabel(
        "Yellow to red on an image: what speaks most for the class. Bright: the pixels "
        "it depends on.\nEvery map is scaled to its own largest value.",
        size=7.5,
    )
    return grid


def _draw_row(axes, image, explanation, names):
    scores = explanation.scores
    predicted = scores.argmax()
    explained = _label(explanation.class_index, names)
    titles = [
        f"{_label(predicted, names)}: {_score_text(scores, predicted)}",
        f"Grad-CAM++ for {explained}",
        f"saliency for {explained}",
    ]
    for panel, title in zip(axes, titles):
        # Names may have dollar signs, which are no formulas here.
        panel.set_title(title, size=8.5, pad=3, parse_math=False)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_frame_on(False)
    axes[0].imshow(image)
    # The image is grey and faded, so that the only colours are the map's.
    axes[1].imshow(image.mean(-1), cmap="gray", vmin=-0.3, vmax=1.3)
    axes[1].imshow(
        explanation.grad_cam,
        cmap="turbo",
        vmin=0,
        vmax=1.1,  # Above it, turbo's red is dark.
        alpha=0.65 * explanation.grad_cam,
    )
    brightest = np.quantile(explanation.saliency, _NOT_BRIGHTEST)
    axes[2].imshow(explanation.saliency, cmap="inferno", vmin=0, vmax=brightest or 1)


def _label(index, names):
    return f"class {index}" if names is None else drawing.shorten(names[index], 20)


def _score_text(scores, index):
    """Returns a score, as a percentage if the network gives probabilities."""
    softmax = scores.min() >= 0 and abs(scores.sum() - 1) < 0.01
    sigmoid = len(scores) == 1 and 0 <= scores[0] <= 1
    return format(scores[index], ".0%" if softmax or sigmoid else ".2f")
