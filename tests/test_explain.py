"""The example examples/explain.py: its pictures, and what it refuses."""

import keras
import numpy as np
import pytest

from keras_shift import analysis
from networks import load_example, pixels

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf-keras-vis needs TensorFlow", allow_module_level=True)
pytest.importorskip("tf_keras_vis")
pytest.importorskip("matplotlib").use("agg")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def example():
    return load_example("explain")


class TestImages:
    def test_cropped_around_the_centre(self, example, tmp_path):
        image = np.zeros((20, 40, 3), "uint8")
        image[:, 10:30] = [10, 100, 200]
        Image.fromarray(image).save(tmp_path / "wide.png")
        square = example.read_image(tmp_path / "wide.png", 6, 6)
        assert square.shape == (6, 6, 3) and square.dtype == "float32"
        # Resizing blurs the outermost columns.
        np.testing.assert_array_equal(
            square[:, 1:-1], np.full((6, 4, 3), [10, 100, 200])
        )
        assert example.read_image(tmp_path / "wide.png", 5, 9).shape == (5, 9, 3)

    def test_turned_as_the_camera_was(self, example, tmp_path):
        image = Image.fromarray(np.repeat([[0], [255]], 8, axis=1).astype("uint8"))
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        image.resize((8, 8), Image.Resampling.NEAREST).save(
            tmp_path / "turned.png", exif=exif
        )
        turned = example.read_image(tmp_path / "turned.png", 8, 8)
        assert (turned[:4] == 255).all() and (turned[4:] == 0).all()

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
    def test_every_kind_becomes_colour(self, example, tmp_path, mode):
        Image.new(mode, (8, 8), 1).save(tmp_path / "image.png")
        assert example.read_image(tmp_path / "image.png", 8, 8).shape[-1] == 3

    def test_class_folders_give_their_first_images(self, example, tmp_path):
        for name in ("ash/2.png", "ash/1.png", "birch/3.jpg", "birch/notes.txt"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        (tmp_path / "empty").mkdir()
        files = example.image_files([tmp_path])
        assert [file.name for file in files] == ["1.png", "3.jpg"]

    def test_folders(self, example, tmp_path):
        for name in ["b.png", "a.JPG", "notes.txt"]:
            (tmp_path / name).touch()
        assert example.image_files([tmp_path, "c.png"]) == [
            tmp_path / "a.JPG",
            tmp_path / "b.png",
            example.Path("c.png"),
        ]

    def test_too_many(self, example):
        with pytest.raises(ValueError, match="101 images are too many"):
            example.image_files(["a.png"] * 101)

    def test_samples_of_scikit_learn(self, example):
        pytest.importorskip("sklearn")
        names, images = example.sample_photographs(16, 24)
        assert names == ["china.jpg", "flower.jpg"]
        for image in images:
            assert image.shape == (16, 24, 3) and image.max() > 200


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a network, a folder of two images, and files that are none."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16, 24, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="map"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(folder / "tiny.keras")
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
        """Runs the command line among the files; returns the path of its picture."""
        monkeypatch.chdir(files)
        output = tmp_path / "new" / "explain.png"

        def run(*arguments):
            example.main(["--output", str(output), *map(str, arguments)])
            with Image.open(output) as picture:
                assert picture.format == "PNG"
            assert list(output.parent.iterdir()) == [output]
            return output

        run.output = output
        return run

    @pytest.fixture
    def drawn(self, monkeypatch):
        """The arguments of every call of `plot_explanations`."""
        calls = []
        plot = analysis.plot_explanations

        def keep(*args):
            calls.append(args)
            return plot(*args)

        monkeypatch.setattr(analysis, "plot_explanations", keep)
        return calls

    def test_explains_a_file_with_names(self, run, drawn, capsys):
        run("tiny.keras", "images", "--class-names", "names.txt", "--class", 2)
        ((images, explanations, titles, names),) = drawn
        assert np.shape(images) == (2, 16, 24, 3)
        assert [each.class_index for each in explanations] == [2, 2]
        assert titles == ["image0.png", "image1.png"]
        assert names == ["ash", "birch", "cedar"]
        assert f"The picture is {run.output}." in capsys.readouterr().out

    @pytest.mark.exhaustive
    def test_explains_published_weights(self, run, drawn):
        pytest.importorskip("sklearn")
        run("fenet_0.75.tiny_imagenet.sparse")
        ((images, explanations, titles, names),) = drawn
        assert np.shape(images) == (2, 64, 64, 3) and len(explanations) == 2
        assert titles == ["china.jpg", "flower.jpg"]
        assert len(names) == 200 and "goldfish" in names

    def test_draws_what_networks_look_for(self, example, run, monkeypatch):
        searched = []

        def maximize(model, classes):
            searched.append((model.name, list(classes)))
            return pixels(len(classes), 64, 64, 3)

        monkeypatch.setattr(analysis, "maximize_activation", maximize)
        run("--look-for", "goldfish", "pizza")
        (ours, classes), (peer, same) = searched
        assert ours == "fenet_0.75" and peer.startswith("mobilenet")
        assert classes == same and classes[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing.keras", "images"], "nothing.keras cannot be loaded"),
            (["text.keras", "images"], "text.keras cannot be loaded"),
            (["NoNet", "images"], "NoNet"),
            (["tiny.keras", "none.png"], "none.png cannot be read as an image"),
            (["tiny.keras", "text.png"], "text.png cannot be read as an image"),
            (["tiny.keras", "half.png"], "half.png cannot be read as an image"),
            (["tiny.keras", "empty"], "no images in the folder empty"),
            (["tiny.keras", "images", "--class", "3"], "class_index=3"),
            (["tiny.keras", "images", "--layer", "pool"], "layer='pool'"),
            (
                ["tiny.keras", "images", "--class-names", "two_names.txt"],
                "two_names.txt names 2 classes, .* has 3",
            ),
            (["tiny.keras", "images", "--class-names", "no.txt"], "no.txt"),
            (["--look-for", "unicorn"], "Received: .'unicorn'"),
        ],
    )
    def test_errors(self, run, arguments, message):
        with pytest.raises(SystemExit, match=f"(?s)explain.py: .*{message}"):
            run(*arguments)
        assert not run.output.exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "either a network or classes"),
            (["tiny.keras", "--look-for", "pizza"], "either a network or classes"),
            (["tiny.keras", "--output", "a.txt"], "must end in one of"),
        ],
    )
    def test_errors_of_the_command_line(self, run, arguments, message, capsys):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert message in capsys.readouterr().err

    def test_interruption_keeps_an_earlier_picture(self, run, monkeypatch):
        from matplotlib.figure import Figure

        def half_save(figure, path, **kwargs):
            path.write_text("half")
            raise KeyboardInterrupt

        run.output.parent.mkdir()
        run.output.write_text("earlier")
        monkeypatch.setattr(Figure, "savefig", half_save)
        with pytest.raises(SystemExit, match="Interrupted"):
            run("tiny.keras", "images/image1.png")
        assert run.output.read_text() == "earlier"
        assert list(run.output.parent.iterdir()) == [run.output]
