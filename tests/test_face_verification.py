"""ShiftFaceNet, and the example that trains, verifies and exports it."""

import csv
import io
import json

import keras
import numpy as np
import pytest

from keras_shift import deploy
from keras_shift.analysis import multiply_adds
from keras_shift.layers import GroupedShift2D
from keras_shift.training import verification
from keras_shift.zoo import ShiftFaceNet, ShiftNetC
from marks import exhaustive
from networks import ROOT, load_example, parameters, pixels, predict, randomize

pytestmark = pytest.mark.tensorflow

COUNTS = json.loads((ROOT / "tests" / "data" / "expected_counts.json").read_text())


class TestShiftFaceNet:
    @pytest.mark.parametrize("length", [128, exhaustive(512), exhaustive(1000)])
    def test_counts(self, length):
        model = ShiftFaceNet((224, 224, 3), embedding_dim=length)
        expected = COUNTS[f"shiftfacenet_plain_embed{length}"]
        assert parameters(model.trainable_weights) == expected["trainable"]
        assert parameters(model.weights) == expected["total_keras"]
        assert multiply_adds(model) == expected["madds"]
        assert model.output_shape == (None, length)

    def test_it_is_shiftnet_c_with_outputs_of_length_1(self, tmp_path):
        images = pixels(3, 40, 32, 3)
        classifier = ShiftNetC(
            (40, 32, 3), alpha=0.25, classes=5, classifier_activation=None
        )
        randomize(classifier)
        model = ShiftFaceNet((40, 32, 3), 5, 0.25)
        model.set_weights(classifier.get_weights())
        outputs = predict(classifier, images)
        expected = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
        np.testing.assert_allclose(predict(model, images), expected, atol=1e-5)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(predict(again, images), expected, atol=1e-5)
        # Of another size of images, in images of any size.
        model.save_weights(tmp_path / "model.weights.h5")
        loaded = ShiftFaceNet(None, 5, 0.25, weights=tmp_path / "model.weights.h5")
        np.testing.assert_allclose(predict(loaded, images), expected, atol=1e-5)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"embedding_dim": 0}, "`embedding_dim` must be an integer, 1 or more"),
            ({"embedding_dim": 1.5}, "`embedding_dim` must be an integer"),
            ({"alpha": -1}, "`alpha` must be positive"),
            ({"spatial": "convolution"}, "`spatial` must be one of"),
            ({"weights": "lfw"}, "`weights` must be None.*Received: weights='lfw'"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            ShiftFaceNet((32, 32, 3), **{"alpha": 0.1, **arguments})

    def test_mixed_precision_leaves_embeddings_in_float32(self):
        keras.utils.set_random_seed(0)
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = ShiftFaceNet((32, 32, 3), 8, 0.25)
            outputs = model(pixels(2, 32, 32, 3))
        finally:
            keras.config.set_dtype_policy(policy)
        assert outputs.dtype == "float32"
        lengths = np.linalg.norm(outputs, axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)


@pytest.fixture
def example():
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    return load_example("face_verification")


def png(array):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


def write(folder, people=6, images=3, size=(40, 36)):
    """Folders of people, all of whose pixels tell person and number."""
    for person in range(people):
        (folder / f"Person_{person}").mkdir(parents=True)
        for number in range(1, images + 1):
            image = np.full((*size, 3), (40 * person, 60 * number, 0), "uint8")
            path = folder / f"Person_{person}" / f"Person_{person}_{number:04d}.png"
            path.write_bytes(png(image))
    return folder


def lists(folder, training=("Person_0", "Person_1", "Person_2")):
    """Files as LFW has them; returns the options that name them."""
    people = folder / "people.txt"
    people.write_text(f"{len(training)}\n" + "".join(f"{p}\t3\n" for p in training))
    pairs = folder / "pairs.txt"
    pairs.write_text(
        "2\nPerson_3\t1\t3\nPerson_4\t2\t3\n"
        "Person_3\t1\tPerson_4\t1\nPerson_4\t2\tPerson_5\t3\n"
    )
    return ["--training-people", str(people), "--pairs", str(pairs)]


class TestData:
    def test_digits(self, example):
        data = example.digits(example.parse([]))
        assert data.images.shape[1:] == data.held_out_images.shape[1:] == (32, 32, 3)
        assert data.people == 7 and set(data.captions) == {"7", "8", "9"}
        assert len(data.images) + len(data.held_out_images) == 1797
        assert len(data.pairs) == 2000 and data.same.sum() == 1000
        digits = np.array(data.captions)[data.pairs]
        np.testing.assert_array_equal(digits[:, 0] == digits[:, 1], data.same)
        assert len(np.unique(data.pairs, axis=0)) == 2000

    def test_people_are_held_out(self, example, tmp_path):
        write(tmp_path, people=12)
        (tmp_path / "Alone").mkdir()
        (tmp_path / "Alone" / "1.png").write_bytes(png(np.zeros((40, 40, 3), "uint8")))
        data = example.folder(tmp_path, example.parse(["."]))
        assert data.images.shape == (30, 64, 64, 3) and data.people == 10
        colours = {int(red) for red in data.images[:, 0, 0, 0]}
        held_out = {int(red) for red in data.held_out_images[:, 0, 0, 0]}
        assert len(colours) == 10 and len(held_out) == 2 and not colours & held_out
        assert len(data.pairs) == 2 * data.same.sum() == 12
        red = data.held_out_images[:, 0, 0, 0][data.pairs]
        np.testing.assert_array_equal(red[:, 0] == red[:, 1], data.same)

    def test_lists_name_people_and_pairs(self, example, tmp_path):
        write(tmp_path / "people")
        arguments = example.parse(["people", *lists(tmp_path)])
        data = example.folder(tmp_path / "people", arguments)
        assert set(data.images[:, 0, 0, 0]) == {0, 40, 80} and data.people == 3
        shown = data.held_out_images[:, 0, 0, :2][data.pairs] // (40, 60)
        expected = [[[3, 1], [3, 3]], [[4, 2], [4, 3]]]
        expected += [[[3, 1], [4, 1]], [[4, 2], [5, 3]]]
        np.testing.assert_array_equal(shown, expected)
        assert data.same.tolist() == [True, True, False, False]

    def test_crop_keeps_the_middle(self, example, tmp_path):
        image = np.zeros((100, 120, 3), "uint8")
        image[30:70, 40:80] = 200
        (tmp_path / "a.png").write_bytes(png(image))
        arguments = example.parse(["--crop", "0.4", "--image-size", "32"])
        (found,) = example.fitted([tmp_path / "a.png"], "", arguments)
        assert found.shape == (32, 32, 3) and found.min() == 200


class TestErrors:
    @pytest.fixture
    def run(self, example, tmp_path, monkeypatch):
        """Runs the example on a folder, which never comes to a training."""

        def trained(*arguments):
            raise AssertionError("a training has begun")

        monkeypatch.setattr(example, "build", trained)
        output = tmp_path / "output"

        def run(*arguments):
            example.main([*map(str, arguments), "--output", str(output)])

        run.people = write(tmp_path / "people")
        yield run

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"text", "Person_1_0002.png cannot be read as an image"),
            (
                png(np.zeros((31, 50, 3), "uint8")),
                "Person_1_0002.png has 50x31 pixels, .* stride of 32",
            ),
        ],
    )
    def test_a_bad_file_is_named(self, run, content, message):
        (run.people / "Person_1" / "Person_1_0002.png").write_bytes(content)
        with pytest.raises(SystemExit, match=f"face_verification.py: .*{message}"):
            run(run.people)

    def test_too_few_people(self, run, tmp_path):
        with pytest.raises(SystemExit, match="two to verify. Found: 1 among 1"):
            run(write(tmp_path / "one", people=1))
        with pytest.raises(SystemExit, match="Found: 0 among 5"):
            run(write(tmp_path / "strangers", people=5, images=1))
        options = lists(tmp_path, ["Person_0"])
        with pytest.raises(SystemExit, match="two people to train on.*Found: 1"):
            run(run.people, *options)

    def test_no_faces(self, run, tmp_path):
        (tmp_path / "empty" / "somebody").mkdir(parents=True)
        with pytest.raises(SystemExit, match="one folder of images for each person"):
            run(tmp_path / "empty")
        with pytest.raises(SystemExit, match="There is no folder nowhere"):
            run("nowhere")

    def test_lists_that_do_not_fit(self, run, tmp_path):
        options = lists(tmp_path, ["Person_0", "Person_1", "Person_3"])
        with pytest.raises(SystemExit, match="none of those.*Received: Person_3"):
            run(run.people, *options)
        options = lists(tmp_path)
        (run.people / "Person_5" / "Person_5_0003.png").unlink()
        with pytest.raises(
            SystemExit, match="A pair has image 3 of Person_5, .* has 2"
        ):
            run(run.people, *options)
        with pytest.raises(SystemExit, match="No such file"):
            run(run.people, "--pairs", "none.txt", "--training-people", "none.txt")

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["--image-size", "16"], "--image-size must be 32, the stride, or more"),
            (["--crop", "0"], "--crop must be above 0"),
            (["--epochs", "0"], "--epochs must be 1 or more"),
            (["people", "--pairs", "a.txt"], "go together"),
            (["--pairs", "a.txt", "--training-people", "b.txt"], "is for a folder"),
        ],
    )
    def test_of_the_command_line(self, run, arguments, message, capsys):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert message in capsys.readouterr().err


class TestMain:
    @pytest.mark.slow
    def test_learns_and_says_the_truth(self, example, tmp_path, monkeypatch, capsys):
        """Stripes, of whose angle a person has one; others are held out."""
        from PIL import Image

        def stripes(arguments):
            random = np.random.default_rng(arguments.seed)
            people = np.arange(96) % 8
            place = np.mgrid[:32, :32]
            images = np.empty((96, 32, 32, 3), "uint8")
            for image, person in zip(images, people):
                angle = np.pi * person / 8
                wave = np.cos(angle) * place[0] + np.sin(angle) * place[1]
                wave = np.sin(wave + random.uniform(0, 6)) * 90 + 120
                image[:] = wave[..., None] + random.normal(0, 8, (32, 32, 3))
            held_out = people % 3 == 1
            pairs, same = example.drawn_pairs(people[held_out], 0)
            return example.Data(
                "stripes",
                images[~held_out],
                np.searchsorted(np.unique(people[~held_out]), people[~held_out]),
                images[held_out],
                pairs,
                same,
                list(map(str, people[held_out])),
                mirrored=False,
            )

        def build(arguments):
            # ShiftFaceNet takes long to trace.
            images = keras.Input((32, 32, 3), name="image")
            x = keras.layers.Rescaling(1 / 127.5, -1)(images)
            x = keras.layers.Conv2D(24, 5, 2, activation="relu")(x)
            x = GroupedShift2D(3)(x)
            x = keras.layers.Conv2D(16, 1, activation="relu")(x)
            x = keras.layers.GlobalAveragePooling2D()(x)
            x = keras.layers.Dense(arguments.embedding_dim)(x)
            x = keras.layers.UnitNormalization()(x)
            return keras.Model(images, x, name="small")

        monkeypatch.setattr(example, "digits", stripes)
        monkeypatch.setattr(example, "build", build)
        output = tmp_path / "new" / "folder"
        options = "--embedding-dim 8 --epochs 20 --batch-size 12 --learning-rate 0.02"
        example.main([*options.split(), "--output", str(output)])
        assert {path.name for path in output.iterdir()} == {
            "results.csv",
            "small.keras",
            "small_float32.tflite",
            "small_int8.tflite",
            "verification.png",
        }
        with open(output / "results.csv") as file:
            untrained, trained, float32, int8 = csv.DictReader(file)
        data = stripes(example.parse([]))
        images = data.held_out_images.astype("float32")
        model = keras.saving.load_model(output / "small.keras")
        first, second = predict(model, images)[data.pairs.T]
        similarities = (first * second).sum(1)
        result = verification.evaluate_pairs(similarities, data.same)
        assert float(trained["accuracy"]) == pytest.approx(result.accuracy, abs=0.01)
        assert float(trained["ROC area"]) == pytest.approx(result.roc_area, abs=1e-3)
        assert result.roc_area > 0.85
        for row, kind, most in ((float32, "float32", 1e-4), (int8, "int8", 0.2)):
            lite = deploy.LiteRTModel(output / f"small_{kind}.tflite")
            assert not lite.not_builtin
            first, second = lite.predict(images)[data.pairs.T]
            of_file = verification.similarities(first, second)
            difference = np.abs(of_file - similarities).max()
            assert difference <= most
            found = float(row["largest difference"])
            assert found == pytest.approx(difference, abs=1e-3)
            area = verification.roc_area(of_file, data.same)
            assert float(row["ROC area"]) == pytest.approx(area, abs=1e-3)
        with Image.open(output / "verification.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 300
        printed = capsys.readouterr().out
        assert f"{result.roc_area:.1%}" in printed
        assert f"{float(untrained['accuracy']):.1%}" in printed

    def test_interruption(self, example, tmp_path, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(example, "build", interrupt)
        with pytest.raises(SystemExit, match="Interrupted"):
            example.main(["--output", str(tmp_path)])
        assert list(tmp_path.iterdir()) == []
