"""Every block of code in docs/guides runs, on tiny images and networks."""

import inspect
import re
import shlex

import keras
import numpy as np
import pytest

import keras_shift
from keras_shift.cli import main
from keras_shift.layers.shift_layer import shift_layers
from marks import exhaustive
from networks import ROOT, three_shifts
from trained import TOY

if keras.backend.backend() != "tensorflow":
    pytest.skip("guides are about TensorFlow's files", allow_module_level=True)
pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3.15 says so of every tf.data.Dataset, those of its own making included.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

GUIDES = ROOT / "docs" / "guides"
CODE = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def names(tmp_path, monkeypatch):
    """A folder as a reader has it, and the names that guides take for granted."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (10, 32, 32, 3)).astype("uint8")
    for number, image in enumerate(images):
        folder = tmp_path / "photographs" / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / f"{number}.png", image)
    keras.utils.set_random_seed(0)
    model = three_shifts(classes=2)
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    model.save("model.keras")
    mobile_net = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(3, padding="same")]
    )
    return {
        "images": images.astype("float32"),
        "keras": keras,
        "keras_shift": keras_shift,
        "labels": np.arange(10) % 2,
        "mobile_net": mobile_net,
        "model": model,
    }


@pytest.fixture
def small(monkeypatch):
    """A network of three shifts in FE-Net's place, which takes what FE-Net takes."""
    constructor = keras_shift.zoo.FENet

    def stand_in(*arguments, **keywords):
        given = inspect.signature(constructor).bind(*arguments, **keywords).arguments
        if "weights" in given:
            keras_shift.zoo.get_record(f"fenet_{given['alpha']}.{given['weights']}")
        model = three_shifts(given.get("classes", 2))
        if given.get("include_top", True):
            return model
        return keras.Model(model.input, model.layers[-2].output)

    monkeypatch.setattr(keras_shift.zoo, "FENet", stand_in)


def run(guide, names):
    """Runs a guide's code from top to bottom, with short trainings of small images."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    blocks = CODE.findall(text)
    assert len(blocks) == text.count("```") // 2 > 0
    for language, code in blocks:
        if language == "python":
            code = re.sub(r"epochs=\d+", "epochs=1", code).replace("96, 96", "32, 32")
            exec(compile(code, f"{guide}.md", "exec"), names)
            continue
        for line in code.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            assert command == "keras-shift"
            main(arguments)


def test_every_guide_is_tested():
    tested = {name.removeprefix("test_") for name in globals()}
    assert {path.stem for path in GUIDES.iterdir()} <= tested


@pytest.mark.usefixtures("small")
def test_choose_a_width(names, capsys):
    run("choose_a_width", names)
    out = capsys.readouterr().out
    counts = re.findall(r"^(?:0.5|0.75|1.0) (\d+) (\d+)$", out, re.MULTILINE)
    assert len(counts) == 3 and "untrained.tflite" in out


@pytest.mark.parametrize("network", ["stand-in", exhaustive("FENet")])
def test_fine_tune(network, names, request):
    if network == "stand-in":
        request.getfixturevalue("small")
    run("fine_tune", names)
    assert names["model"].output_shape == (None, 2)
    assert names["features"].shape[0] == 8
    assert len(names["history"].epoch) == 1


def test_sparsify(names, capsys, monkeypatch):
    # Tested in test_costs.py; it exports as many files as there are shifts, and more.
    monkeypatch.setattr(keras_shift.deploy, "shift_costs", lambda model: "costs")
    run("sparsify", names)
    before, after = re.findall(r"^0\.\d+$", capsys.readouterr().out, re.MULTILINE)
    assert float(before) < 0.8 <= float(after)
    (shift,) = shift_layers(names["shifted"])
    assert shift.max_displacement == 1


def test_phone(names, capsys, tmp_path):
    run("phone", names)
    assert "same top-1 as Keras" in capsys.readouterr().out
    assert (tmp_path / "portable.keras").stat().st_size > 10_000


def test_server(names, tmp_path):
    run("server", names)
    expected = names["model"].predict(names["images"], verbose=0)
    np.testing.assert_allclose(names["probabilities"], expected, atol=1e-5)
    assert (tmp_path / "saved_model" / "saved_model.pb").is_file()


@pytest.mark.exhaustive
def test_report(names, tmp_path):
    for package in ("jinja2", "matplotlib", "tf_keras_vis"):
        pytest.importorskip(package)
    run("report", names)
    assert (tmp_path / "shifts.png").stat().st_size > 1000
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    guide = (GUIDES / "report.md").read_text(encoding="utf-8")
    for heading in re.findall("<h2[^>]*>(.*?)</h2>", page):
        assert f"**{heading}**" in guide


@pytest.mark.exhaustive
def test_train(names, monkeypatch):
    recipes = keras_shift.zoo.recipes
    named = recipes.get_recipe("cifar10.shiftresnet20_ssl.short")
    monkeypatch.setattr(recipes, "get_recipe", {named.name: TOY}.__getitem__)
    pixels, labels = np.zeros((16, 12, 12, 3), "uint8"), np.arange(16) % 4
    data = keras_shift.training.Data("toy", pixels, labels, pixels, labels, ["a"] * 4)
    monkeypatch.setattr(keras_shift.training, "load_data", lambda *arguments: data)
    run("train", names)
    assert len(names["rows"]) == TOY.epochs
