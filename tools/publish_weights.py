"""Turns a training that has ended into published weights.

python tools/publish_weights.py RUN_DIRECTORY --data-dir DIR

Measures the network on the held-out images, in float32 and as an int8 .tflite file,
and writes

-   zoo/weights/NAME.weights.h5, NAME.log.csv and NAME.json, its record;
-   tests/data/golden/NAME.npz, what it answers to a few images of random pixels;
-   what is made of all records: zoo/results.csv and docs/results.md (see
    tools/update_results.py), README.md's table (tools/update_readme.py) and
    docs/learning_curves.png (tools/plot_logs.py).

Only a recipe that the repository holds, trained to its end, is published.
"""

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import inspect
import json
import math
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np

from keras_shift import analysis, measuring, training, zoo
from keras_shift.files import replacing
from keras_shift.layers.shift_layer import LearnedShift, ShiftLayer
from keras_shift.training import trainer
from keras_shift.zoo import predictions, recipes, shiftresnet
from keras_shift.zoo.loading import FREE
from keras_shift.zoo.record import Record

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "zoo" / "weights"
GOLDEN = ROOT / "tests" / "data" / "golden"

GOLDEN_IMAGES = 3

# What the datasets' own terms allow.
LICENCES = {
    "cifar10": "its authors state no licence and ask to be cited (Krizhevsky, 2009)",
    "cifar100": "its authors state no licence and ask to be cited (Krizhevsky, 2009)",
    "tiny_imagenet": "images of ImageNet, whose terms allow non-commercial research "
    "and education only",
    "imagenet2012": "ImageNet's terms allow non-commercial research and education only",
}


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
    record = publish(**vars(options))
    for tool in ("update_results.py", "update_readme.py", "plot_logs.py"):
        runpy.run_path(str(ROOT / "tools" / tool))["main"]()
    print(record.to_json(), end="")


def publish(run, data_dir, commit=None, name=None):
    """Writes the files of published weights.

    Args:
        run: Path of the directory of a training.
        data_dir: Folder of the dataset, see `keras_shift.training.load_data`.
        commit: The commit that trained it, as git understands it; what
            environment.json says by default.
        name: What users are to pass as `weights`.

    Returns:
        The `Record`.
    """
    run = Path(run)
    trained = measuring.read_run(run)
    recipe, model = trained.recipe, trained.model
    known = recipes.get_recipe(recipe.name)
    if dataclasses.replace(recipe, seed=known.seed).to_json() != known.to_json():
        raise SystemExit(f"{run} was not trained by {recipe.name} as it stands here.")
    data = training.load_data(
        recipe.dataset, model.input_shape[1:3], data_dir, recipe.augmentation
    )
    check_end(run / trainer.LOG, recipe.epochs_of(data.train_count))
    source = json.loads((run / trainer.ENVIRONMENT).read_text(encoding="utf-8"))
    commit = full_hash(commit or source["git_commit"])
    class_names = names_of_classes(data)
    constructor = zoo.models.constructor_name(recipe.network)
    arguments = arguments_of(recipe, constructor)
    network, weights = names(recipe, constructor, arguments["alpha"])
    weights = name or weights
    stem = f"{network}.{weights}"
    figures = measuring.measure(model, data)

    WEIGHTS.mkdir(exist_ok=True)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    logits = measuring.read_run(run, classifier_activation=None).model
    with contextlib.ExitStack() as files:
        # They take their places together, the record last: without it, the others are
        # nothing.
        record_path, path, log_path, golden_path = (
            files.enter_context(replacing(place))
            for place in (
                WEIGHTS / f"{stem}.json",
                WEIGHTS / f"{stem}.weights.h5",
                WEIGHTS / f"{stem}.log.csv",
                GOLDEN / f"{stem}.npz",
            )
        )
        with open(golden_path, "wb") as file:
            np.savez_compressed(file, **golden_outputs(logits))
        shutil.copyfile(run / trainer.LOG, log_path)
        # Of a model without an optimizer, whose momentum is as large.
        model.save_weights(path)
        record = Record(
            name=stem,
            weights=weights,
            constructor=constructor,
            arguments=arguments,
            input_shape=model.input_shape[1:],
            dataset=recipe.dataset,
            classes=model.output_shape[-1],
            class_names=class_names,
            recipe=json.loads(recipe.to_json()),
            git_commit=commit,
            versions=source["versions"],
            backend=source["backend"],
            device=source["device"],
            seconds=seconds_of(run / trainer.LOG),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            bytes=path.stat().st_size,
            licence="Weights: Apache-2.0. Dataset: "
            + LICENCES.get(recipe.dataset, "see its own terms"),
            **dataclasses.asdict(figures),
            parameters=sum(
                math.prod(weight.shape)
                for weight in model.trainable_weights
                if weight.name != "displacements"
            ),
            multiply_adds=analysis.multiply_adds(model),
            unshifted={
                layer.name: (round(layer.sparsity * layer.channels), layer.channels)
                for layer in model.layers
                if isinstance(layer, ShiftLayer)
            },
            moved=moved(recipe, model, source["backend"]),
        )
        record_path.write_text(record.to_json(), encoding="utf-8")
    return record


def moved(recipe, model, backend):
    """Returns the field `moved` of a record.

    Args:
        recipe: The recipe, which says where displacements start.
        model: The network that it has trained.
        backend: Keras' backend that trained it.
    """
    if recipe.displacement_start != "grouped" and backend != keras.backend.backend():
        raise SystemExit(
            f"{recipe.name} starts at random displacements, which only the backend "
            f"that trained it draws again: set KERAS_BACKEND={backend}."
        )
    start = recipes.build(recipe)
    found = {}
    for layer in model.layers:
        if isinstance(layer, LearnedShift):
            before = np.rint(start.get_layer(layer.name).displacement_array())
            after = np.rint(layer.displacement_array())
            elsewhere = (before != after).any(axis=0)
            found[layer.name] = (int(elsewhere.sum()), layer.channels)
    return found


def check_end(log, epochs):
    """Refuses a training that has not come to its end."""
    with open(log, newline="", encoding="utf-8") as file:
        done = sum(1 for _ in csv.DictReader(file))
    if done != epochs:
        raise SystemExit(f"{log} has {done} epochs of {epochs}.")


def names_of_classes(data):
    """Returns the name of the file with the dataset's classes, or else their names."""
    try:
        known = predictions.class_names(data.name)
    except ValueError:
        return data.class_names
    measuring.check_classes(data, [identifier for identifier, _ in known])
    return data.name


def arguments_of(recipe, constructor):
    """Returns the constructor's arguments on which weights depend, all of them.

    With the defaults, so that weights survive other defaults.
    """
    function = getattr(zoo, constructor)
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(function).parameters.items()
        if key not in FREE or key == "output_stride"
    }
    variant = zoo.variants.VARIANTS.get(recipe.network)
    given = {**(variant.arguments if variant else {}), **recipe.arguments}
    arguments = {key: given.get(key, value) for key, value in defaults.items()}
    if "wiring" in arguments and arguments["spatial"] is None:
        arguments["spatial"] = shiftresnet.DEFAULT_SPATIAL[arguments["wiring"]]
    return arguments


def names(recipe, constructor, alpha):
    """Returns the network's part of the file name, and what users pass as weights.

    `cifar10.shiftresnet20_ssl.short` makes `shiftresnet20` and `cifar10.ssl.short`.
    """
    rest = recipe.name.partition(".")[2]
    spelled = "_?".join(map(re.escape, constructor))
    found = re.match(rf"{spelled}(_\d+(\.\d+)?(?=[._]|$))?", rest, re.IGNORECASE)
    if not found:
        raise SystemExit(f"{recipe.name} does not name its network: use --name.")
    network, suffix = found[0], rest[found.end() :].strip("._")
    if alpha != 1 and not found[1] and not suffix:
        network = f"{network}_{alpha:g}"
    return network, ".".join(filter(None, [recipe.dataset, suffix]))


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


def seconds_of(log):
    """Returns how long all epochs took together, or `None` if it is not in the log."""
    with open(log, newline="", encoding="utf-8") as file:
        times = [row.get("seconds") for row in csv.DictReader(file)]
    return round(sum(map(float, times)), 1) if all(times) else None


def full_hash(commit):
    """Returns all digits of a commit of this repository."""
    if commit is None:
        raise SystemExit(
            "The training does not say which commit trained it: name it (--commit)."
        )
    result = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"--commit {commit}: {result.stderr.strip()}")
    return result.stdout.strip()


if __name__ == "__main__":
    main()
