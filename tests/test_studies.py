"""The numbers behind the papers' studies, against small cases worked out by hand."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_shift import analysis, zoo
from keras_shift.initializers import GivenDisplacements
from keras_shift.layers import ActiveShift2D, GroupedShift2D, SparseShift2D
from networks import pixels, predict

pyplot = pytest.importorskip("matplotlib.pyplot")
pyplot.switch_backend("agg")

# Nine channels: four unshifted, two one column to the right, three elsewhere.
DISPLACEMENTS = np.array(
    [[0, 0, 0.4, -0.4, 0, 0.2, -1, 2, 0.6], [0, 0, 0, 0.3, 1, 0.9, 0, -1, 0]]
)
COUNTS = {(0, 0): 4, (0, 1): 2, (-1, 0): 1, (1, 0): 1, (2, -1): 1}

on_both = pytest.mark.skipif(
    keras.backend.backend() not in ("jax", "tensorflow"),
    reason="gradients are taken on TensorFlow and JAX",
)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def shift(displacements=DISPLACEMENTS, name="shift", **arguments):
    return SparseShift2D(GivenDisplacements(displacements), name=name, **arguments)


def built(layer, channels=9):
    layer.build((None, 8, 8, channels))
    return layer


def small(layer=None, size=8, kernel=None):
    """A 1x1 convolution to nine channels, a shift, and a 1x1 convolution to two."""
    images = keras.Input((size, size, 3))
    x = layers.Conv2D(9, 1, name="expand")(images)
    x = (layer or shift())(x)
    model = keras.Model(images, layers.Conv2D(2, 1, name="project")(x), name="small")
    if kernel is not None:
        model.get_layer("project").kernel.assign(np.reshape(kernel, (1, 1, 9, 2)))
    return model


def labelled(axes):
    assert axes.get_xlabel() and axes.get_ylabel()
    return axes


class TestHistogram:
    def test_counts_rounded_displacements(self):
        histogram = analysis.shift_histogram(built(shift()))
        assert histogram.counts == COUNTS
        assert list(histogram.counts)[:2] == [(0, 0), (0, 1)]
        assert (histogram.channels, histogram.reach) == (9, 2)
        assert histogram.unshifted == pytest.approx(4 / 9)

    def test_grid_has_rows_first(self):
        expected = np.zeros((5, 5), int)
        for (dy, dx), count in COUNTS.items():
            expected[2 + dy, 2 + dx] = count
        grid = analysis.shift_histogram(built(shift())).grid()
        np.testing.assert_array_equal(grid, expected)

    def test_is_the_summarys(self):
        model = small()
        (layer,) = [row for row in analysis.summary(model).layers if row.shift_channels]
        assert layer.histogram == analysis.shift_histogram(model.layers[2]).counts

    def test_displacements_that_are_no_numbers_have_no_place(self):
        layer = built(SparseShift2D(name="shift"), 3)
        layer.displacements.assign([[0, np.nan, np.inf], [1, 0, 0]])
        histogram = analysis.shift_histogram(layer)
        assert histogram.channels == 3 and histogram.grid().sum() == 1
        assert "2 beyond" in histogram.plot().get_title()

    @pytest.mark.parametrize(
        "layer",
        [SparseShift2D(), layers.ReLU(), built(ActiveShift2D()), "shift"],
        ids=["not built", "no shift", "not rounding", "a name"],
    )
    def test_refuses_other_layers(self, layer):
        with pytest.raises(ValueError, match="`layer` must be a shift layer"):
            analysis.shift_histogram(layer)


def circles(axes):
    """The circles of axes, filled ones and rings: areas by their centre (dy, dx)."""
    filled, rings = {}, {}
    for patch in axes.patches:
        x, y = patch.center
        kind = filled if patch.get_fill() else rings
        kind[round(y), round(x)] = np.pi * patch.radius**2
    return filled, rings


class TestShifts:
    def test_areas_are_numbers_of_channels(self):
        axes = labelled(analysis.plot_shifts(built(shift())))
        filled, rings = circles(axes)
        assert set(filled) == set(COUNTS) and rings == {}
        for pair, area in filled.items():
            assert area / filled[0, 0] == pytest.approx(COUNTS[pair] / 4)
        # Rows are counted downwards, as in the image.
        assert axes.get_ylim() == (2.5, -2.5) and axes.get_xlim() == (-2.5, 2.5)
        assert "4 of 9 channels unshifted" in axes.get_title()

    def test_rings_are_what_was_before(self):
        layer = built(SparseShift2D(name="shift"))
        layer.displacements.assign(np.zeros((2, 9)))
        for before in ("initial", built(GroupedShift2D())):
            filled, rings = circles(analysis.plot_shifts(layer, before))
            assert set(filled) == {(0, 0)} and len(rings) == 9
            for area in rings.values():
                assert area == pytest.approx(filled[0, 0] / 9)

    def test_panels_of_a_model_have_one_scale(self):
        images = keras.Input((8, 8, 9))
        still = shift(np.zeros((2, 9)), "still")
        model = keras.Model(images, still(shift()(images)))
        panels = analysis.plot_shifts(model, before=model)
        first, second = (circles(axes)[0] for axes in panels)
        assert first[0, 0] / second[0, 0] == pytest.approx(4 / 9)
        assert panels[0].get_xlim() == panels[1].get_xlim()
        given = panels[0].figure.subplots(1, 2)
        assert list(analysis.plot_shifts(model, ax=given)) == list(given)

    def test_given_axes_are_drawn_into(self):
        axes = pyplot.figure().add_subplot()
        assert analysis.plot_shifts(built(shift()), ax=axes) is axes

    def test_far_displacements_are_said_to_be_beyond(self):
        layer = built(shift([[0, 500], [0, 0]]), 2)
        axes = analysis.plot_shifts(layer)
        assert axes.get_xlim()[1] < 20 and "1 beyond" in axes.get_title()

    def test_refusals(self):
        model = small()
        unknown = small(SparseShift2D(name="other"))
        random = built(SparseShift2D("random_normal", name="random"))
        for message, arguments in {
            "`before` must be a model": (model, unknown),
            "values that are not random": (random, "initial"),
            "`before` must be a layer": (random, "first"),
            "no layers that shift": (keras.Sequential([keras.Input((3,))]),),
        }.items():
            with pytest.raises(ValueError, match=message):
                analysis.plot_shifts(*arguments)
        with pytest.raises(ValueError, match="array of 1 axes.*Received: 2 axes"):
            axes = pyplot.figure().subplots(1, 2)
            analysis.plot_shifts(model, ax=axes)


class TestDistribution:
    def test_bins_by_hand(self):
        layer = built(shift([[-1.2, 0, 0.24], [0.5, 0.26, 2]]), 3)
        found = analysis.displacement_distribution(layer, bin_width=0.5)
        # 0.5 rounds to zero, as half to even does.
        assert found.rounded_to_zero == pytest.approx(4 / 6)
        counts = dict(zip((found.edges[:-1] + 0.25).round(6), found.counts))
        assert {middle: n for middle, n in counts.items() if n} == {
            -1.0: 1,
            0.0: 2,
            0.5: 2,
            2.0: 1,
        }
        assert "66.7% round to zero" in [
            text.get_text() for text in labelled(found.plot()).get_legend().texts
        ]

    def test_of_a_model_is_the_sum(self):
        found = analysis.displacement_distribution(small())
        assert found.counts.sum() == 2 * 9
        assert len(found.edges) == len(found.counts) + 1

    def test_refusals(self):
        with pytest.raises(ValueError, match="Received: bin_width=0"):
            analysis.displacement_distribution(small(), 0)
        with pytest.raises(ValueError, match="`target` must be a layer with learned"):
            analysis.displacement_distribution(built(GroupedShift2D()))
        with pytest.raises(ValueError, match="`target` must be .* and built"):
            analysis.displacement_distribution(SparseShift2D())
        endless = built(shift([[np.inf, 0], [0, 0]]), 2)
        with pytest.raises(ValueError, match="Received: 1 that are not"):
            analysis.displacement_distribution(endless)


def test_sparsity_has_a_bar_for_every_layer():
    images = keras.Input((8, 8, 9))
    still = shift(np.zeros((2, 9)), "still")
    model = keras.Model(images, still(shift()(images)))
    axes = labelled(analysis.plot_sparsity(model))
    widths = [bar.get_width() for bar in axes.containers[1]]
    assert widths == pytest.approx([100 * 4 / 9, 100])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["shift", "still"]
    assert [text.get_text() for text in axes.texts] == ["4 of 9", "9 of 9"]
    with pytest.raises(ValueError, match="no shift layers"):
        analysis.plot_sparsity(keras.Sequential([keras.Input((3,))]))


def test_what_was_initially_beyond_the_bound_was_clipped():
    start = {"displacement_initializer": keras.initializers.Constant(3.0)}
    layer = built(SparseShift2D(max_displacement=1, **start))
    rings = plot_positions(analysis.plot_shifts(layer, before="initial"))
    assert rings == {(1, 1)}


def plot_positions(axes):
    """Where circles without a filling are."""
    return {
        tuple(map(int, patch.center)) for patch in axes.patches if not patch.get_fill()
    }


def chain(shares, **arguments):
    """Shift layers of ten channels, of which these numbers are unshifted."""
    x = images = keras.Input((8, 8, 10))
    for number, unshifted in enumerate(shares):
        displacements = np.ones((2, 10))
        displacements[:, :unshifted] = 0
        x = shift(displacements, f"shift{number}", **arguments)(x)
        x = layers.Conv2D(10, 1, name=f"conv{number}")(x)
    return keras.Model(images, x, name="chain")


class TestRemoval:
    def test_the_sparsest_comes_first(self):
        model = chain([5, 9, 2, 9, 10])
        order = [f"shift{number}" for number in (4, 1, 3, 0, 2)]
        assert analysis.least_important_shifts(model) == order
        assert analysis.least_important_shifts(model, 2) == order[:2]
        assert analysis.least_important_shifts(model, 0) == []
        for n in (-1, 6):
            with pytest.raises(ValueError, match=f"from 0 to 5.*n={n}"):
                analysis.least_important_shifts(model, n)

    @pytest.mark.parametrize("relu", [False, True])
    def test_removed_shifts_move_nothing(self, relu):
        model = chain([5, 2], input_relu=relu)
        images = pixels(2, 8, 8, 10) - 128
        before = predict(model, images)
        copy = analysis.remove_shifts(model, ["shift1"])
        np.testing.assert_array_equal(predict(model, images), before)
        assert analysis.least_important_shifts(copy) == ["shift0"]
        # Keras names inputs after their tensors.
        names = [[layer.name for layer in one.layers[1:]] for one in (copy, model)]
        assert names[0] == names[1]
        # What has no shift computes as one that moves nothing.
        model.get_layer("shift1").displacements.assign(np.zeros((2, 10)))
        np.testing.assert_allclose(
            predict(copy, images), predict(model, images), rtol=1e-6
        )
        assert len(copy.trainable_weights) == len(model.trainable_weights) - 1

    def test_all_else_is_copied_as_it_is(self):
        """Operations, what a layer has adapted to, dtypes, and a compilation."""
        images = keras.Input((8, 8, 3))
        adapted = layers.Normalization()
        adapted.adapt(pixels(5, 8, 8, 3))
        x = layers.Conv2D(9, 1, dtype="mixed_bfloat16")(adapted(images))
        x = layers.Conv2D(2, 1)(keras.ops.tanh(shift()(x) + 1.0))
        model = keras.Model(images, x)
        model.compile("sgd", "mse")
        copy = analysis.remove_shifts(model, ["shift"])
        model.get_layer("shift").displacements.assign(np.zeros((2, 9)))
        np.testing.assert_array_equal(
            predict(copy, pixels(2, 8, 8, 3)), predict(model, pixels(2, 8, 8, 3))
        )
        assert copy.layers[2].dtype_policy.name == "mixed_bfloat16"
        assert analysis.least_important_shifts(copy) == [] and copy.compiled

    def test_layers_inside_of_a_model(self):
        inner = chain([5, 2])
        model = keras.Sequential([keras.Input((8, 8, 10)), inner])
        names = analysis.least_important_shifts(model)
        assert names == ["chain/shift0", "chain/shift1"]
        copy = analysis.remove_shifts(model, names)
        assert analysis.least_important_shifts(copy) == []
        by_layer = analysis.remove_shifts(model, [inner.get_layer("shift1")])
        assert analysis.least_important_shifts(by_layer) == ["chain/shift0"]

    def test_refuses_what_is_no_shift(self):
        model = chain([5])
        for wrong in ("conv0", "shift7", model.get_layer("conv0"), built(shift())):
            with pytest.raises(ValueError, match=r"\['shift0'\]. Received: "):
                analysis.remove_shifts(model, [wrong])

    @pytest.mark.tensorflow
    def test_of_the_papers_table_3(self):
        """A removed layer and the constructor's `without_shift` are one network."""
        modules = ("group1_module1", "group3_module2")
        plain = zoo.ShiftResNet20((16, 16, 3), alpha=0.25, wiring="concatenate")
        copy = analysis.remove_shifts(plain, [f"{name}_shift" for name in modules])
        expected = zoo.ShiftResNet20(
            (16, 16, 3), alpha=0.25, wiring="concatenate", without_shift=modules
        )
        expected.set_weights(copy.get_weights())
        images = pixels(2, 16, 16, 3)
        np.testing.assert_allclose(
            predict(copy, images), predict(expected, images), rtol=1e-5
        )


class TestCorrelation:
    @pytest.mark.parametrize("relu", [False, True])
    def test_is_numpys_of_the_channels_that_move_alike(self, relu):
        model = small(shift(input_relu=relu))
        # More images than are computed at once.
        images = pixels(11, 8, 8, 3) - 128
        found = analysis.channel_correlation(model, "shift", images)
        expand = keras.Model(model.inputs[0], model.get_layer("expand").output)
        values = predict(expand, images).reshape(-1, 9)
        values = np.maximum(values, 0) if relu else values
        channels = {pair: list(group) for pair, group in found.channels.items()}
        assert channels == {
            (0, 0): [0, 1, 2, 3],
            (0, 1): [4, 5],
            (-1, 0): [6],
            (1, 0): [8],
            (2, -1): [7],
        }
        assert list(channels)[:2] == [(0, 0), (0, 1)] and found.images == 11
        for pair, group in channels.items():
            expected = np.corrcoef(values[:, group], rowvar=False)
            np.testing.assert_allclose(
                found.matrices[pair], np.reshape(expected, 2 * (len(group),)), atol=1e-6
            )

    def test_what_never_changes_correlates_with_nothing(self):
        model = small()
        kernel = np.array(model.get_layer("expand").kernel)
        kernel[..., 1] = 0
        kernel[..., 2] = -kernel[..., 0]
        model.get_layer("expand").kernel.assign(kernel)
        model.get_layer("expand").bias.assign(np.full(9, 7.3))
        matrix = analysis.channel_correlation(
            model, "shift", pixels(3, 8, 8, 3)
        ).matrices[0, 0]
        assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
        assert matrix[0, 2] == pytest.approx(-1)

    def test_images_may_come_in_batches_with_labels(self):
        model, images = small(), pixels(5, 8, 8, 3)
        whole = analysis.channel_correlation(model, "shift", images)
        batches = [(images[:2], np.arange(2)), (images[2:], np.arange(3))]
        parts = analysis.channel_correlation(model, "shift", batches)
        assert parts.images == 5
        for pair, matrix in whole.matrices.items():
            np.testing.assert_allclose(parts.matrices[pair], matrix, atol=1e-6)

    def test_picture_has_a_matrix_for_every_group(self):
        found = analysis.channel_correlation(small(), "shift", pixels(2, 8, 8, 3))
        axes = labelled(found.plot())
        shown = sorted(image.get_array().shape for image in axes.images)
        # A matrix of one channel would say nothing.
        assert shown == [(2, 2), (4, 4)]
        assert axes.get_xlim() == (-2.5, 2.5)

    def test_refusals(self):
        model, images = small(), pixels(2, 8, 8, 3)
        for message, arguments in {
            r"`layer` must be a layer.*\['shift'\]": (model, "shit", images),
            "shifts by whole pixels": (model, "expand", images),
            "hold images of shape": (model, "shift", images[:, :4]),
            "one image at least": (model, "shift", images[:0]),
            "images of a known size": (small(size=None), "shift", images),
        }.items():
            with pytest.raises(ValueError, match=message):
                analysis.channel_correlation(*arguments)

    def test_a_layer_that_is_called_twice_is_refused(self):
        images, layer = keras.Input((8, 8, 9)), shift()
        model = keras.Model(images, layer(layer(images)))
        with pytest.raises(ValueError, match="calls once"):
            analysis.channel_correlation(model, "shift", pixels(1, 8, 8, 9))


class TestContribution:
    # The norms of its rows are 5, 0, 1, 2, 3, 4, 10, 13, 2.
    KERNEL = [
        [3, 4],
        [0, 0],
        [1, 0],
        [0, -2],
        [3, 0],
        [0, 4],
        [6, 8],
        [5, 12],
        [2, 0],
    ]

    def test_is_the_norm_of_the_kernels_rows(self):
        found = analysis.channel_contribution(small(kernel=self.KERNEL), "shift")
        np.testing.assert_allclose(
            40 * found.contributions, [5, 0, 1, 2, 3, 4, 10, 13, 2], rtol=1e-6
        )
        assert found.kernel == "project"
        sums = {(0, 0): 8, (0, 1): 7, (-1, 0): 10, (1, 0): 2, (2, -1): 13}
        assert found.by_displacement == pytest.approx(
            {pair: total / 40 for pair, total in sums.items()}
        )
        # A channel has 40 / 9 on average.
        assert found.relative == pytest.approx(
            {pair: total / COUNTS[pair] / (40 / 9) for pair, total in sums.items()}
        )

    def test_picture_is_the_grid_of_displacements(self):
        axes = labelled(
            analysis.channel_contribution(small(kernel=self.KERNEL), "shift").plot()
        )
        grid = np.ma.filled(axes.images[0].get_array(), np.nan)
        assert grid.shape == (5, 5)
        assert grid[2 + 2, 2 - 1] == pytest.approx(13 * 9 / 40)
        assert np.isnan(grid).sum() == 25 - len(COUNTS)
        assert "32.5%\n1 channel" in [text.get_text() for text in axes.texts]

    def test_a_gate_and_an_activation_may_be_between(self):
        style = zoo.blocks.BlockStyle(squeeze_excite="v2", squeeze_ratio=8)
        images = keras.Input((8, 8, 4))
        x = zoo.blocks.inverted_bottleneck(images, 4, 24, style, "unit")
        model = keras.Model(images, x)
        found = analysis.channel_contribution(model, "unit_shift")
        assert found.kernel == "unit_project" and len(found.contributions) == 24

    def test_refuses_what_no_1x1_convolution_follows(self):
        images = keras.Input((8, 8, 9))
        moved = shift()(images)
        for follower in (
            layers.Conv2D(2, 3),
            layers.Conv2D(3, 1, groups=3),
            layers.GlobalAveragePooling2D(),
        ):
            model = keras.Model(images, follower(moved))
            kind = type(follower).__name__
            with pytest.raises(ValueError, match=f"followed by .'{kind}'"):
                analysis.channel_contribution(model, "shift")
        with pytest.raises(ValueError, match="followed by nothing"):
            analysis.channel_contribution(keras.Model(images, moved), "shift")

    def test_refuses_subclassed_models(self):
        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.shift = shift()

            def call(self, x):
                return self.shift(x)

        model = Subclassed()
        model(np.zeros((1, 8, 8, 9)))
        with pytest.raises(ValueError, match="`model` must be a functional"):
            analysis.channel_contribution(model, "shift")

    def test_a_kernel_of_zeros(self):
        found = analysis.channel_contribution(small(kernel=np.zeros((9, 2))), "shift")
        np.testing.assert_allclose(found.contributions, 1 / 9)


@on_both
class TestReceptiveField:
    def test_is_where_the_shifts_look(self):
        """Two linear layers: what the central pixel depends on can be written down."""
        model = small(shift([[0, -1, 2] * 3, [0, 0, 1] * 3]))
        model.get_layer("expand").kernel.assign(np.ones((1, 1, 3, 9)))
        model.get_layer("project").kernel.assign(
            np.tile([[1.0], [-2.0], [4.0]], (3, 2))[None, None]
        )
        found = analysis.effective_receptive_field(
            model, "project", pixels(10, 8, 8, 3)
        )
        expected = np.zeros((8, 8))
        expected[4, 4], expected[3, 4], expected[6, 5] = 1 / 4, 2 / 4, 1
        np.testing.assert_allclose(found.gradient, expected, atol=1e-6)
        assert found.images == 10 and found.name == "project"
        weights, rows, columns = [1, 2, 4], [4, 3, 6], [4, 4, 5]
        for spread, positions in zip(found.spread, (rows, columns)):
            mean = np.average(positions, weights=weights)
            variance = np.average(np.square(positions - mean), weights=weights)
            assert spread == pytest.approx(np.sqrt(variance))

    def test_of_a_3x3_convolution_is_its_kernel(self):
        images = keras.Input((7, 7, 1))
        model = keras.Model(images, layers.Conv2D(1, 3, padding="same")(images))
        kernel = np.arange(1, 10).reshape(3, 3, 1, 1)
        model.layers[1].kernel.assign(kernel)
        found = analysis.effective_receptive_field(
            model, model.layers[1], pixels(2, 7, 7, 1)
        )
        np.testing.assert_allclose(
            found.gradient[2:5, 2:5], kernel[..., 0, 0] / 9, rtol=1e-6
        )
        assert found.gradient.sum() == pytest.approx(45 / 9)

    def test_shifts_make_it_wide(self):
        """A network of 1x1 convolutions sees the pixels of its pooling alone."""
        images = pixels(2, 16, 16, 3)
        spreads = []
        for spatial in ("sparse_shift", "none"):
            style = zoo.blocks.BlockStyle(spatial=spatial)
            x = inputs = keras.Input((16, 16, 3))
            for number in (1, 2):
                x = zoo.blocks.inverted_bottleneck(x, 9, 27, style, f"unit{number}")
            model = keras.Model(inputs, x)
            found = analysis.effective_receptive_field(
                model, "unit2_project_bn", images
            )
            spreads.append(found.spread)
        assert min(spreads[0]) > 0.5 and spreads[1] == (0, 0)

    def test_picture(self):
        found = analysis.effective_receptive_field(small(), "shift", pixels(1, 8, 8, 3))
        axes = labelled(found.plot())
        np.testing.assert_array_equal(axes.images[0].get_array(), found.gradient)

    def test_what_depends_on_no_pixel(self):
        model = small(kernel=np.zeros((9, 2)))
        found = analysis.effective_receptive_field(model, "project", pixels(1, 8, 8, 3))
        assert not found.gradient.any() and found.spread == (0, 0)

    def test_refuses_layers_without_a_map(self):
        images = keras.Input((8, 8, 3))
        model = keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(images))
        with pytest.raises(ValueError, match="output has height and width"):
            analysis.effective_receptive_field(model, "pool", pixels(1, 8, 8, 3))


class TestCollapse:
    def test_rank_of_channels_that_repeat_each_other(self):
        """Nine channels are sums of three colours, one of them of nothing."""
        model = small(shift(np.zeros((2, 9))))
        kernel = np.random.default_rng(0).normal(size=(3, 9))
        kernel[:, 8] = 0
        model.get_layer("expand").kernel.assign(kernel[None, None])
        model.get_layer("expand").bias.assign(np.full(9, 5.0))
        found = analysis.feature_collapse(model, pixels(10, 8, 8, 3), variance=1)
        # The first convolution takes in the image, which is left out.
        assert found.layers == ("project",) and found.images == 10
        assert list(found.channels) == [9] and list(found.ranks) == [3]
        assert found.shares == pytest.approx([1 / 3])

    def test_share_of_the_variance_by_hand(self):
        """Five channels of one colour, three of another and one of the third."""
        model = small(shift(np.zeros((2, 9))))
        kernel = np.zeros((3, 9))
        kernel[0, :5], kernel[1, 5:8], kernel[2, 8] = 1, -2, 3
        model.get_layer("expand").kernel.assign(kernel[None, None])
        values = np.random.default_rng(1).uniform(0, 255, (8, 8, 8, 3))
        ranks = {
            variance: int(analysis.feature_collapse(model, values, variance).ranks[0])
            for variance in (0.4, 0.8, 0.99)
        }
        # Uncorrelated colours make eigenvalues of about 5, 3 and 1, of 9.
        assert ranks == {0.4: 1, 0.8: 2, 0.99: 3}

    def test_every_convolution_behind_the_first_one(self):
        images = keras.Input((16, 16, 3))
        style = zoo.blocks.BlockStyle()
        x = zoo.blocks.convolution(images, 8, 3, style, "stem")
        x = zoo.blocks.fe_block(x, 8, 2, lambda c, f: 2 * c, style, "block")
        found = analysis.feature_collapse(keras.Model(images, x), pixels(3, 16, 16, 3))
        # The first unit of an FE-block takes in half of the channels.
        assert dict(zip(found.layers, found.channels)) == {
            "block_unit1_expand": 4,
            "block_unit1_project": 8,
            "block_unit2_expand": 8,
            "block_unit2_project": 16,
        }
        assert list(found.pixels) == 4 * [3 * 16 * 16]
        few = dataclasses.replace(found, pixels=np.array([39, 80, 79, 160]))
        axes = labelled(few.plot())
        # The first container has the bars of all channels.
        enough, fewer = (
            [(round(bar.get_center()[1]), bar.get_width()) for bar in container]
            for container in axes.containers[1:]
        )
        shares = list(enumerate(100 * found.shares))
        assert enough == [pytest.approx(shares[row]) for row in (1, 3)]
        assert fewer == [pytest.approx(shares[row]) for row in (0, 2)]

    def test_features_that_never_change(self):
        model = small()
        model.get_layer("expand").kernel.assign(np.zeros((1, 1, 3, 9)))
        found = analysis.feature_collapse(model, pixels(1, 8, 8, 3))
        assert list(found.ranks) == [0]

    def test_refusals(self):
        for variance in (0, 1.1):
            with pytest.raises(ValueError, match=f"Received: variance={variance}"):
                analysis.feature_collapse(small(), pixels(1, 8, 8, 3), variance)
        images = keras.Input((8, 8, 3))
        alone = keras.Model(images, layers.Conv2D(3, 1)(images))
        with pytest.raises(ValueError, match="convolutions behind the first"):
            analysis.feature_collapse(alone, pixels(1, 8, 8, 3))
        two = keras.Model([images, keras.Input((8, 8, 3))], images)
        with pytest.raises(ValueError, match="one input"):
            analysis.feature_collapse(two, pixels(1, 8, 8, 3))


class TestHistory:
    LOG = (
        "epoch,steps,accuracy,loss,val_accuracy,shift_sparsity\n"
        "1,390,0.25,3,0.125,0.5\n"
        "2,780,0.5,2,0.375,0.75\n"
    )

    def test_reads_logs_where_trainings_write_them(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "log.csv").write_text(self.LOG)
        published = tmp_path / "net.log.csv"
        published.write_text(self.LOG)
        names = {
            folder: "run",
            folder / "log.csv": "run",
            folder / "weights.weights.h5": "run",
            published: "net",
            tmp_path / "net.weights.h5": "net",
        }
        for path, name in names.items():
            history = analysis.training_history(path)
            assert history.name == name
            assert list(history.steps) == [390, 780]
            assert list(history.accuracy) == [0.25, 0.5]
            assert list(history.val_accuracy) == [0.125, 0.375]
            assert list(history.shift_sparsity) == [0.5, 0.75]

    def test_picture_is_in_per_cent(self, tmp_path):
        (tmp_path / "log.csv").write_text(self.LOG)
        axes = labelled(analysis.training_history(tmp_path).plot())
        drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        assert drawn == {
            "accuracy, held-out images": [12.5, 37.5],
            "accuracy, training images": [25, 50],
            "unshifted channels": [50, 75],
        }

    def test_networks_without_shifts(self, tmp_path):
        rows = [line.rpartition(",")[0] for line in self.LOG.splitlines()]
        (tmp_path / "log.csv").write_text("\n".join(rows))
        history = analysis.training_history(tmp_path)
        assert history.shift_sparsity is None and len(history.plot().lines) == 2

    @pytest.mark.parametrize(
        "text", [None, "", "epoch,steps\n1,2\n", LOG[:60], LOG + "3,1170,half\n"]
    )
    def test_damaged_logs(self, text, tmp_path):
        if text is not None:
            (tmp_path / "log.csv").write_text(text)
        with pytest.raises(ValueError, match="`log` must be the path.*Received: log="):
            analysis.training_history(tmp_path)


def test_pictures_without_matplotlib_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install .keras-shift\[plot\]"):
        analysis.plot_shifts(built(shift()))
