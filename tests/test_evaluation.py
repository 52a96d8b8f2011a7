"""Measuring trained networks: in Python, and with `keras-shift evaluate`."""

import dataclasses
import itertools
import json
import re
import shutil
import zipfile

import keras
import numpy as np
import pytest

from keras_shift import ops, publishing, zoo
from keras_shift.cli import main
from keras_shift.layers.shift_layer import shift_layers
from keras_shift.training import Accuracy, evaluate, load_data, train
from keras_shift.training.trainer import WEIGHTS
from keras_shift.zoo import published_weights, recipes, variants
from networks import pixels, predict
from trained import CLASSES, NAME, TOY, publisher, write_data, write_run

# Right; second; fifth; sixth.
SCORES = np.array(
    [
        [0.0, 0.1, 0.2, 0.3, 0.4, 9.0],
        [0.0, 0.1, 0.2, 9.0, 0.4, 0.5],
        [0.5, 0.1, 0.2, 0.3, 0.4, 0.6],
        [9.0, 0.0, 0.1, 0.2, 0.3, 0.4],
    ],
    "float32",
)
LABELS = np.array([5, 5, 2, 1], "int32")


class TestEvaluate:
    def test_figures(self):
        seen = []

        def model(images):
            seen.append(images)
            return SCORES[images[:, 0, 0, 0].astype(int)]

        images = np.arange(4, dtype="uint8").reshape(4, 1, 1, 1)
        accuracy = evaluate(model, images, LABELS, batch_size=3)
        assert accuracy == Accuracy(images=4, top1=0.25, top5=0.75)
        assert str(accuracy) == "top-1 25.00%, top-5 75.00% of 4 images"
        assert [len(batch) for batch in seen] == [3, 1]
        assert {batch.dtype.name for batch in seen} == {"float32"}
        batches = [(images[:1], LABELS[:1]), (images[1:], LABELS[1:])]
        assert evaluate(model, batches) == accuracy

    def test_of_equal_scores_the_first_counts(self):
        def model(images):
            return np.zeros((len(images), 7))

        images = np.zeros((7, 1, 1, 1))
        accuracy = evaluate(model, images, np.arange(7))
        assert (accuracy.top1, accuracy.top5) == (1 / 7, 5 / 7)

    @pytest.mark.parametrize("dtype, least", [("uint8", 0), ("int8", -128)])
    def test_scores_of_integer_files(self, dtype, least):
        scores = np.array([[least, least + 200, least + 55]], dtype)
        for label, top1 in ((1, 1), (0, 0), (2, 0)):
            assert evaluate(lambda x: scores, np.zeros((1, 1)), [label]).top1 == top1

    def test_what_is_not_a_number_is_wrong(self):
        def model(images):
            return np.full((len(images), 3), np.nan)

        assert evaluate(model, np.zeros((2, 1, 1, 1)), [0, 0]).top5 == 0

    def test_network(self):
        model = zoo.ShiftResNet20((8, 8, 3), alpha=0.25)
        images = pixels(10, 8, 8, 3)
        labels = predict(model, images).argmax(1)
        labels[:3] = (labels[:3] + 1) % 10
        # The column of labels that some datasets have.
        accuracy = evaluate(model, images, labels[:, None], batch_size=4)
        assert accuracy.top1 == 0.7 and accuracy.images == 10

    def test_fewer_than_five_classes(self):
        accuracy = evaluate(lambda images: np.eye(2), np.zeros((2, 1, 1, 1)), [1, 0])
        assert (accuracy.top1, accuracy.top5) == (0, 1)

    @pytest.mark.parametrize(
        "images, labels, message",
        [
            (2, [0], "2 images, 1 labels"),
            (0, [], "0 images"),
            (2, [0, 3], "labels from 0 to 3.*3"),
            (2, [-1, 0], "labels from -1"),
        ],
    )
    def test_errors(self, images, labels, message):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            evaluate(lambda x: np.zeros((len(x), 3)), np.zeros((images, 1)), labels)

    @pytest.mark.parametrize("images", [1, 2])
    def test_labels_that_are_no_numbers(self, images):
        batches = [(np.zeros((images, 1)), np.eye(3)[:images])]
        message = f"one label.*Received: {3 * images} labels.*{images}, 3"
        with pytest.raises(ValueError, match=f"(?s){message}"):
            evaluate(lambda x: np.zeros((len(x), 3)), batches)

    def test_no_batches_and_no_labels(self):
        with pytest.raises(ValueError, match="one image at least"):
            evaluate(lambda x: np.zeros((len(x), 3)), [])
        with pytest.raises(ValueError, match="`labels` must be given"):
            evaluate(lambda x: np.zeros((len(x), 3)), np.zeros((2, 1, 1, 1)))


def test_sample_of_training_images_is_of_all_classes(tmp_path):
    data = load_data("toy", (12, 12), write_data(tmp_path))
    assert len(data.training_examples(512)[0]) == 48
    many = np.repeat(np.arange(1000), 3)
    sorted_by_class = type(data)("a", many, many, many, many, [""] * 1000)
    chosen = sorted_by_class.training_examples(512)[0]
    assert len(chosen) == 512 and set(np.diff(chosen)) <= {1, 2, 3}
    assert (chosen[0], chosen[-1]) == (0, 999)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A dataset, the directory of a training, and what was published of it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the export is TensorFlow's")
    folder = tmp_path_factory.mktemp("toy")
    data_dir, weights = write_data(folder), folder / "weights"
    write_run(folder / "run")
    weights.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        tool = publisher(monkeypatch, weights, folder / "golden", TOY)
        tool.publish(folder / "run", data_dir, "HEAD")
    return folder


@pytest.fixture
def weights(toy, tmp_path, monkeypatch):
    """A copy of the folder with the published weights."""
    copy = tmp_path / "weights"
    shutil.copytree(toy / "weights", copy)
    monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", str(copy))
    return copy


STREAMED = dataclasses.replace(
    TOY,
    arguments={**TOY.arguments, "classes": 2},
    augmentation="inception",
    batch_size=2,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that was trained on streamed images, its logs, and the folder."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    for split, name in itertools.product(("train", "val"), ("ant", "bee")):
        images = folder / "toy" / split / name
        images.mkdir(parents=True)
        for index in range(4):
            image = random.integers(0, 256, (20, 30, 3))
            keras.utils.save_img(images / f"{index}.png", image, scale=False)
    model = recipes.build(STREAMED, classifier_activation=None)
    data = load_data("toy", (12, 12), folder, "inception")
    return model, train(model, STREAMED, data, folder / "run", verbose=0), folder


def figures(out):
    """The table that `keras-shift evaluate` prints, by row."""
    rows = re.findall(r"^ *(top-1|top-5|int8 top-1) +([\d.% ]+)$", out, re.MULTILINE)
    return {name: values.split() for name, values in rows}


@pytest.mark.tensorflow
class TestCommand:
    def test_published_weights(self, toy, weights, capsys):
        main(["evaluate", NAME, "--data-dir", str(toy)])
        out = capsys.readouterr().out
        record = zoo.get_record(NAME)
        expected = {
            "top-1": record.top1,
            "top-5": record.top5,
            "int8 top-1": record.int8_top1,
        }
        assert figures(out) == {k: [f"{v:.2%}"] * 2 for k, v in expected.items()}
        assert "40 images of toy" in out and "On record" in out

    @pytest.mark.parametrize("path", ["run", "run/final.weights.h5"])
    def test_run(self, toy, path, capsys):
        main(["evaluate", str(toy / path), "--data-dir", str(toy), "--no-int8"])
        found = figures(capsys.readouterr().out)
        assert set(found) == {"top-1", "top-5"}
        assert all(len(values) == 1 for values in found.values())

    def test_of_streamed_images(self, trained, capsys):
        """Held-out images are cut out of the middle, as while it trains."""
        _, rows, folder = trained
        data = load_data("toy", (12, 12), folder, "inception")
        sample = data.training_examples(5)[0]
        assert sample.shape == (5, 12, 12, 3)
        np.testing.assert_array_equal(data.training_examples(5)[0], sample)
        main(["evaluate", str(folder / "run"), "--data-dir", str(folder)])
        found = figures(capsys.readouterr().out)
        assert found["top-1"] == [f"{rows[-1]['val_accuracy']:.2%}"]
        assert set(found) == {"top-1", "top-5", "int8 top-1"}

    def test_other_figures_are_status_1(self, toy, weights, capsys):
        path = weights / f"{NAME}.json"
        text = re.sub(r'"top1": [\d.]+', '"top1": 0.99', path.read_text())
        path.write_text(text)
        with pytest.raises(SystemExit) as end:
            main(["evaluate", NAME, "--data-dir", str(toy), "--no-int8"])
        assert end.value.code == 1
        out, notes = capsys.readouterr()
        assert figures(out)["top-1"][1] == "99.00%"
        assert "top-1 are not as on record" in " ".join(notes.split())

    def test_classes_in_another_order(self, toy, weights, tmp_path, capsys):
        with np.load(toy / "toy.npz") as arrays:
            arrays = dict(arrays)
        np.savez(tmp_path / "toy.npz", **{**arrays, "classes": CLASSES[::-1]})
        with pytest.raises(SystemExit) as end:
            main(["evaluate", NAME, "--data-dir", str(tmp_path)])
        assert end.value.code == 2
        assert "another order" in capsys.readouterr().err

    def test_errors(self, toy, weights, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        (weights / f"{NAME}.weights.h5").write_bytes(b"")
        for name, message in {
            "no_such_weights": "lists: ",
            str(tmp_path / "empty"): "recipe.json",
            NAME: "has 0 bytes",
        }.items():
            with pytest.raises(SystemExit) as end:
                main(["evaluate", name, "--data-dir", str(toy)])
            assert end.value.code == 2
            assert message in capsys.readouterr().err

    def test_weights_of_other_commands(self, weights, tmp_path, capsys, monkeypatch):
        """There is no network of this width by name, but for this test."""
        narrow = variants.Variant("ShiftResNet20", {"alpha": 0.25})
        monkeypatch.setitem(variants.VARIANTS, "narrow", narrow)
        path = str(tmp_path / "toy.tflite")
        main(["export", "narrow", path, "--weights", "toy.ssl"])
        out, notes = capsys.readouterr()
        assert "(1, 12, 12, 3) float32" in out and "random weights" not in notes
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split() == CLASSES

    def test_list(self, weights, capsys):
        main(["list", "--weights"])
        out = capsys.readouterr().out
        record = zoo.get_record(NAME)
        line, terms = [line for line in out.split("\n") if NAME in line]
        words = [NAME, "ShiftResNet20", "toy.ssl", "12x12x3", f"{record.top1:.2%}"]
        assert line.split()[:5] == words
        assert terms.endswith(record.licence)
        with pytest.raises(SystemExit):
            main(["list", "--weights", "fenet*"])
        assert "Received: pattern='fenet*'" in capsys.readouterr().err


@pytest.mark.tensorflow
class TestPublishing:
    @pytest.fixture
    def tool(self, toy, tmp_path, monkeypatch):
        weights = tmp_path / "weights"
        weights.mkdir(exist_ok=True)
        return publisher(monkeypatch, weights, tmp_path / "golden", TOY)

    def test_record(self, toy, weights):
        record = zoo.get_record(NAME)
        assert record.weights == "toy.ssl" and record.classes == 4
        assert record.class_names == tuple(CLASSES)
        assert record.arguments == {
            "alpha": 0.25,
            "expansion": 6,
            "wiring": "concatenate",
            "spatial": "sparse_shift",
            "module": "csc",
            "without_shift": (),
            "max_displacement": 2,
        }
        assert record.recipe_name == TOY.name and record.seed == 3
        assert list(record.unshifted)[0] == "group1_module1_shift"
        trained = publishing.read_run(toy / "run").model
        for layer in shift_layers(trained):
            # The default start is that of a grouped shift.
            start = ops.grouped_displacements(layer.channels)
            same = (np.rint(layer.displacement_array()) == start).all(axis=0)
            moved = (np.count_nonzero(~same), layer.channels)
            assert record.moved[layer.name] == moved
        assert sorted(path.name for path in weights.iterdir()) == [
            f"{NAME}{ending}" for ending in (".json", ".log.csv", ".weights.h5")
        ]

    def test_network_is_the_one_that_was_trained(self, toy, weights):
        trained = publishing.read_run(toy / "run").model
        model = zoo.ShiftResNet20(alpha=0.25, weights="toy.ssl")
        images = pixels(2, 12, 12, 3)
        np.testing.assert_array_equal(predict(model, images), predict(trained, images))

    def test_golden_outputs(self, toy, weights, tool):
        logits = zoo.ShiftResNet20(
            alpha=0.25, weights=str(toy / "run" / "final.weights.h5"), classes=4,
            input_shape=(12, 12, 3), wiring="concatenate", classifier_activation=None,
        )  # fmt: skip
        found = tool.golden_outputs(logits)
        with np.load(toy / "golden" / f"{NAME}.npz") as golden:
            assert golden["logits"].shape == (3, 4)
            assert golden["features"].shape == (3, 16)
            for key, expected in golden.items():
                np.testing.assert_array_equal(found[key], expected)

    @pytest.fixture
    def unmeasured(self, monkeypatch):
        """Without measuring, which takes longest, and which other tests look at."""
        figures = publishing.Figures(images=40, top1=0.25, top5=1.0, int8_top1=0.25)
        monkeypatch.setattr(publishing, "measure", lambda model, data: figures)

    @pytest.mark.usefixtures("unmeasured")
    @pytest.mark.parametrize("told", [True, False])
    def test_what_trained_it(self, tool, toy, tmp_path, told):
        run = tmp_path / "run"
        shutil.copytree(toy / "run", run)
        with pytest.raises(ValueError, match="name it .--commit."):
            tool.publish(run, str(toy))
        head = tool.full_hash("HEAD")
        if told:
            found = {"git_commit": head, "versions": {"jax": "1"}}
            found |= {"backend": "jax", "device": "1 x H100"}
            (run / "environment.json").write_text(json.dumps(found))
            (run / "log.csv").write_text("epoch,seconds\n1,2.5\n")
        record = tool.publish(run, str(toy), None if told else "HEAD")
        assert record.git_commit == head
        assert (record.backend, record.seconds) == (
            ("jax", 2.5) if told else ("tensorflow", None)
        )
        assert zoo.get_record(NAME) == record

    @pytest.mark.usefixtures("unmeasured")
    def test_what_fails_leaves_what_was_published(self, tool, toy, tmp_path):
        tool.publish(toy / "run", str(toy), "HEAD")
        folders = tmp_path / "weights", tmp_path / "golden"

        def content():
            paths = [path for folder in folders for path in folder.iterdir()]
            return {path: path.read_bytes() for path in paths}

        before = content()
        write_run(tmp_path / "other", dataclasses.replace(TOY, seed=8))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(publishing, "_moved", lambda *args: 1 / 0)
            tool.publish(tmp_path / "other", str(toy), "HEAD")
        assert content() == before and len(before) == 4

    @pytest.mark.usefixtures("unmeasured")
    def test_other_seeds_are_published(self, tool, tmp_path):
        recipe = dataclasses.replace(TOY, seed=8)
        write_run(tmp_path / "run", recipe)
        data_dir = write_data(tmp_path)
        assert tool.publish(tmp_path / "run", data_dir, "HEAD").seed == 8

    def test_other_recipes_are_refused(self, tool, toy, tmp_path, monkeypatch):
        changed = dataclasses.replace(TOY, epochs=2)
        publisher(monkeypatch, tmp_path / "weights", tmp_path / "golden", changed)
        with pytest.raises(ValueError, match="was not trained by toy.shiftresnet20"):
            tool.publish(toy / "run", str(toy), "HEAD")

    def test_trainings_that_have_not_ended_are_refused(self, tool, toy, tmp_path):
        shutil.copytree(toy / "run", tmp_path / "run")
        (tmp_path / "run" / "log.csv").write_text("epoch,loss\n")
        with pytest.raises(ValueError, match="0 epochs of 1"):
            tool.publish(tmp_path / "run", str(toy), "HEAD")
        (tmp_path / "run" / "final.weights.h5").unlink()
        with pytest.raises(ValueError, match="training that has ended"):
            tool.publish(tmp_path / "run", str(toy), "HEAD")
        assert list((tmp_path / "weights").iterdir()) == []

    @pytest.mark.parametrize(
        "recipe, network, alpha, expected",
        [
            ("tiny_imagenet.fenet_1.0", "FENet", 1.0, "fenet_1.0 tiny_imagenet"),
            ("cifar10.resnet20", "ResNet20", 1.0, "resnet20 cifar10"),
            ("cifar10.resnet20", "ResNet20", 0.5, "resnet20_0.5 cifar10"),
            (
                "cifar100.shiftresnet20_ssl_lambda5e-4.short",
                "ShiftResNet20",
                1.0,
                "shiftresnet20 cifar100.ssl_lambda5e-4.short",
            ),
            (
                "imagenet2012.fenet_1.375_se_v2",
                "FENet",
                1.375,
                "fenet_1.375 imagenet2012.se_v2",
            ),
            (
                "tiny_imagenet.mobilenet_v2_1.0",
                "MobileNetV2",
                1.0,
                "mobilenet_v2_1.0 tiny_imagenet",
            ),
            ("imagenet2012.shiftnet_a", "ShiftNetA", 1.0, "shiftnet_a imagenet2012"),
        ],
    )
    def test_names(self, recipe, network, alpha, expected):
        recipe = dataclasses.replace(
            TOY,
            name=recipe,
            dataset=recipe.split(".")[0],
            network=network,
            arguments={"alpha": alpha},
        )
        network, weights = expected.split()
        assert publishing.names(recipe) == (f"{network}.{weights}", weights)
        assert publishing.names(recipe, "toy") == (f"{network}.toy", "toy")

    def test_of_a_real_training(self, tool, trained, monkeypatch):
        model, rows, folder = trained
        monkeypatch.setitem(recipes._RECIPES, STREAMED.name, STREAMED)
        record = tool.publish(folder / "run", str(folder), "HEAD")
        loaded = zoo.ShiftResNet20(alpha=0.25, weights="toy.ssl")
        assert record.top1 == rows[-1]["val_accuracy"] and record.seconds > 0
        for one, two in zip(loaded.weights, model.weights, strict=True):
            np.testing.assert_array_equal(one, two)
        # Without the optimizer's.
        sizes = [
            path.stat().st_size
            for path in (
                published_weights.checked_file(record),
                folder / "run" / WEIGHTS,
            )
        ]
        assert sizes[0] < sizes[1]

    @pytest.mark.usefixtures("unmeasured")
    def test_classes_of_imagenet_stand_in_the_record(self, tool, tmp_path, monkeypatch):
        """No file has them, since Keras downloads their names."""
        recipe = dataclasses.replace(
            TOY, name="imagenet2012.shiftresnet20_ssl", dataset="imagenet2012"
        )
        monkeypatch.setitem(recipes._RECIPES, recipe.name, recipe)
        write_run(tmp_path / "run", recipe)
        (tmp_path / "data").mkdir()
        data_dir = write_data(tmp_path / "data")
        (tmp_path / "data" / "toy.npz").rename(tmp_path / "data" / "imagenet2012.npz")
        record = tool.publish(tmp_path / "run", data_dir, "HEAD")
        assert record.labels() == CLASSES
        assert zoo.get_record("shiftresnet20.imagenet2012.ssl") == record
        assert "ImageNet's terms" in record.licence

    def test_commits(self, tool):
        with pytest.raises(ValueError, match="--commit no-such-commit"):
            tool.full_hash("no-such-commit")
