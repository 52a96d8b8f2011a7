"""Fused models compute what the models that they are made of do."""

import concurrent.futures

import keras
import numpy as np
import pytest

from keras_shift import dispatch
from keras_shift.deploy import find_units, fuse, fusing, to_tflite
from keras_shift.deploy.agreement import compare
from keras_shift.layers import (
    ActiveShift2D,
    FusedChain2D,
    FusedUnit2D,
    SliceChannels,
    SparseShift2D,
)
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import FENet, ShiftResNet20, blocks
from marks import exhaustive
from networks import pixels, predict, randomize, run_python
from unit_models import CASES, model_of, one_unit, unit_layers

# What is tested without the op, too: on other backends, and where it is disabled.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The fused model runs without:UserWarning"
)


def assert_same(outputs, expected, bound=1e-5):
    assert compare(outputs, expected).relative_difference < bound


def fused_units(model):
    units = []
    for layer in model.layers:
        if isinstance(layer, FusedUnit2D):
            units.append(layer)
        elif isinstance(layer, FusedChain2D):
            units += layer.units
    return units


def small_fenet(seed=0, **options):
    keras.utils.set_random_seed(seed)
    options = {"classifier_activation": None, "classes": 7, "alpha": 0.5, **options}
    return randomize(FENet((45, 70, 3), **options), seed, reach=2.6)


@pytest.fixture(params=["native", "keras.ops"])
def implementation(request, monkeypatch):
    """The compiled op, or `keras.ops` in its place."""
    if request.param == "native":
        if keras.backend.backend() != "tensorflow":
            pytest.skip("the op is TensorFlow's")
        assert dispatch.choose("float32").reason is None
    else:
        without_the_op(monkeypatch)
    return request.param


def without_the_op(monkeypatch):
    chosen = dispatch.Choice(None, "a test")
    monkeypatch.setattr(dispatch, "choose", lambda *_, **__: chosen)


@pytest.mark.parametrize("case", CASES)
def test_cases(case, implementation):
    model = model_of(case)
    fused = fuse(model)
    assert [type(layer) for layer in fused.layers[1:]] == [FusedUnit2D]
    images = pixels(3, *model.input_shape[1:]) / 255
    assert_same(predict(fused, images), predict(model, images))
    assert predict(fused, images[:0]).shape == (0, *model.output_shape[1:])


@pytest.mark.parametrize("case", CASES)
def test_cases_in_bfloat16(case, implementation):
    model = model_of(case)
    fused = fuse(model, precision="bfloat16")
    images = pixels(3, *model.input_shape[1:]) / 255
    expected = predict(model, images)
    # A bfloat16 has eight bits.
    assert_same(predict(fused, images), expected, 2**-6)
    assert not np.array_equal(predict(fused, images), expected)


@pytest.mark.parametrize(
    "options, fused, left",
    [
        ({}, 21, 0),
        exhaustive({"squeeze_excite": "v1"}, 21, 0),
        ({"squeeze_excite": "v2"}, 1, 16),
        ({"spatial": "active_shift"}, 5, 16),
        ({"spatial": "depthwise"}, 5, 0),
        exhaustive({"spatial": "none"}, 21, 0),
        exhaustive({"expand_from": "output"}, 21, 0),
        exhaustive({"output_stride": 8}, 21, 0),
    ],
    ids=str,
)
def test_variants_of_fenet(options, fused, left, monkeypatch):
    model = small_fenet(**options)
    made = fuse(model)
    assert len(fused_units(made)) == fused
    assert len(find_units(model).left_alone) == left
    # Those become depthwise convolutions.
    assert shift_layers(made) == []
    assert not any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in made.layers
    )
    images = pixels(2, *model.input_shape[1:])
    expected = predict(model, images)
    if keras.backend.backend() == "tensorflow":
        assert dispatch.choose("float32").reason is None
        assert_same(predict(made, images), expected)
    without_the_op(monkeypatch)
    assert_same(predict(made, images), expected)


def classifier_layers(**changes):
    """A classifier's layers by their roles, some of them changed or left out."""
    layers = {
        "head": keras.layers.Conv2D(37, 1, name="head"),
        "normalization": keras.layers.BatchNormalization(),
        "relu": keras.layers.ReLU(),
        "mean": keras.layers.GlobalAveragePooling2D(),
        "dropout": keras.layers.Dropout(0.5),
        "dense": keras.layers.Dense(19, "softmax", name="dense"),
        **changes,
    }
    return [layer for layer in layers.values() if layer is not None]


@pytest.mark.parametrize(
    "changes, fused",
    [
        ({}, True),
        ({"normalization": None, "dropout": None}, True),
        ({"dense": keras.layers.Dense(19, use_bias=False, name="dense")}, True),
        ({"relu": keras.layers.ReLU(6)}, False),
        ({"relu": None}, False),
        ({"head": keras.layers.Conv2D(37, 3, name="head")}, False),
        ({"head": keras.layers.Conv2D(37, 1, 2, name="head")}, False),
        ({"mean": keras.layers.GlobalMaxPooling2D()}, False),
        ({"mean": keras.layers.GlobalAveragePooling2D(keepdims=True)}, False),
    ],
    ids=str,
)
def test_classifiers(changes, fused, implementation):
    inputs = keras.Input((5, 6, 8))
    x = inputs
    for layer in classifier_layers(**changes):
        x = type(layer).from_config(layer.get_config())(x)
    model = randomize(keras.Model(inputs, x), 0)
    made = fuse(model)
    assert [layer.global_pool for layer in fused_units(made)] == [True] * fused
    assert made.layers[-1].name == "dense"
    images = pixels(3, 5, 6, 8) / 255
    assert_same(predict(made, images), predict(model, images))
    if fused:
        assert predict(made, images[:0]).shape == (0, 19)


def test_classifiers_whose_maps_are_used_elsewhere_remain():
    inputs = keras.Input((5, 6, 8))
    head, *others = classifier_layers()
    x = maps = head(inputs)
    for layer in others:
        x = layer(x)
    assert fused_units(fuse(keras.Model(inputs, [maps, x]))) == []


def test_channels_of_blocks_stay_in_place():
    model = small_fenet()
    blocks = find_units(model).write_backs
    assert [len(block.units) for block in blocks] == [2, 3, 3, 3, 2]
    kinds = [type(layer).__name__ for layer in fuse(model).layers]
    assert "SliceChannels" not in kinds and "Concatenate" not in kinds


def by_index(images, start, stop):
    return images[..., start:stop]


def by_layer(images, start, stop):
    return SliceChannels(start, stop)(images)


@pytest.mark.parametrize("take", [by_index, by_layer])
@pytest.mark.parametrize(
    "change", [None, "another use", "other order", "other channels"]
)
def test_a_block_and_what_only_looks_like_one(change, take):
    images = keras.Input((9, 7, 10))
    x = take(images, 0, 5)
    y = x
    for layer in unit_layers(filters=5).values():
        y = layer(y)
    rest = take(images, 5 if change != "other channels" else 4, 10)
    parts = [rest, y] if change == "other order" else [y, rest]
    outputs = [keras.layers.Concatenate()(parts)]
    if change == "another use":
        outputs.append(rest)
    model = randomize(keras.Model(images, outputs))
    assert len(find_units(model).write_backs) == (change is None)
    batch = pixels(2, 9, 7, 10) / 255
    for found, expected in zip(
        fuse(model).predict(batch, verbose=0), model.predict(batch, verbose=0)
    ):
        assert_same(found, expected)


def test_units_with_relu6_stay():
    """The op has no largest value. A block with such a unit keeps its channels' way."""
    images = keras.Input((9, 7, 10))
    y = by_layer(images, 0, 5)
    for layer in unit_layers(filters=5, expand_relu=keras.layers.ReLU(6)).values():
        y = layer(y)
    y = keras.layers.Concatenate()([y, by_layer(images, 5, 10)])
    for layer in unit_layers(filters=5).values():
        layer.name += "_last"
        y = layer(y)
    model = randomize(keras.Model(images, y))
    assert len(find_units(model).write_backs) == 1
    made = fuse(model)
    assert [layer.name for layer in fused_units(made)] == ["expand_last_fused"]
    batch = pixels(2, 9, 7, 10)
    assert_same(predict(made, batch), predict(model, batch))


def test_channels_taken_by_a_layer_that_is_called_twice():
    images = keras.Input((9, 7, 10))
    first = SliceChannels(0, 5)
    y = first(images)
    for layer in unit_layers(filters=5).values():
        y = layer(y)
    mixed = keras.layers.Concatenate()([y, by_layer(images, 5, 10)])
    again = first(keras.layers.ReLU()(images))
    model = randomize(keras.Model(images, [mixed, again]))
    assert find_units(model).write_backs == ()
    batch = pixels(2, 9, 7, 10) / 255
    for found, expected in zip(
        fuse(model).predict(batch, verbose=0), model.predict(batch, verbose=0)
    ):
        assert_same(found, expected)


def test_sc2_modules_and_nested_models():
    model = randomize(ShiftResNet20(module="sc2", classifier_activation=None))
    images = pixels(2, 32, 32, 3)
    nested = keras.Sequential([keras.Input((32, 32, 3)), model])
    made = fuse(nested)
    assert len(fused_units(made.layers[-1])) == 9
    assert_same(predict(made, images), predict(model, images))


def test_convolutions_are_folded():
    images = x = keras.Input((9, 8, 3))
    for layer in (
        keras.layers.Conv2D(6, 3, strides=2, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
        keras.layers.BatchNormalization(scale=False),
        keras.layers.Conv2D(8, 3, groups=4, dilation_rate=2, padding="same"),
        keras.layers.BatchNormalization(center=False),
        keras.layers.Conv2D(8, 1, activation="relu"),
        keras.layers.BatchNormalization(name="after_relu"),
    ):
        x = layer(x)
    model = randomize(keras.Model(images, x))
    made = fuse(model)
    assert [layer.name for layer in made.layers if "norm" in layer.name] == []
    assert made.get_layer("after_relu") is made.layers[-1]
    batch = pixels(2, 9, 8, 3) / 255
    assert_same(predict(made, batch), predict(model, batch))


def test_original_stays_as_it_is():
    model = one_unit()
    config, weights = model.get_config(), model.get_weights()
    fuse(model)
    assert model.get_config() == config
    for weight, before in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(weight, before)


def one_block(seed=0):
    """Three units that write into a part of the channels."""
    keras.utils.set_random_seed(seed)
    style = blocks.BlockStyle()
    images = keras.Input((45, 70, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = blocks.convolution(x, 8, 3, style, "stem", strides=2)
    x = blocks.fe_block(x, 16, 3, lambda c, f: 4 * c, style, "block", strides=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(7)(x))
    return randomize(model, seed, reach=2.6)


@pytest.fixture(scope="module")
def model():
    return one_block()


@pytest.fixture(scope="module")
def fused(model):
    return fuse(model)


@pytest.fixture(scope="module")
def images(model):
    return pixels(10, *model.input_shape[1:])


@pytest.fixture(scope="module")
def expected(model, images):
    return predict(model, images)


@pytest.fixture
def without_chains(monkeypatch):
    monkeypatch.setattr(fusing, "_chains", lambda model: [])


def chains_of(model):
    return [len(each.units) for each in model.layers if isinstance(each, FusedChain2D)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [one_block, small_fenet])
def test_chains_compute_what_their_units_do(
    make, precision, implementation, without_chains, monkeypatch
):
    model = make()
    apart = fuse(model, precision)
    monkeypatch.undo()
    if implementation == "keras.ops":
        without_the_op(monkeypatch)
    made = fuse(model, precision)
    assert chains_of(apart) == []
    assert chains_of(made) == [len(fused_units(apart))]
    for images in (
        pixels(1, *model.input_shape[1:]),
        pixels(9, *model.input_shape[1:]),
    ):
        np.testing.assert_array_equal(predict(made, images), predict(apart, images))


def test_chains_end_where_maps_are_used_elsewhere():
    images = x = keras.Input((9, 7, 5))
    maps = []
    for i in range(5):
        for layer in unit_layers().values():
            layer.name += f"_{i}"
            x = layer(x)
        maps.append(x)
    model = randomize(keras.Model(images, [maps[1], keras.layers.ReLU()(x)]))
    made = fuse(model)
    assert chains_of(made) == [2, 3]
    batch = pixels(2, 9, 7, 5) / 255
    for found, expected in zip(predict(made, batch), predict(model, batch)):
        assert_same(found, expected)


@pytest.mark.tensorflow
class TestUse:
    """As servers use it."""

    def test_predict_runs_the_op(self, fused, images, expected):
        import tensorflow as tf

        assert_same(fused.predict(images, batch_size=4, verbose=0), expected)
        graph = tf.function(fused).get_concrete_function(images).graph
        types = [operation.type for operation in graph.get_operations()]
        assert types.count("KerasShift>FusedChain2D") == 1

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_jit(self, fused, images, expected, jit_compile):
        import tensorflow as tf

        function = tf.function(fused, jit_compile=jit_compile)
        assert_same(function(images), expected)

    @pytest.mark.parametrize("precision", ["float32", exhaustive("bfloat16")])
    def test_keras_file_and_saved_model_in_a_fresh_process(
        self, precision, model, images, tmp_path
    ):
        fused = fuse(model, precision)
        expected = predict(fused, images)
        fused.save(tmp_path / "model.keras")
        fused.export(tmp_path / "saved_model", verbose=False)
        np.save(tmp_path / "images.npy", images)
        run_python(
            """
import sys
import keras, keras_shift, numpy as np, tensorflow as tf
keras_shift.custom_ops.load()
folder = sys.argv[1]
images = np.load(folder + "/images.npy")
model = keras.saving.load_model(folder + "/model.keras")
np.save(folder + "/keras.npy", model.predict(images, verbose=0))
loaded = tf.saved_model.load(folder + "/saved_model")
np.save(folder + "/saved_model.npy", loaded.serve(images))
""",
            tmp_path,
        )
        assert_same(np.load(tmp_path / "keras.npy"), expected)
        assert_same(np.load(tmp_path / "saved_model.npy"), expected)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_ten_threads_at_once(self, precision, model, images):
        """Bit for bit what one thread gets."""
        import tensorflow as tf

        function = tf.function(fuse(model, precision))
        one = [function(image[None]).numpy() for image in images]
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            for _ in range(3):
                at_once = pool.map(lambda image: function(image[None]).numpy(), images)
                for outputs, alone in zip(at_once, one):
                    np.testing.assert_array_equal(outputs, alone)

    def test_weights_of_another_fused_model(self, images, tmp_path):
        """Nothing is kept but the weights."""
        model, other = one_block(), one_block(seed=1)
        fused, fresh = fuse(model), fuse(other)
        before, expected = predict(fused, images), predict(fresh, images)
        assert not np.allclose(before, expected)
        fused.set_weights(fresh.get_weights())
        np.testing.assert_array_equal(predict(fused, images), expected)
        fused = fuse(model)
        np.testing.assert_array_equal(predict(fused, images), before)
        fresh.save_weights(tmp_path / "fused.weights.h5")
        fused.load_weights(tmp_path / "fused.weights.h5")
        np.testing.assert_array_equal(predict(fused, images), expected)

    @pytest.mark.parametrize(
        "isa", ["baseline", exhaustive("avx2"), exhaustive("avx512")]
    )
    def test_bfloat16_with_a_lesser_instruction_set(
        self, isa, model, images, tmp_path, monkeypatch
    ):
        fused = fuse(model, "bfloat16")
        fused.save(tmp_path / "model.keras")
        np.save(tmp_path / "images.npy", images)
        monkeypatch.setenv("KERAS_SHIFT_ISA", isa)
        run_python(
            """
import sys
import keras, keras_shift, numpy as np
folder = sys.argv[1]
model = keras.saving.load_model(folder + "/model.keras")
images = np.load(folder + "/images.npy")
np.save(folder + "/outputs.npy", model.predict(images, verbose=0))
""",
            tmp_path,
        )
        # Some numbers of the wide tensors are rounded the other way.
        expected = predict(fused, images)
        assert_same(np.load(tmp_path / "outputs.npy"), expected, 2**-9)

    def test_training_is_refused(self, fused, images):
        with pytest.raises(ValueError, match="(?s)for inference.*training=True"):
            fused(images, training=True)

    def test_phone_files_are_made_of_the_original(self, fused, tmp_path):
        with pytest.raises(ValueError, match="(?s)was made of.*FusedUnit2D"):
            to_tflite(fused, tmp_path / "model.tflite")

    def test_mixed_precision(self, images):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            fused = fuse(one_block())
        finally:
            keras.config.set_dtype_policy(before)
        assert {layer.compute_dtype for layer in fused.layers[1:]} == {"float32"}


def test_residual_around_a_unit_of_strides():
    """On a map of one pixel, and of unknown size, shapes are equal before and after."""
    images = x = keras.Input((1, 1, 5))
    for layer in unit_layers(project=keras.layers.Conv2D(5, 1, strides=2)).values():
        x = layer(x)
    model = randomize(keras.Model(images, keras.layers.Add()([images, x])))
    made = fuse(model)
    assert len(fused_units(made)) == 1
    batch = pixels(3, 1, 1, 5) / 255
    assert_same(predict(made, batch), predict(model, batch))


@pytest.mark.parametrize(
    "options",
    [
        {"shift": "pool"},
        {"project": keras.layers.Conv2D(5, 1, strides=2, name="project")},
    ],
    ids=["pool", "strides"],
)
def test_residual_on_maps_of_unknown_size(options):
    images = x = keras.Input((None, None, 5))
    for layer in unit_layers(**options).values():
        x = layer(x)
    model = randomize(keras.Model(images, keras.layers.Add()([images, x])))
    batch = pixels(3, 1, 1, 5) / 255
    assert_same(predict(fuse(model), batch), predict(model, batch))


@pytest.mark.parametrize("sizes", [(4, 12), (12, 4)])
@pytest.mark.parametrize("shift", [SparseShift2D, ActiveShift2D])
def test_shift_of_maps_of_two_sizes(sizes, shift):
    layer = shift()
    inputs = [keras.Input((size, size, 3)) for size in sizes]
    model = keras.Model(inputs, [layer(images) for images in inputs])
    layer.displacements.assign([[7.0, -6.5, 1], [0, 5, -8]])
    batches = [pixels(2, size, size, 3) for size in sizes]
    for found, expected in zip(fuse(model)(batches), model(batches)):
        np.testing.assert_allclose(found, expected, atol=1e-4)


class Doubled(SparseShift2D):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


class DoubledConvolution(keras.layers.Conv2D):
    def call(self, inputs):
        return 2 * super().call(inputs)


class DoubledNormalization(keras.layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class DoubledModel(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


def subclassed(part):
    layer = {
        "shift": lambda: Doubled(name="shift"),
        "expand": lambda: DoubledConvolution(12, 1, use_bias=False),
        "project": lambda: DoubledConvolution(5, 1, use_bias=False),
        "expand_bn": DoubledNormalization,
    }[part]()
    images = x = keras.Input((9, 7, 5))
    layers = {**unit_layers(wide=12, shift="sparse"), part: layer}
    for layer in layers.values():
        x = layer(x)
    return randomize(keras.Model(images, x), off=0)


@pytest.mark.parametrize("part", ["shift", "expand", "project", "expand_bn"])
def test_subclasses_compute_what_they_say(part):
    model = subclassed(part)
    batch = pixels(2, 9, 7, 5) / 255
    assert_same(predict(fuse(model), batch), predict(model, batch))


def test_functional_model_with_a_call_of_its_own():
    images = keras.Input((9, 7, 5))
    model = DoubledModel(images, SparseShift2D()(images))
    outer = keras.Model(images, model(images))
    for refused in (model, outer):
        with pytest.raises(ValueError, match="functional or sequential"):
            fuse(refused)


def adapted(layer, data):
    layer.adapt(data)
    return layer


class Preprocessing(keras.layers.Layer):
    """With an adapted layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Normalization()

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs)


def normalized(inside=False):
    """A model that begins with an adapted normalization."""
    images = keras.Input((9, 7, 5))
    layer = Preprocessing() if inside else keras.layers.Normalization()
    x = layer(images)
    part = layer.inner if inside else layer
    part.adapt(pixels(20, 9, 7, 5) * np.arange(1, 6))
    for layer in unit_layers().values():
        x = layer(x)
    return randomize(keras.Model(images, keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("inside", [False, True])
def test_adapted_normalization(inside):
    model = normalized(inside)
    batch = pixels(3, 9, 7, 5)
    assert_same(predict(fuse(model), batch), predict(model, batch))


@pytest.mark.tensorflow
def test_other_layers_that_are_adapted():
    numbers, codes = keras.Input((3,)), keras.Input((3,), dtype="int64")
    lookup = adapted(keras.layers.IntegerLookup(), np.array([5, 7, 9, 7]))
    bins = adapted(keras.layers.Discretization(num_bins=3), np.arange(30.0))
    model = keras.Model([numbers, codes], [bins(numbers), lookup(codes)])
    batch = [np.array([[1.0, 15.0, 29.0]]), np.array([[5, 7, 1]])]
    for found, expected in zip(fuse(model)(batch), model(batch)):
        np.testing.assert_array_equal(found, expected)


def test_layers_of_other_weights_are_refused():
    model = one_unit()
    model.get_layer("project").enable_lora(2)
    with pytest.raises(ValueError, match="(?s)'project' has LoRA.*Received: Conv2D"):
        fuse(model)


@pytest.mark.tensorflow
def test_quantized_layers_are_refused():
    images = keras.Input((9, 7, 5))
    x = keras.layers.GlobalAveragePooling2D()(SparseShift2D()(images))
    model = keras.Model(images, keras.layers.Dense(4, name="logits")(x))
    model.get_layer("logits").quantize("int8")
    with pytest.raises(ValueError, match="(?s)'logits' was quantized.*before.*Dense"):
        fuse(model)


@pytest.mark.parametrize("displacement", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [9, None])
@pytest.mark.parametrize("where", ["unit", "alone"])
def test_displacements_that_move_out_of_every_map(where, size, displacement):
    images = x = keras.Input((size, size, 5))
    layers = unit_layers(wide=12) if where == "unit" else {"shift": SparseShift2D()}
    for layer in layers.values():
        x = layer(x)
    model = randomize(keras.Model(images, x), off=0)
    variable = layers["shift"].displacements
    values = keras.ops.convert_to_numpy(variable).copy()
    values[1, 2] = displacement
    variable.assign(values)
    batch = pixels(2, 9, 9, 5) / 255
    expected = predict(model, batch)
    assert np.isfinite(expected).all()
    assert_same(predict(fuse(model), batch), expected)


def test_interpolation_at_no_number_is_refused():
    images = keras.Input((9, 9, 5))
    model = keras.Model(images, ActiveShift2D(name="active")(images))
    model.layers[1].displacements.assign(np.full((2, 5), np.nan))
    with pytest.raises(ValueError, match="(?s)numbers for.*Received: NaN.*'active'"):
        fuse(model)


def test_only_tensorflow_goes_without_xla():
    layer = FusedUnit2D(filters=5, wide_channels=7)
    assert layer.supports_jit == (keras.backend.backend() != "tensorflow")


def test_without_the_op_a_warning_says_why(monkeypatch):
    monkeypatch.setattr(dispatch, "_why_not", lambda *_: "the reason")
    with pytest.warns(UserWarning, match="more slowly.*: the reason"):
        fuse(one_unit())


@pytest.mark.tensorflow
def test_beside_another_device_a_warning_says_why(monkeypatch):
    monkeypatch.setattr(dispatch, "other_devices", lambda: ["/physical_device:GPU:0"])
    with pytest.warns(UserWarning, match="more slowly.*/physical_device:GPU:0"):
        fuse(one_unit())


def test_unknown_precision():
    with pytest.raises(ValueError, match="(?s)`precision`.*precision=bf16"):
        fuse(one_unit(), precision="bf16")


def test_subclassed_model():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="(?s)functional or sequential.*Received"):
        fuse(Subclassed())
