"""Trainings that travel to another machine and back."""

import csv
import dataclasses
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import time

import h5py
import keras
import numpy as np
import pytest

from keras_shift import environment, publishing
from keras_shift.training import Recipe, load_data
from networks import ROOT, load_tool, python_environment

# So many that the first training cannot end before it is killed.
EPOCHS = 30
RECIPE = Recipe(
    name="toy.shiftresnet20_ssl",
    network="shiftresnet20_ssl",
    arguments={"input_shape": (8, 8, 3), "classes": 2},
    dataset="toy",
    augmentation="flip_crop",
    crop_padding=1,
    batch_size=4,
    epochs=EPOCHS,
    learning_rate=0.05,
    displacement_gradient_factor=10,
    freeze_shifts=0.5,
)


@pytest.fixture
def tool(monkeypatch):
    found = load_tool("train_on_gpu")
    # Without the weights, which travel with no call.
    monkeypatch.setattr(found, "tree_size", lambda: 5_000_000)
    return found


@pytest.fixture
def toy(tmp_path):
    """Arrays, and the same as folders of images."""
    random = np.random.default_rng(0)
    arrays = {"classes": np.array(["cat", "dog"])}
    for split, folder, count in (("train", "train", 10), ("test", "val", 6)):
        images = random.integers(0, 256, (count, 8, 8, 3), "uint8")
        labels = np.sort(np.arange(count) % 2)
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
        for index, (image, label) in enumerate(zip(images, labels)):
            path = tmp_path / "toy" / folder / arrays["classes"][label]
            path.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path / f"{index}.png", image, scale=False)
    np.savez(tmp_path / "arrays.npz", **arrays)
    return arrays


def travel(tool, work, part=500):
    """Packs both datasets in small parts, and unpacks them."""
    folder = work.parent
    datasets = [f"toy={folder / 'toy'}", f"arrays={folder / 'arrays.npz'}"]
    tool.pack(work, datasets, [], None, tool.PYTHON, [], part)
    sizes = [path.stat().st_size for path in (work / "packed").iterdir()]
    tool.unpack(work)
    return sizes


def test_data_arrive_as_they_are(tool, toy, tmp_path, monkeypatch, capsys):
    # Several strips, the last one shorter.
    monkeypatch.setattr(tool, "STRIP", 4)
    sizes = travel(tool, tmp_path / "work")
    assert len(sizes) > 2
    assert max(sizes) <= 500
    assert all("carry=[" in line for line in capsys.readouterr().out.split("\n")[3:-1])
    for name in ("toy", "arrays"):
        data = load_data(name, (8, 8), tmp_path / "work" / "data")
        np.testing.assert_array_equal(data.train_images, toy["x_train"])
        np.testing.assert_array_equal(data.train_labels, toy["y_train"])
        np.testing.assert_array_equal(data.held_out_images, toy["x_test"])
        np.testing.assert_array_equal(data.held_out_labels, toy["y_test"])
        assert data.class_names == ["cat", "dog"]


def test_data_that_are_incomplete_wait(tool, toy, tmp_path, capsys):
    work = tmp_path / "work"
    source = f"arrays={tmp_path / 'arrays.npz'}"
    tool.pack(work, [source], [], None, tool.PYTHON, [], 500)
    last = sorted((work / "packed").glob("arrays.tar.*"))[-1]
    late = last.rename(tmp_path / last.name)
    tool.unpack(work)
    assert "arrays.tar is not complete yet." in capsys.readouterr().out
    assert not tool.has_arrived(work, "arrays.shiftresnet20_ssl:1")
    late.rename(last)
    tool.unpack(work)
    assert tool.has_arrived(work, "arrays.shiftresnet20_ssl:1")
    assert not list((work / "packed").iterdir())


def test_weights_are_to_be_moved_away(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "tree_size", lambda: 80_000_000)
    with pytest.raises(SystemExit, match="80.0 MB, .* move zoo/weights"):
        tool.pack(tmp_path, [], [], None, tool.PYTHON, [], None)
    assert not (tmp_path / "packed").exists()


def test_parts_keep_their_order_in_calls(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "PATHS", 3)
    sizes = {"a": 4, "b": 4, "c": 3, "d": 1, "e": 1, "f": 1, "g": 9}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    calls = tool.in_calls([tmp_path / name for name in sizes], 8)
    assert [[path.name for path in call] for call in calls] == [
        ["a", "b"],
        ["c", "d", "e"],
        ["f"],
        ["g"],
    ]


def test_plan_names_recipes(tool, capsys):
    tool.plan(None)
    assert "tiny_imagenet.fenet_0.75.sparse:2" in capsys.readouterr().out


def test_what_does_not_fit_is_said(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "RESULTS", 10_000)
    monkeypatch.setattr(tool, "PIECE", 5000)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    for name, weights in (("first", True), ("second", False), ("third", True)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "checkpoint.npz").write_bytes(bytes(2000))
        if weights:
            (folder / "final.weights.h5").write_bytes(bytes(2500))
    tool.collect(tmp_path, [])
    assert "checkpoint.npz did not fit: collect second" in capsys.readouterr().out
    assert max(p.stat().st_size for p in (tmp_path / "out").iterdir()) <= 5000
    parts = tool.parts_of(tmp_path / "out" / "results.tar")
    content = io.BytesIO(b"".join(map(tool.take, parts)))
    with tarfile.open(fileobj=content) as file:
        names = file.getnames()
    assert names == ["first/final.weights.h5", "third/final.weights.h5"]


@pytest.mark.parametrize("same", [True, False])
def test_commit_of_the_same_sources(tool, tmp_path, monkeypatch, same):
    monkeypatch.setattr(environment, "git_commit", lambda: "abc")
    monkeypatch.setenv("OUT", str(tmp_path))
    folder = tmp_path / "there" / "runs" / "some"
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text('{"git_commit": null, "device": "GPU"}')
    (folder / "sources.sha256").write_text(tool.sources() if same else "others")
    tool.collect(tmp_path / "there", ["some"])
    tool.join(tmp_path / "here", tmp_path)
    text = (tmp_path / "here" / "runs" / "some" / "environment.json").read_text()
    commit = "abc" if same else None
    assert json.loads(text) == {"git_commit": commit, "device": "GPU"}


@pytest.mark.slow
def test_a_network_of_others_is_trained_from_its_description(tool, toy, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1, network="anything", batch_size=5)
    (tmp_path / "toy.anything.json").write_text(recipe.to_json())
    images = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    network = keras.Model(images, logits).to_json()
    (tmp_path / "toy.anything.network").write_text(network)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "toy.npz", **toy)
    described = str(tmp_path / "toy.anything.json")
    with pytest.raises(SystemExit, match="Received: .'--epochs', '2'"):
        tool.train_one(tmp_path, described, ["--epochs", "2"])
    tool.train_one(tmp_path, f"{described}:3", [])
    folder = tmp_path / "runs" / "toy.anything.seed3"
    assert json.loads((folder / "recipe.json").read_text())["seed"] == 3
    trained = keras.models.model_from_json(network)
    trained.load_weights(folder / "final.weights.h5")
    with np.load(folder / "checkpoint.npz") as saved:
        kept = [value for value in saved.values() if value.shape == (192, 2)]
    np.testing.assert_array_equal(trained.get_weights()[0], kept[0])


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason='needs JAX (".[jax]")'
)
def test_two_at_once_one_of_which_was_killed(tool, toy, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    out.mkdir()
    travel(tool, work)
    toy_json = tmp_path / "toy.json"
    toy_json.write_text(RECIPE.to_json())
    program = [sys.executable, ROOT / "tools" / "train_on_gpu.py", "--work", work]
    variables = {**python_environment(), "KERAS_BACKEND": "jax", "OUT": str(out)}
    # As in the trainings that the tool starts: what is the same is compiled once.
    variables["JAX_COMPILATION_CACHE_DIR"] = str(work / "compiled")

    def started(*arguments):
        return subprocess.Popen(
            [*program, *map(str, arguments)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = work / "runs" / "toy.seed0"
    alone = started("one", toy_json)
    while not (first / "checkpoint.npz").exists():
        assert alone.poll() is None, alone.communicate()[0]
        time.sleep(0.01)
    alone.kill()
    alone.communicate()
    assert not (first / "final.weights.h5").exists()

    said = started("train", "--seconds", 1, f"{toy_json}:1").communicate()[0]
    assert "toy.seed1: not done, 0 epochs" in said

    runs = (toy_json, f"{toy_json}:1")
    said = started("train", "--seconds", 500, "--at-once", 2, *runs).communicate()[0]
    assert f"toy.seed0: done, {EPOCHS} epochs" in said, said
    assert f"toy.seed1: done, {EPOCHS} epochs" in said, said

    here = tmp_path / "here"
    tool.join(here, out)
    for seed in (0, 1):
        folder = here / "runs" / f"toy.seed{seed}"
        trained = publishing.read_run(folder)
        assert trained.recipe == dataclasses.replace(RECIPE, seed=seed)
        with open(folder / "log.csv", newline="") as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
        assert epochs == list(range(1, EPOCHS + 1))
        found = json.loads((folder / "environment.json").read_text())
        assert found["backend"] == "jax"
        with h5py.File(folder / "final.weights.h5") as file:
            assert "optimizer" not in file


def test_collects_while_trainings_run(tool, tmp_path, monkeypatch, capsys):
    """An error in between neither ends the trainings nor the collecting."""
    started = subprocess.Popen
    monkeypatch.setattr(
        tool.subprocess, "Popen", lambda *_, **options: started(["sleep", "2"])
    )
    monkeypatch.setattr(tool, "COLLECT_EVERY", 0.3)
    collected = []

    def collect(work, runs):
        collected.append(runs)
        if len(collected) == 1:
            raise OSError("full")

    monkeypatch.setattr(tool, "collect", collect)
    monkeypatch.setenv("OUT", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "some.npz").touch()
    tool.train(tmp_path, ["some.json:1"], 60, False, 1, None, None)
    assert "Nothing was collected: OSError('full')" in capsys.readouterr().out
    assert len(collected) > 3 and {tuple(runs) for runs in collected} == {
        ("some.seed1",)
    }


def test_trains_in_the_background(tool, tmp_path, monkeypatch):
    """The call returns at once, and what it started does not collect into its $OUT."""
    command = ["train_on_gpu.py", "--background", "train", "some.json"]
    monkeypatch.setattr(tool.sys, "argv", command)
    monkeypatch.setenv("OUT", str(tmp_path))
    began = []
    monkeypatch.setattr(
        tool.subprocess, "Popen", lambda *args, **options: began.append((args, options))
    )
    tool.train(tmp_path, ["some.json"], 60, True, 1, None, None)
    (((again,), options),) = began
    assert again[1:] == ["train_on_gpu.py", "train", "some.json"]
    assert options["start_new_session"] and "OUT" not in options["env"]


def test_waits_for_what_is_asked(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    folder = tmp_path / "runs" / "some.seed0"
    folder.mkdir(parents=True)
    (folder / "final.weights.h5").touch()
    began = time.monotonic()
    tool.wait_and_collect(tmp_path, ["some.seed0"], 600.0)
    # It would have waited for ten minutes otherwise.
    assert time.monotonic() - began < 300
    assert list((tmp_path / "out").iterdir())
