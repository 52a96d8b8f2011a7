"""The table of a model's layers, against counts made by hand."""

import csv
import io
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_shift
from keras_shift.analysis import multiply_adds, summary
from keras_shift.layers import ActiveShift2D, GroupedShift2D, SparseShift2D
from networks import pixels, predict

COUNTS = json.loads(
    (Path(__file__).parent / "data" / "expected_counts.json").read_text()
)


def small(shift=None, size=(10, 8), channels=6):
    """A stem, a shift and a classifier."""
    images = keras.Input((*size, 3), name="image")
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name="stem")(images)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = (shift or SparseShift2D(name="shift"))(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(4, name="classifier")(x), name="small")


def rows(result):
    return {layer.name: layer for layer in result.layers}


class TestCounts:
    @pytest.mark.tensorflow
    @pytest.mark.parametrize(
        "row, arguments",
        [("fenet_1.0", {}), ("fenet_1.0_dw_bn", {"spatial": "depthwise"})],
    )
    def test_fenet_is_the_papers(self, row, arguments):
        result = summary(keras_shift.zoo.FENet(**arguments))
        expected = COUNTS[row]
        kinds = ("weights", "biases", "bn_trainable")
        assert result.multiply_adds == expected["madds"]
        assert result.parameters == sum(expected[kind] for kind in kinds)
        assert result.displacements == expected["shift"]
        assert result.moving_statistics == expected["bn_moving"]
        if row == "fenet_1.0":
            assert (result.multiply_adds, result.parameters) == (299676320, 3524544)

    def test_layers_by_hand(self):
        found = {
            name: (row.parameters, row.multiply_adds, row.output_shape)
            for name, row in rows(summary(small())).items()
        }
        assert found == {
            "stem": (3 * 3 * 3 * 6, 10 * 8 * 3 * 3 * 3 * 6, (None, 10, 8, 6)),
            "bn": (2 * 6, 0, (None, 10, 8, 6)),
            "relu": (0, 0, (None, 10, 8, 6)),
            "shift": (0, 0, (None, 10, 8, 6)),
            "pool": (0, 0, (None, 6)),
            "classifier": (6 * 4 + 4, 6 * 4, (None, 4)),
        }

    def test_totals_are_keras_own(self):
        model = small()
        result = summary(model)
        assert result.displacements == 2 * 6
        assert result.moving_statistics == 2 * 6
        assert (
            result.parameters + result.displacements + result.moving_statistics
            == model.count_params()
        )
        assert result.multiply_adds == multiply_adds(model)
        assert result.float32_bytes == 4 * result.parameters
        assert result.int8_bytes == result.parameters

    def test_frozen_models_have_the_same_parameters(self):
        model = small()
        learning = summary(model)
        model.trainable = False
        assert summary(model) == learning

    def test_statistics_of_the_images_are_no_parameters(self):
        normalization = layers.Normalization()
        normalization.adapt(pixels(4, 8, 8, 3))
        model = keras.Sequential([keras.Input((8, 8, 3)), normalization])
        assert summary(model).parameters == 0

    def test_nested_models_and_shared_layers(self):
        shift = GroupedShift2D(name="shift")
        backbone = keras.Sequential(
            [
                keras.Input((None, None, 3)),
                layers.Conv2D(6, 1, name="stem"),
                shift,
            ],
            name="backbone",
        )
        left, right = keras.Input((10, 8, 3)), keras.Input((5, 4, 3))
        outputs = [keras.ops.mean(backbone(x), (1, 2)) for x in (left, right)]
        result = summary(keras.Model([left, right], outputs))
        stem, shifted, *means = result.layers
        assert (stem.name, stem.calls) == ("backbone/stem", 2)
        assert set(stem.output_shape) == {(None, 10, 8, 6), (None, 5, 4, 6)}
        assert stem.multiply_adds == (10 * 8 + 5 * 4) * 3 * 6
        assert stem.parameters == 3 * 6 + 6
        assert (shifted.name, shifted.shift_channels) == ("backbone/shift", 6)
        assert [mean.layer_class for mean in means] == ["Mean", "Mean"]
        assert result.shift_channels == 6
        assert "backbone/stem (2 calls)" in str(result)

    def test_several_outputs(self):
        class Halves(layers.Layer):
            def call(self, x):
                return keras.ops.split(x, 2, axis=-1)

        images = keras.Input((8, 8, 6))
        model = keras.Model(images, Halves()(images))
        (row,) = summary(model).layers
        assert row.output_shape == ((None, 8, 8, 3), (None, 8, 8, 3))
        assert "Total" in str(summary(model))

    def test_image_size(self):
        model = small(size=(None, None))
        assert summary(model, (10, 8, 3)).layers == summary(small()).layers
        with pytest.raises(ValueError, match="pass `input_shape`.*Received"):
            summary(model)

    def test_unknown_layers(self):
        model = keras.Sequential([keras.Input((8, 3)), layers.LSTM(4)])
        with pytest.raises(ValueError, match="class LSTM"):
            summary(model)


class TestShifts:
    DISPLACEMENTS = np.array(
        [[0.0, 0.4, -0.5, 1.0, 0.6, -2.6], [0.0, 0.5, 0.2, -1.0, -1.4, 7.0]], "float32"
    )
    ROUNDED = {(0, 0): 3, (1, -1): 2, (-3, 7): 1}

    def model(self, layer_class, **arguments):
        model = small(layer_class(name="shift", **arguments))
        model.get_layer("shift").displacements.assign(self.DISPLACEMENTS)
        return model

    def test_rounded_displacements(self):
        result = summary(self.model(SparseShift2D))
        shift = rows(result)["shift"]
        assert shift.histogram == self.ROUNDED
        assert [*shift.histogram] == [*self.ROUNDED]
        assert shift.unshifted == 0.5
        assert (result.histogram, result.unshifted) == (self.ROUNDED, 0.5)
        assert "(0,0): 3, (1,-1): 2, (-3,7): 1." in str(result)

    def test_bound(self):
        shift = rows(summary(self.model(SparseShift2D, max_displacement=2)))["shift"]
        assert shift.histogram == {(0, 0): 3, (1, -1): 2, (-2, 2): 1}

    def test_interpolation_has_no_histogram(self):
        result = summary(self.model(ActiveShift2D))
        shift = rows(result)["shift"]
        assert shift.histogram is None and result.histogram is None
        assert shift.unshifted == pytest.approx(1 / 6)
        assert shift.displacements == 2 * 6
        assert "rounded displacement" not in str(result)

    def test_fixed_displacements(self):
        model = small(GroupedShift2D(3, name="shift"), channels=18)
        shift = rows(summary(model))["shift"]
        window = {(y, x): 2 for y in (-1, 0, 1) for x in (-1, 0, 1)}
        assert shift.histogram == window
        assert (shift.displacements, shift.shift_channels) == (0, 18)

    def test_total_weighs_channels(self):
        images = keras.Input((8, 8, 4))
        wide = SparseShift2D(displacement_initializer="ones")(
            layers.Conv2D(12, 1)(images)
        )
        narrow = SparseShift2D(displacement_initializer="zeros")(images)
        result = summary(keras.Model(images, [wide, narrow]))
        assert result.unshifted == 4 / (12 + 4)
        assert result.histogram == {(1, 1): 12, (0, 0): 4}

    def test_without_shifts(self):
        model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1)])
        result = summary(model)
        assert (result.unshifted, result.histogram) == (None, None)
        assert "nshifted" not in str(result) and "displacement" not in str(result)

    def test_diverged_training(self):
        model = small()
        broken = self.DISPLACEMENTS.copy()
        broken[0, :2] = np.nan, np.inf
        model.get_layer("shift").displacements.assign(broken)
        result = summary(model)
        assert sum(result.histogram.values()) == 6
        assert result.unshifted_channels == 1
        assert "nan" in str(result) and "inf" in str(result)


class TestOutput:
    def test_printed_table_fits_80_columns(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        text = str(summary(small(channels=18)))
        assert max(map(len, text.split("\n"))) <= 80
        assert text.startswith(
            "small: 38,952 MAdds, 598 parameters and 36 displacements"
        )
        (total,) = [line for line in text.split("\n") if line.startswith(" Total")]
        assert total.split() == ["Total", "598", "38,952", "11.1%"]
        # How each is counted.
        for word in ("MAdds:", "Parameters:", "Size", "36 moving statistics", "(2)"):
            assert word in text
        assert "relu" not in text

    def test_long_names_fold_in_a_terminal_only(self, monkeypatch):
        name = "a" * 70
        model = keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Conv2D(4, 1, name=name)]
        )
        monkeypatch.setenv("COLUMNS", "80")
        narrow = str(summary(model))
        assert name not in narrow and max(map(len, narrow.split("\n"))) <= 80
        monkeypatch.delenv("COLUMNS")
        assert name in str(summary(model))

    def test_names_are_text(self):
        convolution = layers.Conv2D(4, 1, name="conv[bold]:smile:")
        model = keras.Sequential([keras.Input((8, 8, 3)), convolution])
        assert "conv[bold]:smile:" in str(summary(model))

    def test_csv(self, tmp_path):
        result = summary(small(channels=18))
        text = result.to_csv(tmp_path / "small.csv")
        assert (tmp_path / "small.csv").read_text() == text == result.to_csv()
        assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]
        table = list(csv.DictReader(io.StringIO(text)))
        assert [row["name"] for row in table] == [row.name for row in result.layers]
        for column in ("parameters", "displacements", "multiply_adds", "int8_bytes"):
            total = sum(int(row[column]) for row in table)
            assert total == getattr(result, column)
        (shift,) = [row for row in table if row["name"] == "shift"]
        assert shift["layer_class"] == "SparseShift2D"
        assert shift["output_shape"] == "(None, 10, 8, 18)"
        assert float(shift["unshifted"]) == pytest.approx(1 / 9)
        assert shift["histogram"].startswith("-1 -1: 2; -1 0: 2; ")

    def test_markdown(self, tmp_path):
        result = summary(small(channels=18))
        text = result.to_markdown(tmp_path / "small.md")
        assert (tmp_path / "small.md").read_text() == text
        headline, table, *notes = text.split("\n\n")
        assert headline == str(result).split("\n")[0]
        lines = table.split("\n")
        assert set(lines[1]) == {"|", "-"}
        assert {line.count("|") for line in lines} == {6}
        assert lines[-1].split() == "| Total | | 598 | 38,952 | 11.1% |".split()
        assert len(lines) == 2 + len(["stem", "bn", "shift", "classifier"]) + 1
        assert notes[0].startswith("MAdds: ")

    def test_nothing_is_left_of_a_file_that_cannot_be_written(self, tmp_path):
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError):
            summary(small(channels=18)).to_csv(tmp_path / "folder")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_the_model_still_works(self):
        model = small()
        images = pixels(2, 10, 8, 3)
        before = predict(model, images)
        summary(model)
        np.testing.assert_array_equal(predict(model, images), before)
