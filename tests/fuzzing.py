"""What random input may do to the package: the targets that hypothesis feeds.

tests/test_fuzzing.py shows each some examples, and tools/fuzz.py many.
"""

import functools
import inspect
import json
import math
import tempfile
from pathlib import Path

import keras
import numpy as np
from hypothesis import strategies as st

from keras_shift import deploy, layers, zoo
from keras_shift.recipe import Recipe
from keras_shift.zoo import recipes
from keras_shift.zoo.record import Record
from networks import pixels, predict, randomize

# Arguments of constructors. Those that are right make networks that are built fast.

_JUNK = st.sampled_from(
    [None, True, -1, 0, 1, 2, 3, 0.5, -0.5, math.nan, math.inf, 2**70]
    + ["", "x", "avg", (), (1, 2), (3, 3, 3, 3), [2], {}, {"a": 1}, b"x", object()]
)
_OFTEN_RIGHT = {
    "input_shape": [(8, 8, 3), (16, 9, 1), (None, None, 3), [8, 8, 3], (1, 1, 2)],
    "alpha": [0.125, 0.25, 0.3, 1],
    "include_top": [True, False],
    "pooling": [None, "avg", "max"],
    "classes": [1, 2, 10, np.int64(3)],
    "classifier_activation": [None, "softmax", "sigmoid"],
    "name": [None, "name"],
    "output_stride": [32, 16, 8, 4],
    "features": [(4, 8), (32,), None],
    "squeeze_excite": [None, "v1", "v2"],
    "expansion": [1, 2, 6],
    "max_displacement": [None, 1, 2],
}
# What is to be drawn by others, or reads files.
_NOT_DRAWN = {"input_tensor", "weights"}


@st.composite
def constructor_calls(draw):
    """The name of a network, and arguments for its constructor."""
    name = draw(st.sampled_from(zoo.list_models()))
    constructor = getattr(zoo, zoo.models.constructor_name(name))
    names = sorted(set(inspect.signature(constructor).parameters) - _NOT_DRAWN)
    arguments = {"input_shape": (8, 8, 3), "alpha": 0.125}
    for argument in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
        right = _OFTEN_RIGHT.get(argument, [True, False])
        arguments[argument] = draw(st.sampled_from(right) | _JUNK)
    return name, {key: arguments[key] for key in arguments if key in names}


def check_constructor(call):
    """Arguments make a network, or an error that names one of them."""
    name, arguments = call
    keras.utils.clear_session(free_memory=False)
    try:
        model = zoo.get_model(name, **arguments)
    except ValueError as error:
        assert any(argument in str(error) for argument in arguments), error
    else:
        assert isinstance(model, keras.Model)


# Records of weights, and recipes, as text.

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0" * 64, "a" * 40, 1e400, -1, 10**400]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw, texts):
    """A text of JSON of which fields, or a few characters, are others."""
    text = draw(st.sampled_from(texts))
    if draw(st.booleans()):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 30)))
        return text[:begin] + draw(st.text(max_size=5)) + text[end:]
    value = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while True:
            key = draw(st.sampled_from(sorted(place)))
            inner = place[key]
            if not isinstance(inner, dict) or not inner or draw(st.booleans()):
                break
            place = inner
        if draw(st.integers(0, 5)):
            place[key] = draw(_JSON)
        elif place is not value or len(place) > 1:
            del place[key]
        if not value:
            break
    return json.dumps(value)


def check_json(kind, text):
    """A text is refused, or makes what its own text makes again."""
    try:
        made = kind.from_json(text)
    except ValueError:
        return
    again = kind.from_json(made.to_json())
    # NaN is not equal to itself.
    assert again == made or "NaN" in made.to_json()


# Models.


@st.composite
def model_plans(draw):
    """The size of images, and the parts of a model for them."""
    size = draw(st.tuples(*[st.integers(1, 14)] * 2))
    channels = draw(st.integers(1, 9))
    part = st.tuples(
        st.sampled_from(["unit", "unit", "residual unit", "shift", "convolution"])
        | st.sampled_from(["pool", "depthwise", "concatenate"]),
        st.sampled_from(["sparse", "grouped", "active"]),
        st.integers(1, 80),
        st.integers(1, 2),
        st.booleans(),
        st.booleans(),
    )
    return size, channels, draw(st.lists(part, min_size=1, max_size=4))


_SHIFTS = {
    "sparse": layers.SparseShift2D,
    "grouped": layers.GroupedShift2D,
    "active": layers.ActiveShift2D,
}


def build(plan):
    """Returns the model of a plan."""
    size, channels, parts = plan
    keras.utils.set_random_seed(0)
    images = x = keras.Input((*size, channels))
    for kind, shift, width, strides, normalized, relu in parts:
        x = _PARTS[kind](x, shift, width, strides, normalized, relu)
    return randomize(keras.Model(images, x), off=0, reach=2.6)


def _convolution(x, shift, width, strides, normalized, relu):
    x = keras.layers.Conv2D(width, 1, strides, "same", use_bias=not normalized)(x)
    if normalized:
        x = keras.layers.BatchNormalization()(x)
    return keras.layers.ReLU()(x) if relu else x


def _unit(x, shift, width, strides, normalized, relu, filters=7):
    x = _convolution(x, shift, width, 1, normalized, True)
    x = _SHIFTS[shift]()(x)
    return _convolution(x, shift, filters, strides, normalized, relu)


def _residual_unit(x, shift, width, strides, normalized, relu):
    y = _unit(x, shift, width, 1, normalized, relu, filters=x.shape[-1])
    return keras.layers.Add()([x, y])


_PARTS = {
    "unit": _unit,
    "residual unit": _residual_unit,
    "convolution": _convolution,
    "shift": lambda x, shift, *_: _SHIFTS[shift]()(x),
    "pool": lambda x, *_: keras.layers.AveragePooling2D(2, padding="same")(x),
    "depthwise": lambda x, *_: keras.layers.DepthwiseConv2D(3, padding="same")(x),
    "concatenate": lambda x, *options: keras.layers.Concatenate()(
        [x, _residual_unit(x, *options)]
    ),
}


def check_model(plan):
    """A model, what `fuse` makes of it and its file answer the same."""
    keras.utils.clear_session(free_memory=False)
    model = build(plan)
    images = pixels(2, *model.input_shape[1:])
    expected = predict(model, images)
    _assert_same(predict(deploy.fuse(model), images), expected)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        deploy.to_tflite(model, path, representative_data=images)
        _assert_same(deploy.LiteRTModel(path).predict(images), expected)


def _assert_same(outputs, expected):
    assert outputs.shape == expected.shape
    bound = 1e-4 * max(np.abs(expected).max(initial=0), 1)
    assert np.abs(outputs - expected).max(initial=0) <= bound


def _texts(read, names):
    return [read(name).to_json() for name in names]


RECORDS = _texts(zoo.get_record, zoo.list_weights())
RECIPES = _texts(recipes.get_recipe, recipes.list_recipes())

# What is fed with what.
TARGETS = {
    "constructors": (check_constructor, constructor_calls()),
    "records": (functools.partial(check_json, Record), damaged(RECORDS)),
    "recipes": (functools.partial(check_json, Recipe), damaged(RECIPES)),
    "models": (check_model, model_plans()),
}
