"""The example, on images that TFDS makes up."""

import pytest

import training_process
from networks import ROOT, load_example
from test_distribution import assert_alike, assert_ended_well, needs_jax, together

pytestmark = pytest.mark.tensorflow

pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

TINY = ["--alpha", "0.25", "--image-size", "32", "--batch-size", "4"]


@pytest.fixture(scope="module")
def example():
    return load_example("train_imagenet")


@pytest.mark.filterwarnings("ignore")  # from inside TFDS
def test_it_trains_and_goes_on(example, tmp_path, monkeypatch):
    """A small network; a test below builds one of a recipe."""

    def build(recipe):
        assert recipe.arguments == {"alpha": 0.25, "input_shape": (8, 8, 3)}
        return training_process.network(classes=1000)

    def run(*options):
        options = ["--image-size", "8", "--epochs", "2", *options]
        options = [*TINY, "--output", str(tmp_path / "run"), *options]
        # Two steps; one image is left over.
        with tfds.testing.mock_data(num_examples=5):
            return example.main(example.parse(options))

    monkeypatch.setattr(example.recipes, "build", build)
    rows = run()
    assert [row["steps"] for row in rows] == [1, 2]
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "checkpoint.npz",
        "final.weights.h5",
        "log.csv",
        "recipe.json",
    }
    assert run("--resume") == rows
    with pytest.raises(FileExistsError, match="already holds a training"):
        run()


def test_options_change_the_recipe(example):
    recipe = example.recipes.get_recipe("imagenet2012.fenet_1.0")
    assert example.changed(recipe, example.parse(["--output", "run"])) == recipe
    options = example.parse(["--output", "run", *TINY, "--epochs", "3", "--seed", "2"])
    tiny = example.changed(recipe, options)
    assert (tiny.batch_size, tiny.epochs, tiny.seed) == (4, 3, 2)
    assert tiny.arguments == {"alpha": 0.25, "input_shape": (32, 32, 3)}
    assert tiny.undistorted == recipe.undistorted
    other = example.recipes.get_recipe("cifar10.shiftresnet20_ssl_grouped")
    model = example.recipes.build(example.changed(other, options))
    layers = [layer for layer in model.layers if "_shift" in layer.name]
    assert {type(layer).__name__ for layer in layers} == {"GroupedShift2D"}
    assert layers[0].channels == 24  # a quarter of 96


@pytest.mark.exhaustive
@needs_jax
def test_two_processes_train_alike(tmp_path):
    """Streams are TensorFlow's, and the network is JAX's, a small one."""
    runs = tmp_path / "one", tmp_path / "two"
    for count, folder in enumerate(runs, start=1):
        options = ["--batch-size", "4", "--epochs", "1", "--output", str(folder)]
        program = (
            "import runpy, sys\n"
            "import tensorflow_datasets as tfds\n"
            "from keras_shift.zoo import recipes\n"
            f"sys.path.append({str(ROOT / 'tests')!r})\n"
            "import training_process\n"
            "network = lambda recipe: training_process.network(classes=1000)\n"
            "recipes.build = network\n"
            f"sys.argv = {[str(ROOT / 'examples' / 'train_imagenet.py'), *options]}\n"
            "with tfds.testing.mock_data(num_examples=9):\n"
            "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        assert_ended_well(*together("-c", program, count=count))
    assert_alike(*runs, 1e-5)
