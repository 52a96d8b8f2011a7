"""Units found in models and folded, and what the fast lowering makes of them."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_shift.deploy import LiteRTModel, find_units, to_tflite
from keras_shift.deploy.agreement import compare
from keras_shift.deploy.lowering import lower_units
from keras_shift.layers import SparseShift2D
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import FENet, ShiftResNet20, get_model
from networks import pixels, predict, randomize
from reference import integer_shift
from unit_models import CASES, model_of, one_unit, unit_layers

pytestmark = pytest.mark.tensorflow

# As in tests/test_tflite.py, which says why.
BOUNDS = {None: 1e-5, "float16": 2e-3, "dynamic": 0.06, "int8": 0.1}


def compute(unit, x):
    """What a `Unit` says it stands for, in NumPy."""
    y = np.maximum(x.astype("float64") @ unit.expand_kernel + unit.expand_bias, 0)
    if unit.ceiling is not None:
        y = np.minimum(y, unit.ceiling)
    if unit.displacements is not None:
        y = integer_shift(y, unit.displacements)
    if unit.pool_padding is not None:
        y = keras.ops.convert_to_numpy(
            keras.ops.average_pool(
                y, 2, padding=unit.pool_padding, data_format="channels_last"
            )
        )
    rows, columns = unit.strides
    y = y[:, ::rows, ::columns] @ unit.project_kernel + unit.project_bias
    if unit.output_relu:
        y = np.maximum(y, 0)
    return x + y if unit.residual else y


def assert_same(outputs, expected, bound=1e-5):
    assert compare(outputs, expected).relative_difference < bound


class TestFindUnits:
    @pytest.mark.parametrize(
        "name, count, shifted, left_alone",
        [
            ("fenet_1.0", 20, 16, 0),
            ("shiftnet_a", 21, 21, 0),
            ("shiftnet_c", 12, 12, 0),
            ("shiftresnet20_e3", 9, 9, 0),
            ("shiftresnet20_ssl", 9, 9, 0),
            ("shiftresnet20_ssl_1x1_only", 9, 0, 0),
            ("shiftresnet50", 16, 16, 0),
            ("resnet20", 0, 0, 0),
        ],
    )
    def test_every_family(self, name, count, shifted, left_alone):
        units = find_units(get_model(name))
        assert len(units.found) == count
        moving = [unit for unit in units.found if unit.displacements is not None]
        assert len(moving) == shifted
        assert len(units.left_alone) == left_alone

    @pytest.mark.parametrize(
        "options, count, left_alone",
        [
            ({"squeeze_excite": "v1"}, 20, 0),
            ({"squeeze_excite": "v2"}, 0, 16),
            ({"spatial": "active_shift"}, 4, 16),
            ({"spatial": "depthwise"}, 4, 0),
            ({"spatial": "none"}, 20, 0),
        ],
        ids=str,
    )
    def test_variants(self, options, count, left_alone):
        units = find_units(FENet((32, 32, 3), alpha=0.25, **options))
        assert len(units.found) == count
        assert len(units.left_alone) == left_alone
        if options.get("squeeze_excite") == "v1":
            assert not any(unit.residual for unit in units.found)

    def test_names_and_parts(self):
        model = FENet((64, 64, 3), alpha=0.5)
        found = {unit.name: unit for unit in find_units(model).found}
        unit = found["fe_block2_unit3_expand"]
        parts = ("expand", "expand_bn", "shift", "project", "project_bn")
        assert unit.layers == tuple(
            f"fe_block2_unit3_{part}" for part in (*parts, "add")
        )
        assert unit.expand_kernel.shape == (16, 96)
        assert unit.project_kernel.shape == (96, 16)
        assert unit.expand_bias.shape == (96,) and unit.project_bias.shape == (16,)
        assert unit.displacements.shape == (2, 96)
        assert unit.map_size == (8, 8)
        assert unit.residual and not unit.output_relu and unit.pool_padding is None
        assert found["fe_block2_unit4_expand"].pool_padding == "same"

    def test_second_shift_of_sc2_modules_only(self):
        units = find_units(ShiftResNet20(module="sc2"))
        assert len(units.found) == 9
        assert len(units.left_alone) == 9
        assert all(name.endswith("_input_shift") for name in units.left_alone)

    def test_shift_comes_before_rows_of_convolutions(self):
        """The first of three 1x1 convolutions must not take the second for itself."""
        images = keras.Input((9, 7, 5))
        x = keras.layers.ReLU()(keras.layers.Conv2D(6, 1, name="first")(images))
        for layer in unit_layers().values():
            x = layer(x)
        (unit,) = find_units(keras.Model(images, x)).found
        assert unit.name == "expand"

    def test_model_stays_as_it_is(self):
        model = one_unit()
        config, weights = model.get_config(), model.get_weights()
        find_units(model)
        assert model.get_config() == config
        for weight, before in zip(model.get_weights(), weights):
            np.testing.assert_array_equal(weight, before)

    def test_layers_built_with_other_spellings(self):
        model = one_unit(
            expand_relu=keras.layers.Activation("relu"),
            project_bn=keras.layers.BatchNormalization(axis=3, scale=False),
            project_relu=keras.layers.Activation("relu"),
        )
        assert len(find_units(model).found) == 1


class _Twice(keras.layers.ReLU):
    def call(self, x):
        return 2 * super().call(x)


class TestLeftAlone:
    @pytest.mark.parametrize(
        "options",
        [
            {"shift": "active"},
            {"expand": keras.layers.Conv2D(72, 3, padding="same")},
            {"expand": keras.layers.Conv2D(72, 1, strides=2)},
            {"expand": keras.layers.Conv2D(75, 1, groups=5)},
            {"expand": keras.layers.Conv2D(72, 1, activation="tanh")},
            {"expand_relu": keras.layers.ReLU(threshold=0.5)},
            {"expand_relu": keras.layers.ReLU(6, negative_slope=0.1)},
            {"expand_relu": keras.layers.Activation("silu")},
            {"expand_relu": _Twice()},
            {"expand_relu": None},
            {"expand_bn": keras.layers.BatchNormalization(axis=1)},
            {
                "expand": keras.layers.Conv2D(72, 3, padding="same"),
                "expand_relu": None,
                "shift": "sparse with ReLU",
            },
            {"project": keras.layers.DepthwiseConv2D(1)},
            {"project": keras.layers.Conv2D(5, (1, 3))},
        ],
        ids=str,
    )
    def test_other_layers(self, options):
        model = one_unit(residual=False, **options)
        units = find_units(model)
        assert units.found == () and units.left_alone == ("shift",)
        images = pixels(2, 9, 7, 5)
        assert_same(predict(lower_units(model).model, images), predict(model, images))

    @pytest.mark.parametrize(
        "part", ["expand", "expand_bn", "expand_relu", "shift", "project"]
    )
    @pytest.mark.parametrize("use", ["output", "layer"])
    def test_branches_with_another_consumer(self, part, use):
        images = x = keras.Input((9, 7, 5))
        for name, layer in unit_layers().items():
            x = layer(x)
            if name == part:
                branch = x
        pooled = keras.layers.GlobalAveragePooling2D()
        if use == "output":
            model = keras.Model(images, [x, branch])
        else:
            both = [pooled(x), pooled(branch)]
            model = keras.Model(images, keras.layers.Concatenate()(both))
        randomize(model)
        units = find_units(model)
        # What follows the second convolution need not be part of a unit.
        assert len(units.found) == (part == "project")
        lowered = lower_units(model).model
        assert shift_layers(lowered) == []
        batch = pixels(2, 9, 7, 5)
        for found, expected in zip(
            keras.tree.flatten(lowered(batch)), keras.tree.flatten(model(batch))
        ):
            assert_same(found, expected)

    def test_layers_called_twice_or_in_training_mode(self):
        for twice in ("expand", "project_bn"):
            parts = unit_layers(filters=5)
            images = x = keras.Input((9, 7, 5))
            for name, layer in parts.items():
                x = layer(x)
            again = keras.Input((9, 7, parts[twice].input.shape[-1]))
            model = keras.Model([images, again], [x, parts[twice](again)])
            assert len(find_units(model).found) == (twice == "project_bn")
        images = x = keras.Input((9, 7, 5))
        for name, layer in unit_layers().items():
            x = layer(x, training=True) if name == "expand_bn" else layer(x)
        assert find_units(keras.Model(images, x)).found == ()

    def test_sum_that_is_not_the_units(self):
        """Of another tensor, by broadcasting, or through keras.ops."""
        for add in (
            lambda x, y: keras.layers.Add()([keras.layers.ReLU()(x), y]),
            lambda x, y: keras.layers.Add()([y, y]),
            lambda x, y: keras.layers.Subtract()([x, y]),
            lambda x, y: keras.layers.Add()([x, x, y]),
            lambda x, y: x + y,
        ):
            images = x = keras.Input((9, 7, 5))
            for layer in unit_layers().values():
                x = layer(x)
            model = randomize(keras.Model(images, add(images, x)))
            (unit,) = find_units(model).found
            assert not unit.residual
            batch = pixels(2, 9, 7, 5)
            assert_same(predict(lower_units(model).model, batch), predict(model, batch))
        model = one_unit(filters=1)  # and five channels are added to it
        (unit,) = find_units(model).found
        assert not unit.residual


@pytest.mark.parametrize("case", CASES)
class TestCases:
    def test_unit_computes_what_its_layers_do(self, case):
        model = model_of(case)
        (unit,) = find_units(model).found
        assert unit.layers == tuple(layer.name for layer in model.layers[1:])
        images = pixels(3, *model.input_shape[1:]) / 255
        expected = predict(model, images)
        for same in (unit, unit.by_displacement(), unit.without_zeros()):
            assert_same(compute(same, images), expected)
        kept = unit.without_zeros()
        if case == "channels that are off":
            assert len(kept.expand_bias) < len(unit.expand_bias)

    def test_file_computes_what_its_layers_do(self, case, tmp_path):
        model = model_of(case)
        images = pixels(16, *model.input_shape[1:]) / 255
        for quantize in (None, "dynamic") if case == "grouped" else (None,):
            path = tmp_path / "model.tflite"
            report = to_tflite(model, path, quantize, images)
            outputs = LiteRTModel(report.path).predict(images)
            assert_same(outputs, predict(model, images), BOUNDS[quantize])
            assert report.partitions == 1
            assert len(report.units) == 1 and report.left_alone == ()


@pytest.mark.parametrize(
    "relu",
    [lambda: keras.layers.ReLU(0.3), lambda: keras.layers.Activation("relu6")],
    ids=["0.3", "relu6"],
)
def test_largest_value_of_a_relu(relu, tmp_path):
    """Without it, outputs would differ by much: most images reach it somewhere."""
    # Without normalization, pixel values reach six, and shares of them reach 0.3.
    layer = relu()
    scale = 1 if isinstance(layer, keras.layers.Activation) else 255
    model = one_unit(expand_bn=None, expand_relu=layer)
    (unit,) = find_units(model).found
    images = pixels(16, 9, 7, 5) / scale
    expected = predict(model, images)
    assert_same(compute(unit, images), expected)
    unbounded = dataclasses.replace(unit, ceiling=None)
    assert compare(compute(unbounded, images), expected).relative_difference > 0.01
    report = to_tflite(model, tmp_path / "model.tflite")
    assert report.left_alone == () and report.partitions == 1
    assert_same(LiteRTModel(report.path).predict(images), expected)


class TestUnit:
    def test_sorted_channels(self):
        model = one_unit(wide=40)
        (unit,) = find_units(model).found
        in_order = unit.by_displacement()
        columns = list(map(tuple, in_order.displacements.T))
        unshifted = np.count_nonzero(unit.unshifted)
        assert set(columns[:unshifted]) == {(0, 0)}
        assert columns[unshifted:] == sorted(columns[unshifted:])
        assert (0, 0) not in columns[unshifted:]
        assert sorted(columns) == sorted(map(tuple, unit.displacements.T))

    def test_shift_that_moves_nothing_is_none(self):
        model = one_unit()
        # Half to even: all of these are zero.
        values = np.resize([0.5, -0.5, 0.3], (2, 72))
        model.get_layer("shift").displacements.assign(values)
        (unit,) = find_units(model).found
        assert unit.displacements is None and unit.unshifted.all()
        assert unit.by_displacement() is unit

    def test_part_that_does_not_move(self):
        (unit,) = find_units(one_unit()).found
        part = unit.take(np.flatnonzero(unit.unshifted))
        assert part.displacements is None
        assert part.project_kernel.shape == (np.count_nonzero(unit.unshifted), 5)

    def test_all_channels_shifted_out_of_the_map(self, tmp_path):
        """Only biases remain, and the layers are lowered one by one."""
        model = one_unit()
        model.get_layer("shift").displacements.assign(np.full((2, 72), 40.0))
        (unit,) = find_units(model).found
        assert len(unit.without_zeros().expand_bias) == 0
        report = to_tflite(model, tmp_path / "model.tflite")
        assert report.agreement.relative_difference < 1e-5


def kernels(model):
    """Shapes of a lowered model's depthwise kernels."""
    return [
        tuple(layer.kernel.shape[:3])
        for layer in model.layers
        if isinstance(layer, keras.layers.DepthwiseConv2D)
    ]


class TestLowering:
    @pytest.mark.parametrize("displacement", [0, 1, -2])
    def test_relu_of_a_shift_outside_of_units(self, displacement):
        images = keras.Input((9, 7, 5))
        x = SparseShift2D(input_relu=True, displacement_initializer="zeros")(images)
        model = keras.Model(images, x)
        model.layers[-1].displacements.assign_add(np.full((2, 5), displacement))
        images = pixels(2, 9, 7, 5) - 128
        np.testing.assert_array_equal(
            predict(lower_units(model).model, images), predict(model, images)
        )

    @pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 5)])
    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_strides_come_as_early_as_they_can(self, size, quantize):
        model = one_unit(
            (*size, 5),
            residual=False,
            wide=96,
            project=keras.layers.Conv2D(5, 1, strides=2, name="project"),
        )
        values = np.zeros((2, 96))
        values[:, 64:] = [[1], [-1]]
        model.get_layer("shift").displacements.assign(values)
        lowered = lower_units(model, quantize).model
        strides = {
            layer.name.removeprefix("expand_"): layer.strides
            for layer in lowered.layers
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        }
        assert strides == {
            "part1_expand": (2, 2),
            "part1_project": (1, 1),
            "part2_expand": (1, 1),
            "part2_shift1": (2, 2),
            "part2_project": (1, 1),
        }
        images = pixels(2, *size, 5)
        assert_same(predict(lowered, images), predict(model, images))

    def model(self, shifted, wide=96, reach=1):
        """A unit with that many shifted channels, by up to `reach` pixels."""
        model = one_unit(wide=wide)
        values = np.zeros((2, wide))
        values[:, -shifted:] = np.resize([reach, 0, -reach], (2, shifted))
        values[0, -shifted:] = reach
        model.get_layer("shift").displacements.assign(values)
        return model

    @pytest.mark.parametrize(
        "quantize, shifted, expected",
        [
            (None, 40, [(3, 1, 64), (1, 3, 64)]),
            ("float16", 32, [(3, 1, 32), (1, 3, 32)]),
            (None, 70, [(3, 1, 96), (1, 3, 96)]),
            ("int8", 45, [(3, 3, 48)]),
            ("dynamic", 45, [(3, 1, 48), (1, 3, 48)]),
            # Sixteen of 96 are too few.
            ("int8", 75, [(3, 3, 96)]),
        ],
    )
    def test_only_channels_that_move_are_convolved(self, quantize, shifted, expected):
        model = self.model(shifted)
        lowered = lower_units(model, quantize)
        assert kernels(lowered.model) == expected
        split = expected[0][2] < 96
        assert lowered.units == {"expand": "split" if split else "depthwise"}
        images = pixels(2, 9, 7, 5)
        assert_same(predict(lowered.model, images), predict(model, images))

    @pytest.mark.parametrize(
        "wide, shifted, quantize, together",
        [
            # Tiles of 16 channels, and as many of the matrices as without a shift: 36
            # in int8 are three tiles of 16, and so are 16 and 20.
            (36, 7, "int8", 16),
            (72, 12, "int8", 16),
            (288, 36, "int8", 48),
            # In float32, the matrices' tiles have 32 channels.
            (36, 7, None, 16),
            (72, 12, None, 16),
            (48, 20, None, 32),
            # 240 and 48 would be eight and two tiles, where 288 are nine.
            (288, 36, None, 64),
            (576, 81, "float16", 96),
            # Of those, 96 would leave less than a quarter apart, and are not taken.
            (120, 70, None, 80),
            # Not even one tile can be filled.
            (20, 4, "int8", 4),
            (36, 18, "int8", 18),
        ],
    )
    def test_channels_fill_the_tiles(self, wide, shifted, quantize, together):
        model = self.model(shifted, wide)
        lowered = lower_units(model, quantize).model
        assert {channels for *_, channels in kernels(lowered)} == {together}
        images = pixels(2, 9, 7, 5)
        assert_same(predict(lowered, images), predict(model, images))

    @pytest.mark.parametrize(
        "size, options, quantize, one",
        [
            ((8, 6), {}, "int8", True),
            ((8, 6), {"filters": 32}, "int8", True),
            ((8, 6), {"filters": 33}, "int8", False),
            ((8, 6), {}, None, False),
            # Here, the last windows have fewer pixels, or may have.
            ((9, 7), {}, "int8", False),
            ((1, 1), {}, "int8", False),
            ((None, 6), {}, "int8", False),
            # These leave the last row out.
            ((9, 7), {"shift": "pool inside"}, "int8", True),
            ((None, 6), {"shift": "pool inside"}, "int8", True),
            ((8, 6), {"project_relu": keras.layers.ReLU()}, "int8", True),
            ((8, 6), {"expand_relu": keras.layers.ReLU(6.0)}, "int8", True),
            ((8, 6), {"project": keras.layers.Conv2D(5, 1, 2)}, "int8", False),
        ],
    )
    def test_int8_pools_in_the_second_convolution(self, size, options, quantize, one):
        model = one_unit((*size, 5), **{"shift": "pool", "residual": False, **options})
        lowered = lower_units(model, quantize)
        assert lowered.units == {"expand": "pooling"}
        sizes = [
            layer.kernel_size
            for layer in lowered.model.layers
            if type(layer) is keras.layers.Conv2D
        ]
        assert sizes == [(1, 1), (2, 2) if one else (1, 1)]
        images = pixels(2, size[0] or 9, size[1], 5)
        assert_same(predict(lowered.model, images), predict(model, images))

    @pytest.mark.parametrize("size, together", [((112, 112), 16), ((56, 56), 32)])
    def test_large_maps_convolve_the_fewest_channels(self, size, together):
        model = one_unit((*size, 5), wide=64)
        values = np.zeros((2, 64))
        values[:, :14] = 1
        model.get_layer("shift").displacements.assign(values)
        lowered = lower_units(model).model
        assert {channels for *_, channels in kernels(lowered)} == {together}

    def test_larger_windows_are_separated_in_int8_too(self):
        model = self.model(32, reach=2)
        displacements = model.get_layer("shift").displacements
        values = np.array(displacements)
        # Without a shift by one pixel, a dilated window of 3x3 would do.
        values[:, -1] = 1
        displacements.assign(values)
        lowered = lower_units(model, "int8")
        assert kernels(lowered.model) == [(5, 1, 32), (1, 5, 32)]

    def test_dynamic_depthwise_kernels_stay_small(self):
        """Those of 1024 numbers would become int8, which XNNPACK does not run."""
        model = self.model(1200, wide=1280)
        lowered = lower_units(model, "dynamic").model
        sizes = [np.prod(shape) for shape in kernels(lowered)]
        assert max(sizes) < 1024 and len(sizes) > 2
        images = pixels(2, 9, 7, 5)
        assert_same(predict(lowered, images), predict(model, images))

    def test_models_inside_of_models_and_sequential_ones(self, tmp_path):
        backbone = keras.Sequential(
            [keras.Input((None, None, 5)), *unit_layers().values()], name="backbone"
        )
        images = keras.Input((9, 7, 5))
        x = keras.layers.GlobalAveragePooling2D()(backbone(images))
        model = randomize(keras.Model(images, x))
        assert find_units(model).left_alone == ("backbone",)
        report = to_tflite(model, tmp_path / "model.tflite")
        assert report.units == {"backbone/expand": "depthwise"}
        assert report.left_alone == ()
        assert report.agreement.relative_difference < 1e-5
        report = to_tflite(
            keras.Sequential([keras.Input((9, 7, 5)), backbone]),
            tmp_path / "model.tflite",
        )
        assert report.agreement.relative_difference < 1e-5

    def test_mixed_precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            lowered = lower_units(one_unit()).model
        finally:
            keras.config.set_dtype_policy(before)
        assert {layer.compute_dtype for layer in lowered.layers[1:]} == {"float32"}

    def test_report_tells_what_was_done(self, tmp_path):
        images = x = keras.Input((9, 7, 5))
        for number in range(6):
            x = SparseShift2D(name=f"alone{number}")(x)
        for layer in unit_layers().values():
            x = layer(x)
        report = to_tflite(keras.Model(images, x), tmp_path / "model.tflite")
        assert report.units == {"expand": "depthwise"}
        assert report.left_alone == tuple(f"alone{number}" for number in range(6))
        assert "1 depthwise" in str(report)
        assert "alone0, alone1, alone2, alone3 and 2 more" in str(report)


class TestInt8:
    @pytest.mark.parametrize("size, reach", [((13, 9), 0.8), ((32, 32), 2.4)])
    def test_network(self, tmp_path, size, reach):
        # `randomize` leaves the kernels, on which the error of int8 depends.
        keras.utils.set_random_seed(0)
        model = FENet(
            (*size, 3), alpha=0.25, classes=10, output_stride=8, head_filters=40
        )
        model = randomize(model, reach=reach)
        logits = model.layers[-1]
        logits.activation = keras.activations.linear
        images = pixels(32, *size, 3)
        path = tmp_path / "model.tflite"
        report = to_tflite(model, path, "int8", representative_data=images)
        assert report.agreement.relative_difference < BOUNDS["int8"]
        if size == (32, 32):
            # Pooling of maps of odd size is another matter.
            assert report.partitions == 1
        assert ("split" in report.units.values()) == (reach < 1)

    def test_part_that_is_never_on(self, tmp_path):
        """Lowered layer by layer, where something is on in every activation."""
        model = one_unit(
            expand_bn=None,
            expand=keras.layers.Conv2D(72, 1, name="expand"),
            residual=False,
        )
        expand = model.get_layer("expand")
        bias = np.where(np.arange(72) < 48, -1e4, 0)
        expand.bias.assign(bias)
        values = np.where(bias < 0, 1.0, 0.0) * np.ones((2, 1))
        model.get_layer("shift").displacements.assign(values)
        images = pixels(8, 9, 7, 5) / 255
        path = tmp_path / "model.tflite"
        report = to_tflite(model, path, "int8", representative_data=images)
        assert report.agreement.relative_difference < BOUNDS["int8"]
        assert report.units == {} and report.left_alone == ("shift",)
