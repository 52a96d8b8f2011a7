"""SegmentationNet, and the example that trains and exports it."""

import csv
import io

import keras
import numpy as np
import pytest

from keras_shift import deploy
from keras_shift.analysis import multiply_adds
from keras_shift.deploy.lowering import lower_units
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import FENet, SegmentationNet
from networks import load_example, parameters, pixels, predict, randomize

pytestmark = pytest.mark.tensorflow


def small(input_shape=(64, 64, 3), features=(4, 8, 16), **arguments):
    backbone = FENet(input_shape, alpha=0.35, include_top=False, features=features)
    return SegmentationNet(backbone, **{"classes": 3, "filters": 16, **arguments})


def pyramid(levels, size=32):
    """A backbone of average pooling, by the levels of its maps."""
    images = keras.Input((size, size, 1))
    maps = {
        key: keras.layers.AveragePooling2D(2**level)(images)
        for key, level in levels.items()
    }
    return keras.Model(images, maps)


def plain(size=(48, 48), level=2, **arguments):
    """A network whose backbone is an average of `2**level` pixels squared."""
    images = keras.Input((*size, 1))
    maps = keras.layers.AveragePooling2D(2**level, padding="same")(images)
    backbone = keras.Model(images, {f"P{level}": maps})
    arguments = {"filters": 9, "classifier_activation": None, **arguments}
    keras.utils.set_random_seed(0)
    return randomize(SegmentationNet(backbone, 2, **arguments), off=0)


def enlarged(maps, factor, size):
    """Bilinear interpolation between the centres of a map's pixels, in NumPy."""
    for axis in (1, 2):
        length = maps.shape[axis]
        places = (np.arange(length * factor) + 0.5) / factor - 0.5
        places = places.clip(0, length - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(4)])
        above = np.take(maps, np.minimum(low + 1, length - 1), axis)
        maps = np.take(maps, low, axis) * (1 - share) + above * share
    return maps[:, : size[0], : size[1]]


class TestNetwork:
    @pytest.mark.parametrize("size", [(64, 64), (75, 100), (16, 16)])
    def test_every_pixel_has_probabilities(self, size):
        model = small((*size, 3))
        assert model.output_shape == (None, *size, 3)
        probabilities = predict(randomize(model), pixels(2, *size, 3))
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)

    def test_counts(self):
        """Counted by hand, for maps of 16, 8 and 4 pixels squared."""
        model = small(filters=10, expansion=3, dilation_rates=(1, 4), classes=7)
        backbone = FENet(
            (64, 64, 3), alpha=0.35, include_top=False, features=(4, 8, 16)
        )
        fine, middle, coarse = (maps.shape[-1] for maps in backbone.output.values())
        unit = 10 * 30 + 30 * 10
        head = 4**2 * (coarse * 10 + 2 * unit)
        head += 8**2 * (middle * 10 + unit)
        head += 16**2 * (fine * 10 + unit + 10 * 7)
        assert multiply_adds(model) == multiply_adds(backbone) + head
        kernels = (coarse + middle + fine) * 10 + 4 * unit + 10 * 7
        normalization = 2 * (3 * 10 + 4 * (30 + 10))
        assert (
            parameters(model.trainable_weights)
            == parameters(backbone.trainable_weights) + kernels + normalization + 7
        )
        twin = small(
            filters=10,
            expansion=3,
            dilation_rates=(1, 4),
            classes=7,
            spatial="depthwise",
        )
        places = 2 * 4**2 + 8**2 + 16**2
        assert multiply_adds(twin) == multiply_adds(model) + places * 9 * 30

    @pytest.mark.parametrize("rates", [(), (1,), (1, 2, 3), (5,)])
    @pytest.mark.parametrize("spatial", ["grouped_shift", "depthwise"])
    def test_dilated_units_see_as_far_as_their_rates_say(self, rates, spatial):
        model = plain(dilation_rates=rates, spatial=spatial, level=0, size=(31, 31))
        # One pixel of 31 changes, and so does every score that depends on it.
        images = pixels(2, 31, 31, 1)
        images[1] = images[0]
        images[1, 15, 15] = 255 - images[0, 15, 15]
        one, other = predict(model, images)
        changes = abs(one - other).max(-1)
        rows, columns = np.nonzero(changes > 1e-5 * changes.max())
        for places in (rows, columns):
            assert abs(places - 15).max(initial=0) == sum(rates)

    @pytest.mark.parametrize("size", [(48, 48), (45, 50)])
    @pytest.mark.parametrize("level", [1, 3])
    def test_scores_are_enlarged_where_they_are(self, size, level):
        model = plain(size, level)
        scores = keras.Model(model.input, model.get_layer("scores").output)
        images = pixels(2, *size, 1)
        np.testing.assert_allclose(
            predict(model, images),
            enlarged(predict(scores, images), 2**level, size),
            rtol=1e-3,
            atol=1e-3,
        )

    @pytest.mark.parametrize(
        "spatial", ["sparse_shift", "active_shift", "grouped_shift", "none"]
    )
    def test_what_exchanges_information(self, spatial):
        layers = small(spatial=spatial).layers
        own = [layer for layer in layers if layer.name.startswith(("context", "p"))]
        found = [layer.name for layer in own if layer.name.endswith("_shift")]
        units = [*(f"context_unit{index}" for index in (1, 2, 3)), "p3_unit", "p2_unit"]
        expected = [] if spatial == "none" else [f"{unit}_shift" for unit in units]
        assert found == expected

    def test_learned_shifts_start_like_grouped_ones(self):
        learned, fixed = (
            small(spatial=spatial) for spatial in ("sparse_shift", "grouped_shift")
        )
        assert len(shift_layers(learned)) == len(shift_layers(fixed))
        for name, reach in (("context_unit3_shift", 3), ("p2_unit_shift", 1)):
            displacements = learned.get_layer(name).displacement_array()
            np.testing.assert_array_equal(
                displacements, fixed.get_layer(name).displacement_array()
            )
            assert set(displacements.ravel()) == {-reach, 0, reach}

    def test_shares_the_backbone(self):
        backbone = FENet(
            (32, 32, 3), alpha=0.35, include_top=False, features=(4,), name="mine"
        )
        backbone.trainable = False
        model = SegmentationNet(backbone, 2)
        assert model.name == "mine_segmentation"
        assert model.get_layer("stem") is backbone.get_layer("stem")
        ours = {id(weight) for weight in model.trainable_weights}
        assert ours and not ours & {id(weight) for weight in backbone.weights}

    def test_every_trainable_parameter_gets_a_gradient(self):
        import tensorflow as tf

        keras.utils.set_random_seed(0)
        model = small(classifier_activation=None)
        labels = np.random.default_rng(0).integers(0, 3, (4, 64, 64))
        with tf.GradientTape() as tape:
            scores = model(pixels(4, 64, 64, 3), training=True)
            loss = keras.losses.sparse_categorical_crossentropy(
                labels, scores, from_logits=True
            )
        weights = model.trainable_weights
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        for weight, gradient in zip(weights, gradients):
            assert gradient is not None and np.any(gradient != 0), weight.path

    def test_saving(self, tmp_path):
        model = randomize(small((75, 64, 3)))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        images = pixels(1, 75, 64, 3)
        np.testing.assert_array_equal(predict(loaded, images), predict(model, images))

    def test_channels_first(self):
        keras.config.set_image_data_format("channels_first")
        try:
            model = small((3, 75, 64))
        finally:
            keras.config.set_image_data_format("channels_last")
        assert model.output_shape == (None, 75, 64, 3)
        weights = [weight.shape for weight in small((75, 64, 3)).weights]
        assert [weight.shape for weight in model.weights] == weights

    def test_scores_are_float32_under_mixed_precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = small()
        finally:
            keras.config.set_dtype_policy(before)
        assert model.output.dtype == "float32"
        assert model.get_layer("p2_add").compute_dtype == "bfloat16"

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"classes": 0}, "`classes`.*classes=0"),
            ({"filters": 1.5}, "`filters`.*filters=1.5"),
            ({"expansion": 0}, "`expansion`.*expansion=0"),
            ({"dilation_rates": 2}, "`dilation_rates`.*dilation_rates=2"),
            ({"dilation_rates": (1, 0)}, "`dilation_rates`.*dilation_rates=0"),
            ({"spatial": "shift"}, "`spatial`.*spatial=shift"),
            ({"batch_norm_momentum": 2}, "`batch_norm_momentum`.*=2"),
        ],
    )
    def test_message_names_the_argument_and_what_was_received(self, arguments, message):
        with pytest.raises(ValueError, match="(?s)" + message):
            SegmentationNet(pyramid({"P1": 1}), **{"classes": 2, **arguments})

    @pytest.mark.parametrize(
        "levels, size, message",
        [
            ({"stem": 1}, 32, r"include_top=False, features.*\['stem'\]"),
            ({"P1": 2}, 32, r"\(16, 16\) as 'P1'.*\(32, 32\).*\(8, 8, 1\)"),
            ({"P1": 1}, None, r"known height and width.*\(None, None, 1\)"),
        ],
    )
    def test_refuses_other_maps(self, levels, size, message):
        with pytest.raises(ValueError, match="(?s)`backbone`.*" + message):
            SegmentationNet(pyramid(levels, size), 2)

    def test_refuses_what_has_no_maps(self):
        class Subclassed(keras.Model):
            def call(self, x):
                return {"P1": x}

        images = keras.Input((32, 32, 1))
        not_built = keras.Sequential([keras.layers.ReLU()])
        called = Subclassed()
        called(images)
        for backbone in (keras.Model(images, images), "fenet", not_built, called):
            with pytest.raises(ValueError, match="(?s)`backbone`.*include_top=False"):
                SegmentationNet(backbone, 2)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT's converter is TensorFlow's"
)
class TestExport:
    @pytest.mark.parametrize("size", [(64, 64), (75, 52)])
    def test_files_agree_with_keras(self, size, tmp_path):
        model = randomize(small((*size, 3), classifier_activation=None), off=0)
        images = pixels(4, *size, 3)
        report = deploy.to_tflite(model, tmp_path / "a.tflite", None, images)
        assert not report.not_builtin and report.left_alone == ()
        assert report.partitions in (1, None)
        # Those of the backbone, and one for each unit of the head.
        names = [name for name in report.units if name.startswith(("context", "p"))]
        assert len(names) == 5
        expected = predict(model, images)
        found = deploy.LiteRTModel(report.path).predict(images)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-4 * scale)
        # Of maps, it is the pixels that have a top-1.
        same = found.argmax(-1) == expected.argmax(-1)
        assert report.agreement.top1 == same.mean() > 0.99
        assert f"{same.mean():.1%} of the pixels of 4 images" in str(report)

    def test_dilated_shifts_have_no_more_taps(self):
        lowered = lower_units(small()).model
        convolutions = {
            layer.name: (layer.kernel_size, layer.dilation_rate)
            for layer in lowered.layers
            if layer.name.startswith("context") and "_shift" in layer.name
        }
        assert convolutions == {
            f"context_unit{rate}_expand_part1_shift{index + 1}": (size, (rate, rate))
            for rate in (1, 2, 3)
            for index, size in enumerate([(3, 1), (1, 3)])
        }


@pytest.fixture(scope="module")
def example():
    for name in ("matplotlib", "sklearn"):
        pytest.importorskip(name)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT's converter is TensorFlow's")
    return load_example("segmentation")


def png(array):
    """A PNG file's content."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def write(folder, count=10, size=(20, 24), classes=3):
    """A folder of images whose pixels are 80 times the class, and of masks."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(count):
        mask = np.repeat(random.integers(0, classes, size[0]), size[1])
        mask = mask.reshape(size).astype("uint8")
        image = np.repeat(80 * mask[..., None], 3, axis=-1)
        (folder / "images" / f"{number}.png").write_bytes(png(image))
        (folder / "masks" / f"{number}.png").write_bytes(png(mask))
    return folder


def numpy_mean_iou(masks, predicted, classes):
    shares = []
    for number in range(classes):
        true, found = masks == number, (predicted == number) & (masks != 255)
        if (true | found).any():
            shares.append((true & found).sum() / (true | found).sum())
    return np.mean(shares)


class TestData:
    def test_digits(self, example):
        arguments = example.parse(["--images", "40", "--image-size", "48"])
        data = example.digits(arguments)
        assert data.images.shape == (35, 48, 48, 3) and data.images.dtype == "uint8"
        assert data.held_out_masks.shape == (5, 48, 48)
        assert len(data.classes) == 6 and data.masks.max() == 5
        again = example.digits(arguments)
        np.testing.assert_array_equal(again.images, data.images)
        np.testing.assert_array_equal(again.held_out_masks, data.held_out_masks)
        # Every image has a digit, whose pixels are some of it and not most.
        shares = (data.masks > 0).mean((1, 2))
        assert 0.01 < shares.min() and shares.max() < 0.5

    def test_folder(self, example, tmp_path):
        write(tmp_path)
        data = example.folder(tmp_path, example.parse(["--image-size", "20"]))
        assert data.images.shape == (8, 20, 20, 3)
        assert data.held_out_masks.shape == (2, 20, 20)
        assert data.classes == ["class 0", "class 1", "class 2"]
        np.testing.assert_array_equal(data.images[..., 1], 80 * data.masks)
        # Resizing blurs images, but never masks.
        larger = example.folder(tmp_path, example.parse(["--image-size", "37"]))
        assert larger.images.shape == (8, 37, 37, 3)
        assert set(np.unique(larger.masks)) == {0, 1, 2}
        assert len(np.unique(larger.images)) > 3

    def test_names_and_pixels_that_do_not_count(self, example, tmp_path):
        write(tmp_path)
        mask = np.full((20, 24), 255, "uint8")
        (tmp_path / "masks" / "3.png").write_bytes(png(mask))
        (tmp_path / "names.txt").write_text("ash\nbirch\ncedar\n")
        names = ["--class-names", str(tmp_path / "names.txt")]
        data = example.folder(tmp_path, example.parse([str(tmp_path), *names]))
        assert data.classes == ["ash", "birch", "cedar"]
        masks = np.concatenate([data.masks, data.held_out_masks])
        assert (masks == 255).all((1, 2)).sum() == 1
        assert example.majority(masks) < 3

    def test_tfds(self, example, monkeypatch):
        """Masks that count from one, as those of Oxford-IIIT Pet do."""
        tfds = pytest.importorskip("tensorflow_datasets")
        import tensorflow as tf

        masks = np.random.default_rng(0).integers(1, 4, (9, 20, 30, 1)).astype("uint8")
        examples = {"image": np.repeat(masks, 3, -1), "segmentation_mask": masks}
        split = tf.data.Dataset.from_tensor_slices(examples)

        class Info:
            features = dict.fromkeys(examples)
            splits = dict.fromkeys(("train", "test"), type("", (), {"num_examples": 9}))

        monkeypatch.setattr(
            tfds,
            "load",
            lambda name, with_info: ({"train": split, "test": split}, Info),
        )
        data = example.tfds_dataset("pets", example.parse(["pets", "--images", "5"]))
        assert data.images.shape == (5, 64, 64, 3)
        assert data.held_out_masks.shape == (1, 64, 64)
        assert data.classes == ["class 0", "class 1", "class 2"]

    def test_mean_iou_is_that_of_its_formula(self, example):
        random = np.random.default_rng(0)
        masks = random.integers(0, 4, (3, 9, 8))
        masks[random.random(masks.shape) < 0.1] = 255
        predicted = np.where(random.random(masks.shape) < 0.5, masks % 4, 1)
        # There is no class 4, which therefore does not count.
        assert example.mean_iou(masks, predicted, 5) == pytest.approx(
            numpy_mean_iou(masks, predicted, 5)
        )


class TestErrors:
    @pytest.fixture
    def run(self, example, tmp_path, monkeypatch):
        """Runs the example on a folder, which never comes to a training."""

        def trained(*arguments):
            raise AssertionError("a training has begun")

        monkeypatch.setattr(example, "fit", trained)
        write(tmp_path, 3)
        output = tmp_path / "output"

        def run(*arguments):
            example.main([*arguments, "--output", str(output)])

        run.folder = tmp_path
        yield run
        assert not output.exists()

    @pytest.mark.parametrize(
        "name, content, message",
        [
            ("images/1.png", b"text", "1.png cannot be read as an image"),
            ("masks/1.png", b"text", "masks/1.png cannot be read as an image"),
            (
                "images/1.png",
                png(pixels(20, 24, 3).astype("uint8"))[:500],
                "images/1.png cannot be read as an image",
            ),
            (
                "images/1.png",
                png(np.zeros((9, 24, 3), "uint8")),
                "1.png has 24x9 pixels, .* stride of 16",
            ),
            (
                "masks/1.png",
                png(np.zeros((24, 20), "uint8")),
                "1.png has 24x20 pixels, .* has 20x24: .* the same size",
            ),
            (
                "masks/1.png",
                png(np.zeros((20, 24, 3), "uint8")),
                "masks/1.png must have one class number .* mode RGB",
            ),
            ("masks/1.png", None, "images/1.png has no mask"),
        ],
    )
    def test_a_bad_file_is_named_before_the_training(self, run, name, content, message):
        path = run.folder / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(SystemExit, match=f"(?s)segmentation.py: .*{message}"):
            run(str(run.folder))

    def test_more_classes_than_names(self, run):
        names = run.folder / "names.txt"
        names.write_text("ash\nbirch\n")
        with pytest.raises(SystemExit, match="names 2 classes.*numbers go up to 2"):
            run(str(run.folder), "--class-names", str(names))

    def test_no_such_source(self, run, monkeypatch):
        with pytest.raises(SystemExit, match="There is no folder a/b"):
            run("a/b")
        with pytest.raises(SystemExit, match="images must hold two images.*Found: 0"):
            run(str(run.folder / "images"))
        tfds = pytest.importorskip("tensorflow_datasets")

        def load(name, with_info):
            raise ValueError(f"There is no {name}.\nThere are:\n\t- mnist")

        monkeypatch.setattr(tfds, "load", load)
        with pytest.raises(SystemExit, match="neither.*There is no no_such_set.$"):
            run("no_such_set")

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["--image-size", "8"], "--image-size must be 16, the stride, or more"),
            (["--images", "1"], "--images must be 2 or more"),
            (["--epochs", "0"], "--epochs must be 1 or more"),
            (["--sizes", "1e3"], "1e3 is no size such as 224 or 3840x2160"),
            (["--class-names", "a.txt"], "--class-names is for"),
        ],
    )
    def test_of_the_command_line(self, run, arguments, message, capsys):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert message in capsys.readouterr().err

    def test_sizes(self, example):
        arguments = example.parse(["--sizes", "224", "3840x2160"])
        assert arguments.sizes == [(224, 224), (3840, 2160)]


class TestMain:
    @pytest.mark.exhaustive
    def test_learns_and_says_the_truth(self, example, tmp_path, monkeypatch, capsys):
        """Squares that are bright or dark, by a backbone of three convolutions."""
        from PIL import Image

        def backbone(input_shape, features, **arguments):
            images = x = keras.Input(input_shape)
            maps = {}
            for strides, key in zip((4, 2, 2), ("P2", "P3", "P4")):
                x = keras.layers.Conv2D(8, 3, strides, "same", activation="relu")(x)
                maps[key] = x
            return keras.Model(images, maps)

        def squares(arguments):
            random = np.random.default_rng(arguments.seed)
            images = random.integers(90, 150, (80, 32, 32, 3)).astype("uint8")
            masks = np.zeros((80, 32, 32), "uint8")
            for image, mask in zip(images, masks):
                top, left = random.integers(20, size=2)
                place = np.s_[top : top + 12, left : left + 12]
                mask[place] = random.integers(1, 3)
                image[place] = 235 if mask[place].max() == 1 else 20
            return example.Data(
                "squares",
                images[16:],
                masks[16:],
                images[:16],
                masks[:16],
                ["background", "bright", "dark"],
            )

        monkeypatch.setattr(example, "digits", squares)
        monkeypatch.setattr(example.keras_shift.zoo, "FENet", backbone)
        output = tmp_path / "new" / "folder"
        options = "--weights random --epochs 12 --batch-size 8"
        options += " --learning-rate 0.01 --sizes 40 --output"
        example.main([*options.split(), str(output)])
        files = {
            f"segmentation_{head}{ending}"
            for head in ("shifts", "depthwise")
            for ending in (".keras", "_float32.tflite", "_int8.tflite")
        }
        assert {path.name for path in output.iterdir()} == files | {
            "results.csv",
            "segmentation.png",
        }
        with open(output / "results.csv") as file:
            always, shifts, depthwise = csv.DictReader(file)
        data = squares(example.parse([]))
        masks = data.held_out_masks
        lowest = float(always["Keras mean IoU"])
        assert always["network"] == "always background"
        assert lowest == pytest.approx(numpy_mean_iou(masks, np.zeros_like(masks), 3))
        for row in (shifts, depthwise):
            name = f"segmentation_{row['network']}"
            model = keras.saving.load_model(output / f"{name}.keras")
            predicted = predict(model, data.held_out_images).argmax(-1)
            mean_iou = numpy_mean_iou(masks, predicted, 3)
            assert float(row["Keras mean IoU"]) == pytest.approx(mean_iou, abs=1e-3)
            assert mean_iou > 2 * lowest
            for kind, least in (("float32", 0.999), ("int8", 0.95)):
                lite = deploy.LiteRTModel(output / f"{name}_{kind}.tflite")
                assert not lite.not_builtin
                answers = lite.predict(data.held_out_images).argmax(-1)
                same = float(row[f"{kind} same class as Keras"])
                assert same == pytest.approx(np.mean(answers == predicted), abs=1e-3)
                assert same >= least
                assert float(row[f"{kind} mean IoU"]) == pytest.approx(
                    numpy_mean_iou(masks, answers, 3), abs=1e-3
                )
                assert float(row[f"40x40 {kind} ms"]) > 0
        with Image.open(output / "segmentation.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 300
        table = capsys.readouterr().out.split("squares, 32x32 pixels")[-1]
        for text in (f"{lowest:.1%}", "always background", "Keras mean IoU"):
            assert text in table

    def test_interruption(self, example, tmp_path, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(example, "fit", interrupt)
        with pytest.raises(SystemExit, match="Interrupted"):
            example.main(["--images", "8", "--output", str(tmp_path)])
        assert list(tmp_path.iterdir()) == []
