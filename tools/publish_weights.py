"""Turns a training that has ended into weights that this repository publishes.

python tools/publish_weights.py RUN_DIRECTORY --data-dir DIR

Measures the network on the held-out images, in float32 and as an int8 .tflite file,
and writes

-   zoo/weights/NAME.weights.h5, NAME.log.csv and NAME.json, its record;
-   tests/data/golden/NAME.npz, what it answers to a few images of random pixels;
-   what is made of all records: zoo/results.csv and docs/results.md (see
    tools/update_results.py), docs/weights/ (tools/update_model_cards.py), README.md's
    table (tools/update_readme.py) and docs/learning_curves.png (tools/plot_logs.py).

Only a recipe that the repository holds, trained to its end, is published.
"""

import argparse
import dataclasses
import json
import runpy
import subprocess
from pathlib import Path

import keras
import numpy as np

from keras_shift import publishing
from keras_shift.files import replacing
from keras_shift.training import trainer
from keras_shift.zoo import recipes

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "zoo" / "weights"
GOLDEN = ROOT / "tests" / "data" / "golden"

GOLDEN_IMAGES = 3


def main():
    """Publishes what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="directory that keras-shift train wrote")
    parser.add_argument("--data-dir", help="folder of the dataset")
    parser.add_argument(
        "--commit", help="commit of this repository that trained it, if it did not say"
    )
    parser.add_argument(
        "--name", help="what users are to pass as weights; the recipe says by default"
    )
    options = parser.parse_args()
    try:
        record = publish(**vars(options))
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    for tool in (
        "update_results.py",
        "update_model_cards.py",
        "update_readme.py",
        "plot_logs.py",
    ):
        runpy.run_path(str(ROOT / "tools" / tool))["main"]()
    print(record.to_json(), end="")


def publish(run, data_dir, commit=None, name=None):
    """Writes the files of published weights into this repository.

    Args:
        run: Path of the directory of a training.
        data_dir: Folder of the dataset, see `keras_shift.training.load_data`.
        commit: The commit that trained it, as git understands it. Defaults to `None`:
            what environment.json says.
        name: String, what users are to pass as `weights`. Defaults to `None`: what
            the recipe says.

    Returns:
        The `Record`.

    Raises:
        ValueError: If it is not a recipe of the repository that has trained it, if it
            is not known which commit has, and as `publishing.publish` does.
    """
    run = Path(run)
    trained = publishing.read_run(run, classifier_activation=None)
    check_recipe(run, trained.recipe)
    source = json.loads((run / trainer.ENVIRONMENT).read_text(encoding="utf-8"))
    commit = full_hash(commit or source["git_commit"])
    stem, _ = publishing.names(trained.recipe, name)
    for folder in (WEIGHTS, GOLDEN):
        folder.mkdir(parents=True, exist_ok=True)
    # The golden outputs take their place last: without them tests fail, and publishing
    # once more mends it.
    with replacing(GOLDEN / f"{stem}.npz") as path:
        with open(path, "wb") as file:
            np.savez_compressed(file, **golden_outputs(trained.model))
        return publishing.publish(run, data_dir, WEIGHTS, commit, name)


def check_recipe(run, recipe):
    """Refuses a recipe that the repository does not hold, or holds otherwise."""
    known = recipes.get_recipe(recipe.name)
    if dataclasses.replace(recipe, seed=known.seed).to_json() != known.to_json():
        raise ValueError(f"{run} was not trained by {recipe.name} as it stands here.")


def golden_outputs(model):
    """Returns what a network answers to images of random pixels.

    Args:
        model: The network with logits in place of probabilities.

    Returns:
        A dict of arrays: the features that the classifier sees, and its logits.
    """
    random = np.random.default_rng(0)
    shape = (GOLDEN_IMAGES, *model.input_shape[1:])
    images = random.uniform(0, 255, shape).astype("float32")
    features = model.get_layer("average_pool").output
    both = keras.Model(model.inputs[0], [features, model.outputs[0]])
    features, logits = both(images, training=False)
    return {
        "features": keras.ops.convert_to_numpy(features),
        "logits": keras.ops.convert_to_numpy(logits),
    }


def full_hash(commit):
    """Returns all digits of a commit of this repository."""
    if commit is None:
        raise ValueError(
            "The training does not say which commit trained it: name it (--commit)."
        )
    result = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise ValueError(f"--commit {commit}: {result.stderr.strip()}")
    return result.stdout.strip()


if __name__ == "__main__":
    main()
