"""Every network of the zoo: the papers' counts, saving, heads, gradients, LiteRT."""

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.analysis import multiply_adds
from keras_shift.deploy import fuse, to_tflite
from keras_shift.deploy.agreement import compare
from keras_shift.layers.shift_layer import LearnedShift
from keras_shift.zoo import (
    FENet,
    ResNet20,
    ShiftNetA,
    ShiftResNet50,
    ShiftResNet110,
    get_model,
    list_models,
    model_counts,
    variants,
)
from marks import exhaustive
from networks import (
    ROOT,
    load_tool,
    parameters,
    pixels,
    predict,
    python_environment,
    randomize,
)

pytestmark = pytest.mark.tensorflow

COUNTS = json.loads(
    (Path(__file__).parent / "data" / "expected_counts.json").read_text()
)
# Names in expected_counts.json of what has another name here.
ROWS = {
    "fenet_1.375_se_v1_r4": "fenet_1.375_se_v1",
    "fenet_1.375_se_v2_r8": "fenet_1.375_se_v2",
    "fenet_1.375_head1932_se_v1_r4": "fenet_1.375_head1932_se_v1",
    "fenet_1.375_head1932_se_v2_r8": "fenet_1.375_head1932_se_v2",
    "fenet_1.0_dw_bn": "fenet_1.0_dw",
    "fenet_1.375_dw_bn": "fenet_1.375_dw",
    "shiftnet_c_plain": "shiftnet_c",
    "shiftnet_c_concat_stem16": "shiftnet_c_concatenate_stem16",
    "shiftnet_c_concat_stem32": "shiftnet_c_concatenate",
    "shiftresnet20_ssl_e6": "shiftresnet20_ssl",
    "shiftresnet56_ssl_e6": "shiftresnet56_ssl",
    "resnet20_optionA": "resnet20_zero_padding",
    "resnet56_optionA": "resnet56_zero_padding",
    **{
        f"{network}_1/{reduction}": network + suffix
        for network in ("resnet50", "shiftresnet50")
        for reduction, suffix in ((1, ""), (2, "_net_wise_2"), (4, "_net_wise_4"))
    },
}
# A gate on the whole map and a depthwise convolution without BN are other readings of
# the paper; style transfer is no classification; the face network has another head.
NOT_BUILT = ("fenet_1.375_se_v1_all_r8", "dw_nobn", "style_", "shiftfacenet_")


def network_of(row):
    """The name and the arguments of a row of expected_counts.json."""
    name, separator, classes = row.rpartition("_c")
    if separator and classes in ("10", "100"):
        return ROWS.get(name, name), {"classes": int(classes)}
    return ROWS.get(row, row), {}


EXPECTED = {
    row: network_of(row) for row in COUNTS if not any(part in row for part in NOT_BUILT)
}


def costs(model):
    displacements = [
        layer.displacements for layer in model.layers if isinstance(layer, LearnedShift)
    ]
    return {
        "trainable": parameters(model.trainable_weights),
        "total_keras": parameters(model.weights),
        "shift": parameters(displacements),
        "madds": multiply_adds(model),
    }


def test_every_expected_network_is_compared():
    names = {name for name, _ in EXPECTED.values()}
    assert names <= set(list_models())
    # What the ShiftNet paper gives no counts of, or other spatial layers of the same.
    without = {
        name
        for name in list_models()
        if not any(mark in name for mark in ("_wise_", "_grouped", "1x1"))
    }
    assert without <= names
    assert len(EXPECTED) == 61


# What has the layers of another network, in another number or width. Of most of these,
# .ci/run only compares the file of counts with the papers' numbers, and has no time to
# build them.
_TWIN = (
    r"110|56|_wise_|port2022|20_e[136]$|20_ssl_grouped|fenet_1\.375|shiftnet_b"
    r"|c_concatenate|^resnet50$"
)
TWINS = [name for name in list_models() if re.search(_TWIN, name)]


def compare_counts(name, model):
    found = costs(model)
    counts = model_counts()[name]
    assert model.input_shape[1:] == counts.input_shape
    assert model.output_shape == (None, counts.classes)
    assert found["trainable"] == counts.parameters + counts.displacements
    assert found["shift"] == counts.displacements
    assert found["madds"] == counts.multiply_adds
    for row, (network, arguments) in EXPECTED.items():
        if network == name and arguments.get("classes") != 100:
            assert found == {key: COUNTS[row][key] for key in found}


# Of every depth and of every argument that no other network here has, .ci/run builds
# one.
BUILT = {
    "fenet_1.375_head1932_se_v1",
    "fenet_1.375_port2022",
    "resnet110_module_wise_15",
    "resnet56_net_wise_8",
    "shiftresnet110_e1",
    "shiftresnet56_ssl",
}


@pytest.mark.parametrize(
    "name", [name if name in BUILT else exhaustive(name) for name in TWINS]
)
def test_counts_of_twins(name):
    compare_counts(name, get_model(name, kernel_initializer="zeros"))


def test_what_is_built_of_twins_are_twins():
    assert BUILT <= set(TWINS)


@pytest.mark.parametrize("row", [row for row in EXPECTED if row[-5:] != "_c100"])
def test_the_file_of_counts_has_the_expected_ones(row):
    name, _ = EXPECTED[row]
    expected, counts = COUNTS[row], model_counts()[name]
    assert counts.parameters + counts.displacements == expected["trainable"]
    assert counts.displacements == expected["shift"]
    assert counts.multiply_adds == expected["madds"]


@pytest.mark.parametrize(
    "row",
    [
        exhaustive(row) if name in TWINS else row
        for row, (name, _) in EXPECTED.items()
        if row.endswith("_c100")
    ],
)
def test_counts_with_100_classes(row):
    name, arguments = EXPECTED[row]
    expected = COUNTS[row]
    # Zeros take less time than random numbers.
    assert costs(get_model(name, kernel_initializer="zeros", **arguments)) == {
        key: expected[key] for key in ("trainable", "total_keras", "shift", "madds")
    }


@pytest.mark.parametrize(
    "name, trainable",
    [
        # The trainable parameters that the ShiftNet authors' README and code of 2017
        # give for ResNets whose parameters are reduced.
        ("resnet20_module_wise_12", 35_946),
        ("resnet20_module_wise_3.3", 94_122),
        ("resnet20_module_wise_1.6", 183_486),
        ("resnet56_module_wise_16", 104_088),
        ("resnet56_module_wise_3.3", 298_794),
        ("resnet56_module_wise_1.6", 582_150),
        ("resnet110_module_wise_15", 211_062),
        ("resnet110_module_wise_3.3", 605_802),
        ("resnet110_module_wise_1.6", 1_180_146),
        ("resnet20_net_wise_8", 32_442),
        ("resnet56_net_wise_8", 101_394),
        ("resnet110_net_wise_8", 204_822),
    ],
)
def test_reduced_resnets(name, trainable):
    # Other tests compare the file of counts with the networks.
    assert model_counts()[name].parameters == trainable


class TestNames:
    def test_patterns(self):
        assert list_models("shiftnet_?") == ["shiftnet_a", "shiftnet_b", "shiftnet_c"]
        assert list_models("no_such_*") == []
        assert set(list_models("shiftresnet20_e*")) < set(list_models())

    def test_constructors_have_names_too(self):
        for name in ("FENet", "ShiftNetC", "ResNet20"):
            model = get_model(name, include_top=False, alpha=0.25)
            assert model.output_shape[:3] == (None, None, None)
        painter = get_model("StyleTransferNet", input_shape=(32, 32, 3), alpha=0.25)
        assert painter.output_shape == (None, 32, 32, 3)

    def test_arguments_come_before_those_of_the_name(self):
        model = get_model("fenet_1.375", alpha=0.25, classes=7, name="mine")
        assert model.name == "mine" and model.output_shape == (None, 7)
        assert get_model("shiftresnet20_e1").name == "shiftresnet20_e1"
        assert model.get_layer("stem").filters == 4

    def test_no_such_network(self):
        with pytest.raises(
            ValueError, match="(?s)fenet_1.375.*Received: name='fenet_1'"
        ):
            get_model("fenet_1")

    @pytest.mark.parametrize("name", ["fenet_1.0", "FENet"])
    def test_no_such_argument(self, name):
        with pytest.raises(ValueError, match=r"(?s)FENet has.*`?alpha.*\['colour'\]"):
            get_model(name, colour=3)

    def test_every_network_is_counted(self):
        assert list(model_counts()) == list_models()


@pytest.mark.parametrize(
    "printed, value, says",
    [
        ("3.7M", 3_524_544, "-4.7%"),
        ("5.9M", 5_941_754, "match"),
        ("4.1M", 4_188_680, "match, cut off"),
        ("1400M", 1_424_306_176, "match"),
        ("1400M", 1_500_000_001, "+7.1%"),
        ("211K", 211_062, "match"),
        ("0.10M", 95_642, "match"),
        ("0.10M", 94_999, "-5.0%"),
    ],
)
def test_agreement_with_what_is_printed(printed, value, says):
    assert variants.compare(printed, value) == says


def test_documentation_is_what_the_records_say():
    update_zoo = load_tool("update_zoo")
    assert (
        ROOT / "docs" / "zoo.md"
    ).read_text() == update_zoo.document(), "run tools/update_zoo.py"


def test_docstrings_hold_the_figures():
    docstring = FENet.__doc__
    assert "| fenet_1.0 | 301M, 3.7M | 299.7, 3.52 |" in docstring
    for constructor in (FENet, ShiftNetA, ShiftResNet110, ShiftResNet50, ResNet20):
        assert "<" not in constructor.__doc__.replace("<https", "")


@pytest.mark.parametrize(
    "name, others",
    [
        ("FENet", ["displacements", "kernels"]),
        ("MobileNetV2", []),
        ("ResNet50", ["kernels"]),
        ("ShiftResNet50", ["displacements", "kernels"]),
    ],
)
def test_editors_find_whole_docstrings(name, others):
    """An editor runs nothing, so it finds no text that comes from elsewhere."""
    module = inspect.getmodule(inspect.unwrap(getattr(zoo, name)))
    tree = ast.parse(inspect.getsource(module))
    (function,) = (node for node in tree.body if getattr(node, "name", "") == name)
    docstring = ast.get_docstring(function)
    assert not re.search(r"<\w+>", docstring)
    shared = zoo.arguments.shared_arguments(224, 1000)
    for key in ("input_shape", "top", *others):
        assert textwrap.indent(shared[key], "    ") in docstring


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory):
    """Loads .keras files and predicts, in one process that only loads keras_shift."""
    code = """
import sys
import keras_shift
import keras, numpy as np
for line in sys.stdin:
    path = line.strip()
    model = keras.saving.load_model(path)
    images = np.load(path + ".images.npy")
    np.save(path + ".output.npy", np.asarray(model(images, training=False)))
    print(path, flush=True)
"""
    folder = tmp_path_factory.mktemp("fresh_process")
    with open(folder / "errors.txt", "w+") as errors, subprocess.Popen(
        [sys.executable, "-c", code],
        env=python_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    ) as process:

        def load_and_predict(model, images):
            path = str(folder / "model.keras")
            model.save(path)
            np.save(path + ".images.npy", images)
            process.stdin.write(path + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            assert answer == path, (folder / "errors.txt").read_text()
            return np.load(path + ".output.npy")

        yield load_and_predict
        process.stdin.close()


@pytest.fixture(
    scope="class",
    params=[exhaustive(name) if name in TWINS else name for name in list_models()],
)
def name(request):
    return request.param


@pytest.fixture(scope="class")
def model(name):
    keras.utils.set_random_seed(0)
    # Of the few channels of reduced modules, not one must be off.
    off = 0 if "_wise_" in name else 0.05
    yield randomize(get_model(name, classifier_activation=None), off=off)
    # Without it, collecting garbage takes a third of the time in the end.
    keras.utils.clear_session()


@pytest.fixture(scope="class")
def images(model):
    return pixels(2, *model.input_shape[1:])


@pytest.fixture(scope="class")
def outputs(model, images):
    return predict(model, images)


class TestEveryNetwork:
    """For one network after the other, so that each is built once."""

    def test_counts(self, name, model):
        compare_counts(name, model)

    def test_keras_file_in_a_fresh_process(self, model, images, outputs, fresh_process):
        again = fresh_process(model, images)
        scale = np.abs(outputs).max()
        np.testing.assert_allclose(again, outputs, rtol=0, atol=1e-5 * scale)

    def test_every_trainable_weight_gets_a_gradient(self, model, images):
        import tensorflow as tf

        before = model.get_weights()
        weights = [weight.value for weight in model.trainable_weights]
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_sum(tf.square(logits))
        gradients = tape.gradient(loss, weights)
        model.set_weights(before)  # The batch has moved the moving statistics.
        without = [
            weight.path
            for weight, gradient in zip(model.trainable_weights, gradients)
            # The few hidden units of a gate may all be off for these images.
            if gradient is None or not (np.any(gradient) or "excite" in weight.path)
        ]
        assert without == []

    def test_tflite_file(self, name, model, images, tmp_path):
        if name == "shiftresnet50":
            # Converting all of its weights takes longer than building a narrow one.
            narrow = get_model(name, alpha=0.25, classifier_activation=None)
            model = randomize(narrow)
        report = to_tflite(model, tmp_path / "model.tflite", representative_data=images)
        assert report.agreement.images == len(images)
        assert report.agreement.relative_difference < 1e-5
        # `to_tflite` allows builtin operations only; these are all of them.
        assert set(report.operations) <= {
            "ADD",
            "AVERAGE_POOL_2D",
            "CONCATENATION",
            "CONV_2D",
            "DEPTHWISE_CONV_2D",
            "FULLY_CONNECTED",
            "LOGISTIC",
            "MAX_POOL_2D",
            "MEAN",
            "MUL",
            "PAD",
            "STRIDED_SLICE",
        }

    def test_fused(self, name, model, images, outputs):
        same = compare(predict(fuse(model), images), outputs)
        # Through 110 layers of one to four channels, with nothing to fuse but batch
        # normalization, rounding adds up.
        bound = 3e-5 if name == "resnet110_module_wise_15" else 1e-5
        assert same.relative_difference < bound

    @pytest.mark.parametrize(
        # tests/test_fenet.py has a test of the other pooling.
        "pooling, channels",
        [("avg", 1), exhaustive("max", 4), (None, 3)],
        ids=str,
    )
    def test_without_top(self, name, model, pooling, channels):
        images = keras.Input((36, 32, channels))
        backbone = get_model(
            name,
            include_top=False,
            pooling=pooling,
            input_tensor=images,
            kernel_initializer="zeros",  # takes less time than random numbers
        )
        assert backbone.inputs[0] is images
        # Of the classifier's kernel.
        features = model.weights[-2].shape[0]
        if pooling is None:
            output = predict(backbone, pixels(1, 36, 32, channels))
            reductions = 2 if model.input_shape[1] == 32 else 5
            assert output.shape[:2] == (1, -(-36 // 2**reductions))
            assert output.shape == backbone.compute_output_shape((1, 36, 32, channels))
            assert output.shape[-1] == features and np.isfinite(output).all()
        else:
            assert backbone.output_shape == (None, features)
        # All but the first convolution, the classifier, and the classifier's bias.
        shapes = [weight.shape for weight in backbone.weights]
        assert shapes[1:] == [weight.shape for weight in model.weights[1:-2]]
        assert shapes[0][2] == channels
