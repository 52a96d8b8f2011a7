"""The example: its maps of networks made by hand, its picture, and what it refuses."""

import importlib.util
import sys

import keras
import numpy as np
import pytest

import keras_shift
from marks import exhaustive
from networks import ROOT, pixels, predict

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf-keras-vis needs TensorFlow", allow_module_level=True)
pytest.importorskip("tf_keras_vis")
pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


def load_example():
    path = ROOT / "examples" / "explain.py"
    spec = importlib.util.spec_from_file_location("explain", path)
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for it.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@pytest.fixture
def example(monkeypatch):
    module = load_example()
    monkeypatch.setattr(module, "NOISY_COPIES", 2)
    return module


def classifier(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers], name="by_hand")


def red_or_blue(certainty):
    """Class 0 depends on how much of an image is red, class 1 on what is blue."""
    model = classifier(
        keras.layers.Conv2D(2, 4, strides=4, use_bias=False, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, use_bias=False, activation="softmax"),
        shape=(32, 32, 3),
    )
    kernel = np.zeros((4, 4, 3, 2))
    kernel[:, :, 0] = [1, -1]
    kernel[:, :, 2] = [-1, 1]
    model.set_weights([kernel / 16, certainty * np.eye(2)])
    return model


class TestGradCAM:
    RED = np.s_[4:12, 8:16]
    BLUE = np.s_[20:28, 16:28]

    def image(self):
        image = np.full((32, 32, 3), 90, "float32")
        image[self.RED] = [250, 20, 20]
        image[self.BLUE] = [20, 20, 250]
        return image

    # The last one's logits are in the ten thousands; exp(89) is infinite.
    @pytest.mark.parametrize("certainty", [1e-3, 1, 1e3])
    def test_is_largest_on_what_the_class_depends_on(self, example, certainty):
        model = red_or_blue(certainty)
        images = np.stack([self.image(), self.image()[:, ::-1]])
        for class_index, patch in [(0, self.RED), (1, self.BLUE)]:
            inside = np.zeros((32, 32), bool)
            inside[patch] = True
            straight, mirrored = example.explain(model, images, explained=class_index)
            for found, expected in [
                (straight.grad_cam, inside),
                (mirrored.grad_cam, inside[:, ::-1]),
            ]:
                assert found.shape == (32, 32)
                assert found.max() == 1 and found.min() == 0
                # A map of 8x8: a patch's corner is 0.39, the pixel beside it 0.375.
                np.testing.assert_array_equal(found > 0.38, expected)

    def test_formula(self, example):
        """With global average pooling, it is the positive weights' sum of features."""
        model = classifier(
            keras.layers.Conv2D(6, 1, activation="relu", name="features"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax"),
        )
        images = pixels(5, 8, 8, 3)  # more than a batch
        features = predict(keras.Model(model.inputs[0], model.layers[0].output), images)
        weights = np.maximum(model.layers[-1].get_weights()[0], 0)
        explanations = list(example.explain(model, images))
        assert len(explanations) == 5
        for explanation, feature, scores in zip(
            explanations, features, predict(model, images)
        ):
            np.testing.assert_allclose(explanation.scores, scores, rtol=1e-4)
            assert explanation.explained == scores.argmax()
            expected = feature @ weights[:, explanation.explained]
            expected /= expected.max()
            np.testing.assert_allclose(explanation.grad_cam, expected, rtol=1e-3)

    def test_of_a_layer(self, example):
        keras.utils.set_random_seed(0)  # With some seeds, no channel is ever on.
        model = classifier(
            keras.layers.Conv2D(4, 1, activation="relu", name="first"),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="last"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        )
        images = pixels(1, 8, 8, 3)
        maps = {
            layer: next(example.explain(model, images, 0, layer)).grad_cam
            for layer in (None, "first", "last")
        }
        np.testing.assert_array_equal(maps[None], maps["last"])
        assert np.abs(maps["last"] - maps["first"]).max() > 0.1


def test_saliency_is_the_gradient(example):
    model = classifier(
        keras.layers.Rescaling(0.5),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    )
    weights = model.layers[-1].get_weights()[0].reshape(8, 8, 3, 3)
    (explanation,) = example.explain(model, pixels(1, 8, 8, 3), explained=1)
    expected = np.abs(weights[..., 1]).max(-1)
    np.testing.assert_allclose(
        explanation.saliency, expected / expected.max(), rtol=1e-4
    )


class TestNetworks:
    @pytest.mark.parametrize(
        ("last", "probabilities"),
        [
            ([keras.layers.Dense(3, activation="softmax")], keras.ops.softmax),
            ([keras.layers.Dense(3), keras.layers.Softmax()], keras.ops.softmax),
            (
                [keras.layers.Dense(3), keras.layers.Activation("softmax")],
                keras.ops.softmax,
            ),
            ([keras.layers.Dense(1, activation="sigmoid")], keras.ops.sigmoid),
            ([keras.layers.Dense(3)], lambda logits: logits),
        ],
        ids=["softmax", "Softmax", "Activation", "sigmoid", "logits"],
    )
    def test_with_logits(self, example, last, probabilities):
        layers = [type(layer).from_config(layer.get_config()) for layer in last]
        model = classifier(keras.layers.GlobalAveragePooling2D(), *layers)
        images = pixels(4, 8, 8, 3) / 255
        before = predict(model, images)
        logits = predict(example.with_logits(model), [images])
        np.testing.assert_allclose(probabilities(logits), before, rtol=1e-5)
        # The model given is as it was.
        np.testing.assert_array_equal(predict(model, images), before)

    @pytest.mark.parametrize("size", [exhaustive(32), None])
    def test_last_map(self, example, size):
        fenet = keras_shift.zoo.FENet((size, size, 3), alpha=0.125, classes=3)
        expected = "head_relu"
        if size:  # whose map is 1x1, and that of three blocks before it 2x2
            expected = example.last_map(fenet)
            assert fenet.get_layer(expected).output.shape[1:3] == (2, 2)
        assert example.last_map(fenet) == expected
        # A pooling that keeps its axes is no map, nor is what follows it.
        model = classifier(
            keras.layers.Conv2D(4, 3, name="features"),
            keras.layers.GlobalAveragePooling2D(keepdims=True),
            keras.layers.Conv2D(5, 1),
            keras.layers.Flatten(),
            shape=(size, size, 3) if size else (None, None, 3),
        )
        assert example.last_map(model) == "features"

    def test_no_map(self, example):
        model = classifier(keras.layers.Flatten(), keras.layers.Dense(2))
        with pytest.raises(SystemExit, match="by_hand has no map of features"):
            example.last_map(model)

    @pytest.mark.parametrize(
        ("shape", "layer", "message"),
        [
            ((8, 8, 1), keras.layers.GlobalAveragePooling2D, "shape .8, 8, 1."),
            ((8, 8, 4), keras.layers.GlobalAveragePooling2D, "shape .8, 8, 4."),
            ((8,), keras.layers.ReLU, "shape .8,."),
            ((8, 8, 3), keras.layers.ReLU, "by_hand classifies nothing"),
        ],
    )
    def test_others_are_refused(self, example, shape, layer, message):
        with pytest.raises(SystemExit, match=message):
            example.check_network(classifier(layer(), shape=shape))

    def test_two_inputs_are_refused(self, example):
        inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
        outputs = keras.layers.Flatten()(keras.layers.Add()(inputs))
        with pytest.raises(SystemExit, match="more than one input"):
            example.check_network(keras.Model(inputs, outputs))

    def test_a_model_within_a_model_is_refused(self, example):
        inner = classifier(keras.layers.Conv2D(2, 3))
        model = classifier(inner, keras.layers.GlobalAveragePooling2D())
        with pytest.raises(SystemExit, match="by_hand contains another model"):
            example.check_network(model)

    def test_an_operation_at_the_end_is_refused(self, example):
        images = keras.Input((8, 8, 3))
        logits = keras.layers.GlobalAveragePooling2D()(images)
        model = keras.Model(images, keras.ops.softmax(logits))
        with pytest.raises(SystemExit, match="ends in an operation"):
            example.check_network(model)

    @pytest.mark.parametrize("structure", ["list", "dict"])
    def test_inputs_of_any_structure(self, example, structure):
        images = keras.Input((8, 8, 3), name="image")
        features = keras.layers.Conv2D(2, 3)(images)
        outputs = keras.layers.GlobalAveragePooling2D()(features)
        inputs = [images] if structure == "list" else {"image": images}
        model = keras.Model(inputs, outputs)
        (explanation,) = example.explain(model, pixels(1, 8, 8, 3))
        assert explanation.grad_cam.shape == explanation.saliency.shape == (8, 8)

    @pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
    def test_mixed_precision(self, example, dtype):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            model = classifier(
                keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()
            )
        finally:
            keras.config.set_dtype_policy(before)
        (explanation,) = example.explain(model, pixels(1, 8, 8, 3))
        # Matplotlib shows no others.
        for array in (explanation.scores, explanation.grad_cam, explanation.saliency):
            assert array.dtype == "float32" and np.isfinite(array).all()

    def test_a_model_without_layers_is_refused(self, example):
        with pytest.raises(SystemExit, match="neither a functional nor a sequential"):
            example.check_network(keras.Model())


class TestImages:
    def test_cropped_around_the_centre(self, example, tmp_path):
        image = np.zeros((20, 40, 3), "uint8")
        image[:, 10:30] = [10, 100, 200]
        Image.fromarray(image).save(tmp_path / "wide.png")
        picture = example.read_image(tmp_path / "wide.png", 6, 6)
        assert picture.name == "wide.png"
        assert picture.pixels.shape == (6, 6, 3) and picture.pixels.dtype == "float32"
        # Resizing blurs the outermost columns.
        np.testing.assert_array_equal(
            picture.pixels[:, 1:-1], np.full((6, 4, 3), [10, 100, 200])
        )
        assert example.read_image(tmp_path / "wide.png", 5, 9).pixels.shape == (5, 9, 3)

    def test_turned_as_the_camera_was(self, example, tmp_path):
        image = Image.fromarray(np.repeat([[0], [255]], 8, axis=1).astype("uint8"))
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image.resize((8, 8), Image.Resampling.NEAREST).save(
            tmp_path / "turned.png", exif=exif
        )
        picture = example.read_image(tmp_path / "turned.png", 8, 8)
        assert (picture.pixels[:4] == 255).all() and (picture.pixels[4:] == 0).all()

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
    def test_every_kind_becomes_colour(self, example, tmp_path, mode):
        Image.new(mode, (8, 8), 1).save(tmp_path / "image.png")
        assert example.read_image(tmp_path / "image.png", 8, 8).pixels.shape[-1] == 3

    def test_class_folders_give_their_first_images(self, example, tmp_path):
        for name in ("ash/2.png", "ash/1.png", "birch/3.jpg", "birch/notes.txt"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        (tmp_path / "empty").mkdir()
        found = example.image_files([tmp_path])
        assert [file.name for file in found] == ["1.png", "3.jpg"]

    def test_folders(self, example, tmp_path):
        for name in ["b.png", "a.JPG", "notes.txt"]:
            (tmp_path / name).touch()
        assert example.image_files([tmp_path, "c.png"]) == [
            tmp_path / "a.JPG",
            tmp_path / "b.png",
            example.Path("c.png"),
        ]

    def test_too_many(self, example):
        with pytest.raises(SystemExit, match="101 images are too many"):
            example.image_files(["a.png"] * 101)

    @pytest.mark.parametrize("digits", [True, False])
    def test_samples_of_scikit_learn(self, example, digits):
        pytest.importorskip("sklearn")
        pictures = example.sample_images(digits, 16, 24)
        assert len(pictures) == (5 if digits else 2)
        for picture in pictures:
            assert picture.pixels.shape == (16, 24, 3)
            assert picture.pixels.max() > 200


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a network, a folder of two images, and files that are none."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = keras_shift.zoo.FENet((32, 32, 3), alpha=0.125, classes=3, output_stride=8)
    model.save(folder / "fenet.keras")
    tiny = classifier(
        keras.layers.Conv2D(4, 3, activation="relu", name="map"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(3, activation="softmax"),
        shape=(16, 24, 3),
    )
    tiny.save(folder / "tiny.keras")
    tiny.save_weights(folder / "tiny.weights.h5")
    (folder / "images").mkdir()
    for index, shape in enumerate([(40, 50, 3), (32, 32, 3)]):
        image = pixels(1, *shape, seed=index)[0].astype("uint8")
        Image.fromarray(image).save(folder / "images" / f"image{index}.png")
    whole = (folder / "images" / "image0.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not an image")
    (folder / "text.keras").write_text("not a network")
    (folder / "empty").mkdir()
    (folder / "names.txt").write_text("ash\nbirch\ncedar\n")
    (folder / "two_names.txt").write_text("ash\nbirch\n")
    return folder


class TestMain:
    @pytest.fixture
    def run(self, example, files, monkeypatch, tmp_path):
        """Runs the command line among the files; returns the figure it has drawn."""
        monkeypatch.chdir(files)
        drawn = []
        draw = example.draw

        def keep(*args, **kwargs):
            drawn.append(draw(*args, **kwargs))
            return drawn[-1]

        monkeypatch.setattr(example, "draw", keep)

        def run(*arguments):
            output = str(tmp_path / "new" / "explain.png")
            example.main(example.parse(["--output", output, *map(str, arguments)]))
            return drawn[-1]

        run.output = tmp_path / "new" / "explain.png"
        return run

    def test_writes_the_picture(self, run, files, capsys):
        figure = run("fenet.keras", "images", "--class-names", "names.txt")
        # A row for each image: itself, Grad-CAM++ on it, saliency.
        assert [len(panel.images) for panel in figure.axes] == [1, 2, 1] * 2
        for row, name in enumerate(["image0.png", "image1.png"]):
            panels = figure.axes[3 * row : 3 * row + 3]
            assert panels[0].get_ylabel() == name
            tree, score = panels[0].get_title().split(": ")
            assert tree in ("ash", "birch", "cedar") and score.endswith("%")
            titles = [panel.get_title() for panel in panels[1:]]
            assert titles == [f"Grad-CAM++ for {tree}", f"saliency for {tree}"]
        assert list(run.output.parent.iterdir()) == [run.output]
        with Image.open(run.output) as picture:
            assert picture.format == "PNG"
            assert picture.size == tuple(figure.get_size_inches() * figure.dpi // 1)
        # Square panels do not overlap, and lie within the picture.
        boxes = [panel.get_position() for panel in figure.axes]
        for left, right in zip(boxes[:2], boxes[1:3]):
            assert 0 < left.x0 and left.x1 < right.x0 and right.x1 < 1
        assert boxes[0].y0 > boxes[3].y1 and boxes[3].y0 > 0
        assert "fenet.keras, 32x32 pixels" in capsys.readouterr().out

    def test_class_and_layer(self, run):
        image = "images/image0.png"
        figure = run("tiny.keras", image, "--class", 2, "--layer", "map")
        assert len(figure.axes) == 3
        assert figure.axes[1].get_title() == "Grad-CAM++ for class 2"

    def test_random_weights_are_told(self, example, files, run, monkeypatch, capsys):
        def get_model(name, weights, classes):
            assert (name, weights, classes) == ("FENet", None, None)
            return classifier(
                keras.layers.Conv2D(4, 3),
                keras.layers.GlobalAveragePooling2D(),
                shape=(None, None, 3),
            )

        monkeypatch.setattr(keras_shift.zoo, "get_model", get_model)
        monkeypatch.setattr(example, "IMAGE_SIZE", 40)
        figure = run()  # with scikit-learn's photographs
        message = "FENet with random weights: the maps say nothing about classes"
        assert figure.texts[0].get_text() == message
        assert message in capsys.readouterr().out
        assert [panel.get_ylabel() for panel in figure.axes[::3]] == [
            "china.jpg",
            "flower.jpg",
        ]
        assert figure.axes[0].images[0].get_array().shape == (40, 40, 3)

    def test_demo_is_explained_where_it_has_run(self, example, run, monkeypatch):
        monkeypatch.setattr(example, "DEMO", example.Path("tiny.keras"))
        figure = run()
        assert figure.texts[0].get_text() == "tiny.keras, 24x16 pixels"
        assert figure.axes[0].get_ylabel() == "digit 0"

    def test_networks_of_the_zoo(self, example, files, monkeypatch):
        model = example.load_network("shiftresnet20_e3", classes=3)
        assert model.name == "shiftresnet20_e3" and model.output_shape == (None, 3)
        example.check_network(model)
        weights = files / "some.weights.h5"
        model.save_weights(weights)
        loaded = example.load_network("shiftresnet20_e3", str(weights), 3)
        images = pixels(1, 32, 32, 3)
        np.testing.assert_array_equal(predict(model, images), predict(loaded, images))

    def test_weights_of_a_file(self, example, files):
        model = keras.saving.load_model(files / "tiny.keras")
        trained = example.load_network(
            str(files / "tiny.keras"), weights=files / "tiny.weights.h5"
        )
        images = pixels(2, 16, 24, 3)
        np.testing.assert_array_equal(predict(model, images), predict(trained, images))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing.keras", "images"], "nothing.keras cannot be loaded"),
            (["text.keras", "images"], "text.keras cannot be loaded"),
            (["NoNet", "images"], "NoNet cannot be loaded.*"),
            (["tiny.keras", "none.png"], "none.png cannot be read as an image"),
            (["tiny.keras", "text.png"], "text.png cannot be read as an image"),
            (["tiny.keras", "half.png"], "half.png cannot be read as an image"),
            (["tiny.keras", "empty"], "no images in the folder empty"),
            (["tiny.keras", "images", "--class", "3"], "from 0 to 2 .* not 3"),
            (["tiny.keras", "images", "--class", "-1"], "from 0 to 2 .* not -1"),
            (["tiny.keras", "images", "--layer", "wrong"], "not wrong.*map"),
            (["tiny.keras", "images", "--layer", "pool"], "height and width"),
            (
                ["tiny.keras", "images", "--class-names", "two_names.txt"],
                "two_names.txt names 2 classes, .* has 3",
            ),
            (["tiny.keras", "images", "--class-names", "no.txt"], "no.txt cannot be"),
            (["tiny.keras", "images", "--class-names", "half.png"], "half.png cannot"),
            (["tiny.keras", "images", "--weights", "no.h5"], "cannot be loaded"),
            (["tiny.keras", "images", "--output", "a.txt"], "must end in .png"),
        ],
    )
    def test_errors(self, run, arguments, message):
        with pytest.raises(SystemExit, match=f"(?s){message}"):
            run(*arguments)
        assert not run.output.exists()

    def test_interruption_keeps_an_earlier_picture(self, example, run, monkeypatch):
        def half_save(figure, path):
            path.write_text("half")
            raise KeyboardInterrupt

        run.output.parent.mkdir()
        run.output.write_text("earlier")
        monkeypatch.setattr(example.Figure, "savefig", half_save)
        with pytest.raises(KeyboardInterrupt):
            run("tiny.keras", "images/image1.png")
        assert run.output.read_text() == "earlier"
        assert list(run.output.parent.iterdir()) == [run.output]

    def test_an_earlier_picture_is_replaced(self, run):
        run.output.parent.mkdir()
        run.output.write_text("earlier")
        run("tiny.keras", "images/image1.png")
        with Image.open(run.output) as picture:
            assert picture.format == "PNG"


@pytest.mark.parametrize(
    "module", ["matplotlib.figure", "tf_keras_vis.gradcam_plus_plus"]
)
def test_missing_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=r'pip install "keras-shift\[explain\]"'):
        load_example()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(example, monkeypatch, backend):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(SystemExit, match="TensorFlow backend"):
        example.main(example.parse([]))
