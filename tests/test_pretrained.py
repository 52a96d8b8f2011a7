"""Published weights: their records, and networks that load them."""

import dataclasses
import hashlib
import json
import re
import shutil

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.layers import SparseShift2D
from keras_shift.zoo import FENet, ShiftResNet20, get_model, published_weights
from keras_shift.zoo.record import Record
from networks import ROOT, load_tool, pixels, predict, randomize

ALPHA = 0.25


def record_of(path, **fields):
    """The record of a toy network's file."""
    content = path.read_bytes()
    return Record(
        **{
            "name": path.name.removesuffix(".weights.h5"),
            "weights": "toy.ssl",
            "constructor": "ShiftResNet20",
            "arguments": {
                "alpha": ALPHA,
                "wiring": "concatenate",
                "spatial": "sparse_shift",
            },
            "input_shape": (12, 12, 3),
            "dataset": "toy",
            "classes": 4,
            "class_names": ["ant", "bee", "cat", "dog"],
            "recipe": {"name": "toy.shiftresnet20_ssl", "seed": 0},
            "git_commit": "0" * 40,
            "versions": {"keras": "3.13"},
            "backend": "tensorflow",
            "device": "two cores",
            "seconds": None,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": "any",
            "images": 40,
            "top1": 0.5,
            "top5": 1.0,
            "int8_top1": None,
            "parameters": 10,
            "multiply_adds": 20,
            "unshifted": {"a": [1, 4], "b": [3, 4]},
            "moved": {"b": [2, 4]},
            **fields,
        }
    )


def publish(folder, name, constructor=ShiftResNet20, **fields):
    """Writes weights and record of a random network; returns the network."""
    alpha, classes = fields.pop("alpha", ALPHA), fields.get("classes", 4)
    arguments = fields.pop(
        "arguments", {"wiring": "concatenate", "spatial": "sparse_shift"}
    )
    arguments = {"alpha": alpha, **arguments}
    model = constructor((12, 12, 3), classes=classes, **arguments)
    randomize(model, seed=len(name))
    path = folder / f"{name}.weights.h5"
    model.save_weights(path)
    fields = {"constructor": constructor.__name__, "arguments": arguments, **fields}
    record = record_of(path, **fields)
    (folder / f"{name}.json").write_text(record.to_json())
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with one record, and the network whose weights are in it."""
    folder = tmp_path_factory.mktemp("weights")
    return folder, publish(folder, "shiftresnet20.toy.ssl")


@pytest.fixture
def weights_of(monkeypatch, published, tmp_path):
    """A copy of the folder, to be damaged, and the network."""
    folder, model = published
    copy = tmp_path / "weights"
    shutil.copytree(folder, copy)
    monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", str(copy))
    return copy, model


@pytest.fixture
def original(weights_of):
    return weights_of[1]


def same_weights(model, reference, all_but=()):
    """Whether a model has another's weights, bit by bit."""
    layers = [layer for layer in reference.layers if layer.weights]
    assert layers
    for layer in layers:
        if layer.name not in all_but:
            other = model.get_layer(layer.name).get_weights()
            for one, two in zip(other, layer.get_weights(), strict=True):
                np.testing.assert_array_equal(one, two)
    return True


class TestNames:
    def test_arguments_come_from_the_record(self, original):
        model = ShiftResNet20(alpha=ALPHA, weights="toy.ssl")
        assert model.input_shape == (None, 12, 12, 3)
        assert model.output_shape == (None, 4)
        assert same_weights(model, original)
        images = pixels(2, 12, 12, 3)
        np.testing.assert_array_equal(predict(model, images), predict(original, images))

    def test_by_position(self, original):
        assert same_weights(ShiftResNet20(None, ALPHA, True, "toy.ssl"), original)

    def test_get_model(self, original):
        model = get_model("shiftresnet20_ssl", alpha=ALPHA, weights="toy.ssl", name="a")
        assert model.name == "a" and same_weights(model, original)

    def test_list_weights(self, original):
        assert zoo.list_weights() == ["shiftresnet20.toy.ssl"]
        assert zoo.list_weights("*.toy.*") == zoo.list_weights()
        assert zoo.list_weights("fenet*") == []

    def test_widths_with_one_name(self, weights_of):
        folder, original = weights_of
        wide = publish(folder, "shiftresnet20_0.5.toy.ssl", alpha=0.5)
        assert same_weights(ShiftResNet20(alpha=0.5, weights="toy.ssl"), wide)
        assert same_weights(ShiftResNet20(alpha=ALPHA, weights="toy.ssl"), original)
        message = r"alpha=0.25 and 0.5.*Received: alpha=1.0, weights='toy.ssl'"
        with pytest.raises(ValueError, match=message):
            ShiftResNet20(weights="toy.ssl")

    def test_the_default_width_needs_no_mention(self, weights_of):
        whole = publish(
            weights_of[0], "resnet20.toy", zoo.ResNet20, alpha=1.0, weights="toy",
            arguments={"shortcut": "zero_padding"},
        )  # fmt: skip
        assert same_weights(zoo.ResNet20(weights="toy"), whole)

    def test_mobilenet(self, weights_of):
        model = zoo.MobileNetV2((32, 32, 3), alpha=0.35, classes=4)
        path = weights_of[0] / "mobilenet_v2_0.35.toy.weights.h5"
        model.save_weights(path)
        record = record_of(
            path,
            weights="toy",
            constructor="MobileNetV2",
            arguments={"alpha": 0.35, "output_stride": 32},
            input_shape=(32, 32, 3),
        )
        (weights_of[0] / f"{record.name}.json").write_text(record.to_json())
        assert same_weights(zoo.MobileNetV2(alpha=0.35, weights="toy"), model)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"weights": "toy"}, r"ShiftResNet20: \['toy.ssl'\].*weights='toy'"),
            ({"weights": "imagenet"}, "ImageNet yet; .* Received: weights='imagenet'"),
            ({"weights": "no/toy.ssl"}, "no such file.*weights='no/toy.ssl'"),
            ({"weights": "toy.ssl.weights.h5"}, "no such file"),
            ({"weights": 7}, "weights=7"),
            (
                {"weights": "toy.ssl", "spatial": "depthwise"},
                "`spatial` contradicts.*='sparse_shift'.*Received: spatial='depthwise'",
            ),
            (
                {"weights": "toy.ssl", "wiring": "projection"},
                "`wiring` contradicts.*wiring='concatenate'.*wiring='projection'",
            ),
            # The record has the default.
            (
                {"weights": "toy.ssl", "expansion": 3},
                "`expansion` contradicts.*expansion=6.*expansion=3",
            ),
            (
                {"weights": "toy.ssl", "without_shift": ["group1_module1"]},
                r"`without_shift` contradicts.*without_shift=\(\)",
            ),
            (
                {"weights": "toy.ssl", "input_shape": (12, 12, 1)},
                r"3 channels.*first convolution.*\(12, 12, 1\)",
            ),
        ],
    )
    def test_errors(self, original, arguments, message):
        with pytest.raises(ValueError, match="(?s)" + message):
            ShiftResNet20(**{"alpha": ALPHA, **arguments})

    def test_tuples_and_lists_say_the_same(self, weights_of):
        arguments = {"wiring": "concatenate", "spatial": "sparse_shift"}
        arguments["without_shift"] = ("group1_module1",)
        name = "shiftresnet20.toy.other"
        folder = weights_of[0]
        model = publish(folder, name, weights="toy.other", arguments=arguments)
        for given in ({}, {"without_shift": ["group1_module1"]}):
            found = ShiftResNet20(alpha=ALPHA, weights="toy.other", **given)
            assert same_weights(found, model)

    def test_no_weights_for_imagenet(self):
        for constructor in (FENet, zoo.ShiftNetB, zoo.MobileNetV2):
            with pytest.raises(ValueError, match="list_recipes.*'imagenet'") as refusal:
                constructor(weights="imagenet")
            (pattern,) = re.findall(r'list_recipes\("(.*?)"\)', str(refusal.value))
            networks = [
                zoo.models.constructor_name(zoo.recipes.get_recipe(name).network)
                for name in zoo.recipes.list_recipes(pattern)
            ]
            assert constructor.__name__ in networks

    def test_folder_that_is_none(self, monkeypatch):
        monkeypatch.setenv("KERAS_SHIFT_WEIGHTS_DIR", "nowhere")
        with pytest.raises(ValueError, match="KERAS_SHIFT_WEIGHTS_DIR=nowhere"):
            FENet(weights="tiny_imagenet")


class TestOtherUses:
    """What differs from the training keeps the weights of the backbone."""

    def test_without_the_top(self, original):
        model = ShiftResNet20(
            alpha=ALPHA, weights="toy.ssl", include_top=False, pooling="avg"
        )
        assert model.input_shape == (None, None, None, 3)
        assert same_weights(model, original, ["predictions"])
        images = pixels(2, 12, 12, 3)
        features = keras.Model(
            original.inputs[0], original.get_layer("average_pool").output
        )
        np.testing.assert_array_equal(predict(model, images), predict(features, images))

    def test_other_classes(self, original):
        model = ShiftResNet20(alpha=ALPHA, weights="toy.ssl", classes=7)
        assert model.output_shape == (None, 7)
        assert same_weights(model, original, ["predictions"])

    def test_other_size(self, original):
        model = ShiftResNet20((20, 16, 3), ALPHA, weights="toy.ssl")
        assert model.input_shape == (None, 20, 16, 3) and same_weights(model, original)

    @pytest.mark.parametrize("include_top", [True, False])
    def test_input_tensor_behind_other_layers(self, original, include_top):
        """Files know layers by their order, in which others come first here."""
        images = keras.Input((12, 12, 5))
        x = keras.layers.Conv2D(3, 1, name="colors")(images)
        start = keras.initializers.Constant(2.0)
        x = SparseShift2D(displacement_initializer=start, name="mine")(x)
        model = ShiftResNet20(
            alpha=ALPHA, weights="toy.ssl", input_tensor=x, include_top=include_top
        )
        assert model.inputs[0] is images
        assert (model.get_layer("mine").displacement_array() == 2).all()
        assert same_weights(model, original, [] if include_top else ["predictions"])
        with pytest.raises(ValueError, match="3 channels.*5"):
            ShiftResNet20(alpha=ALPHA, weights="toy.ssl", input_tensor=images)

    def test_free_arguments(self, original):
        model = ShiftResNet20(
            alpha=ALPHA,
            weights="toy.ssl",
            classifier_activation=None,
            include_preprocessing=False,
            kernel_regularizer=keras.regularizers.L2(1e-4),
            batch_norm_momentum=0.9,
        )
        assert same_weights(model, original)

    def test_other_stride(self, weights_of):
        options = {"weights": "toy", "arguments": {"output_stride": 16}}
        trained = publish(weights_of[0], "fenet_0.25.toy", FENet, **options)
        default = FENet(alpha=ALPHA, weights="toy")
        assert default.get_layer("head").output.shape[1] == 1  # 12 / 16, rounded up
        fine = FENet((16, 16, 3), ALPHA, weights="toy", output_stride=4)
        assert fine.get_layer("head").output.shape[1] == 4
        assert same_weights(default, trained) and same_weights(fine, trained)
        # These two shift where the network was trained to pool.
        for name in ("unit2_shift", "fe_block1_unit3_shift"):
            assert name not in [layer.name for layer in trained.layers]
            assert fine.get_layer(name).sparsity == 1


class TestDamage:
    def check(self, message):
        with pytest.raises(ValueError, match=f"(?s){message}.*KERAS_SHIFT_WEIGHTS_DIR"):
            ShiftResNet20(alpha=ALPHA, weights="toy.ssl")

    def test_of_one_byte(self, weights_of):
        path = weights_of[0] / "shiftresnet20.toy.ssl.weights.h5"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        self.check("is damaged or another file: its SHA-256")

    def test_truncated(self, weights_of):
        path = weights_of[0] / "shiftresnet20.toy.ssl.weights.h5"
        path.write_bytes(path.read_bytes()[:-100])
        self.check("has .* bytes in place of")

    def test_missing(self, weights_of):
        (weights_of[0] / "shiftresnet20.toy.ssl.weights.h5").unlink()
        self.check("is missing.*pip install ./studies")

    def test_of_another_network(self, weights_of):
        """Under the right name, with a record that fits the file."""
        folder, _ = weights_of
        other = folder / "other.weights.h5"
        ShiftResNet20((12, 12, 3), 0.5, classes=4).save_weights(other)
        path = folder / "shiftresnet20.toy.ssl.weights.h5"
        other.rename(path)
        record = record_of(path)
        (folder / "shiftresnet20.toy.ssl.json").write_text(record.to_json())
        with pytest.raises(ValueError, match="does not belong to shiftresnet20"):
            ShiftResNet20(alpha=ALPHA, weights="toy.ssl")


class TestPaths:
    def test_path(self, weights_of):
        folder, original = weights_of
        path = folder / "shiftresnet20.toy.ssl.weights.h5"
        for weights in (path, str(path)):
            model = ShiftResNet20(
                (12, 12, 3), ALPHA, weights=weights, classes=4, wiring="concatenate"
            )
            assert same_weights(model, original)

    def test_of_a_compiled_model(self, tmp_path):
        model = ShiftResNet20((12, 12, 3), ALPHA)
        model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
        model.optimizer.build(model.trainable_variables)
        path = tmp_path / "compiled.weights.h5"
        model.save_weights(path)
        assert same_weights(ShiftResNet20(None, ALPHA, weights=str(path)), model)

    @pytest.mark.parametrize(
        "arguments, why",
        [
            ({"wiring": "projection"}, r"\d+ of the 106 weights"),
            ({"classes": 5}, "2 of the 106 weights"),
            # Keras would load these, and say nothing of the rest of the file.
            ({"include_top": False, "classes": None}, "2 of the 106 weights"),
        ],
    )
    def test_of_another_network(self, weights_of, arguments, why):
        path = str(weights_of[0] / "shiftresnet20.toy.ssl.weights.h5")
        arguments = {"classes": 4, "wiring": "concatenate", **arguments}
        with pytest.raises(ValueError, match=f"{why}.*Build the network.*{path}"):
            ShiftResNet20((12, 12, 3), ALPHA, weights=path, **arguments)

    def test_damaged(self, weights_of):
        path = weights_of[0] / "shiftresnet20.toy.ssl.weights.h5"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match="damaged, or does not belong"):
            ShiftResNet20(alpha=ALPHA, weights=path)


class TestRecord:
    @pytest.fixture
    def record(self, published):
        return record_of(published[0] / "shiftresnet20.toy.ssl.weights.h5")

    def test_there_and_back(self, record):
        assert Record.from_json(record.to_json()) == record
        assert record.shift_sparsity == 0.5 and record.seed == 0
        assert record.recipe_name == "toy.shiftresnet20_ssl"
        assert (
            dataclasses.replace(record, unshifted={}, moved={}).shift_sparsity is None
        )

    def test_classes_of_a_file(self, record):
        fields = {"dataset": "cifar10", "weights": "cifar10", "classes": 10}
        fields |= {"name": "a.cifar10", "class_names": "cifar10"}
        assert dataclasses.replace(record, **fields).labels()[:2] == [
            "airplane",
            "automobile",
        ]

    @pytest.mark.parametrize(
        "field, value, message",
        [
            ("bytes", 0, "positive integer.*bytes=0"),
            ("classes", True, "positive integer"),
            ("top1", 52.3, "from 0 to 1.*top1=52.3"),
            ("int8_top1", "0.5", "None or a number"),
            ("sha256", "abc", "64 hexadecimal"),
            ("git_commit", "HEAD", "40 hexadecimal"),
            ("recipe", {"name": "a"}, "a name and a seed"),
            ("arguments", {}, "`alpha`"),
            ("input_shape", [12, 12], "three positive"),
            ("class_names", ["ant"], "must name 4 classes"),
            ("class_names", "no_such_dataset", "no_such_dataset"),
            ("unshifted", {"a": [5, 4]}, "pairs of numbers of unshifted"),
            ("moved", {"a": [5, 4]}, "pairs of numbers of moved"),
            ("moved", {"a": [2, 3]}, "layers of `unshifted`, as wide"),
            ("moved", {"c": [2, 4]}, "layers of `unshifted`, as wide"),
            ("weights", "cifar10", "begin with the dataset, 'toy'"),
            ("name", "shiftresnet20", "end in .toy.ssl"),
            ("seconds", -1, "None or a positive number"),
            ("licence", "", "must be a text"),
            ("bytes", float("inf"), "positive integer.*bytes=inf"),
            ("classes", float("nan"), "positive integer.*classes=nan"),
            ("images", 4.5, "positive integer.*images=4.5"),
            ("input_shape", 12, "three positive integers.*input_shape=12"),
            ("input_shape", [12, 12, "3"], "three positive integers"),
            ("recipe", {"name": "a", "seed": "b"}, "a name and a seed"),
            ("unshifted", {"a": 4}, "pairs of numbers of unshifted"),
            ("unshifted", {"a": ["1", "4"]}, "pairs of numbers of unshifted"),
            ("moved", {"a": [None, 4]}, "pairs of numbers of moved"),
            ("class_names", "imagenet2012", "dataset='imagenet2012'"),
        ],
    )
    def test_what_cannot_be_true(self, record, field, value, message):
        text = json.dumps({**json.loads(record.to_json()), field: value})
        with pytest.raises(ValueError, match=message):
            Record.from_json(text)

    @pytest.mark.parametrize(
        "text, message",
        [
            ("{", "no JSON"),
            ("[]", "a list and not an object"),
            ("[" * 100_000, "no JSON"),
            ('{"name": "a", "colour": 3}', r"without \['argu.*with \['colour'\]"),
        ],
    )
    def test_what_is_none(self, text, message):
        with pytest.raises(ValueError, match=message):
            Record.from_json(text)

    def test_the_file_is_named(self, weights_of):
        path = weights_of[0] / "shiftresnet20.toy.ssl.json"
        shutil.copy(path, weights_of[0] / "other.toy.ssl.json")
        with pytest.raises(ValueError, match="other.toy.ssl.json.*the file's"):
            zoo.get_record("other.toy.ssl")
        path.write_text("{")
        with pytest.raises(ValueError, match="shiftresnet20.toy.ssl.json is no record"):
            zoo.get_record("shiftresnet20.toy.ssl")
        for content in (b"\xff\xfe", b"[" * 100_000, b"[]"):
            path.write_bytes(content)
            with pytest.raises(
                ValueError, match="toy.ssl.json is no record of weights"
            ):
                zoo.get_record("shiftresnet20.toy.ssl")
        with pytest.raises(ValueError, match="lists: .*name='toy'"):
            zoo.get_record("toy")


class TestOtherFiles:
    """What lies beside a record, and is none."""

    @pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"name": 3}'])
    def test_do_not_stop_constructors(self, weights_of, content):
        folder, original = weights_of
        (folder / "a_notebook.json").write_text(content)
        shutil.copy(
            folder / "shiftresnet20.toy.ssl.weights.h5",
            folder / "resnet20.toy.weights.h5",
        )
        (folder / "resnet20.toy.json").write_text(content)
        assert same_weights(ShiftResNet20(alpha=ALPHA, weights="toy.ssl"), original)
        assert zoo.list_weights() == ["resnet20.toy", "shiftresnet20.toy.ssl"]
        # They are named where they may be what was meant.
        for constructor, weights in ((zoo.ResNet20, "toy"), (ShiftResNet20, "toy.ssl")):
            with pytest.raises(ValueError, match="be read: .*resnet20.toy.json is no"):
                constructor(alpha=0.5, weights=weights)

    def test_records_with_unknown_arguments(self, weights_of):
        path = weights_of[0] / "shiftresnet20.toy.ssl.json"
        record = json.loads(path.read_text())
        record["arguments"]["colour"] = 3
        path.write_text(json.dumps(record))
        with pytest.raises(ValueError, match=r"toy.ssl.json is no .*\['colour'\]"):
            ShiftResNet20(alpha=ALPHA, weights="toy.ssl")


def test_all_shipped_records_are_listed(monkeypatch):
    monkeypatch.delenv("KERAS_SHIFT_WEIGHTS_DIR", raising=False)
    files = (ROOT / "zoo" / "weights").glob("*.json")
    names = sorted(path.name.removesuffix(".json") for path in files)
    assert zoo.list_weights() == names


@pytest.mark.parametrize("name", zoo.list_weights())
class TestShipped:
    """For every record in zoo/weights."""

    @pytest.fixture(autouse=True)
    def shipped(self, monkeypatch):
        monkeypatch.delenv("KERAS_SHIFT_WEIGHTS_DIR", raising=False)

    def test_file_is_that_of_the_record(self, name):
        record = zoo.get_record(name)
        assert published_weights.checked_file(record).stat().st_size == record.bytes
        assert (published_weights.folder() / f"{name}.log.csv").exists()

    def test_golden_outputs(self, name):
        record = zoo.get_record(name)
        model = get_model(
            record.constructor,
            alpha=record.arguments["alpha"],
            weights=record.weights,
            classifier_activation=None,
        )
        found = load_tool("publish_weights").golden_outputs(model)
        with np.load(ROOT / "tests" / "data" / "golden" / f"{name}.npz") as golden:
            assert set(golden) == set(found) == {"features", "logits"}
            for key, expected in golden.items():
                # Rounding, in another order on another machine or backend.
                bound = 1e-4 * np.abs(expected).max()
                np.testing.assert_allclose(found[key], expected, rtol=0, atol=bound)
