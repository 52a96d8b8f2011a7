"""What files and packages of others may do here, and what is said of them."""

import ast
import configparser
import re

import keras
import numpy as np
import pytest

from keras_shift.cli import main
from networks import ROOT

SOURCES = [
    path
    for folder in (
        "keras_shift",
        "zoo",
        "custom_ops",
        "examples",
        "benchmarks",
        "tools",
    )
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# Modules that run what a file says while they read it.
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "enable_unsafe_deserialization", "torch.load"}
# The example in README.md; layers that this process has already.
KNOWN = {("first_example.py", "exec"), ("rewriting.py", "safe_mode")}


def unsafe(path):
    """Yields what in a file would run code that comes out of another file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from UNSAFE_MODULES & {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from UNSAFE_MODULES & {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield from UNSAFE_CALLS & {name, name.split(".")[-1]}
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "safe_mode"):
                    yield keyword.arg
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            yield from {"allow_pickle", "safe_mode"} & keys


def test_no_code_comes_out_of_files():
    found = {(path.name, name) for path in SOURCES for name in unsafe(path)}
    assert found == KNOWN


@pytest.mark.parametrize(
    "source, name",
    [
        ("import pickle", "pickle"),
        ("from joblib.externals import loky", "joblib"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("keras.saving.load_model(path, safe_mode=False)", "safe_mode"),
        ('options = {"safe_mode": False}', "safe_mode"),
        (
            "keras.config.enable_unsafe_deserialization()",
            "enable_unsafe_deserialization",
        ),
        ("eval(text)", "eval"),
    ],
)
def test_the_search_finds(source, name, tmp_path):
    path = tmp_path / "source.py"
    path.write_text(source)
    (found,) = unsafe(path)
    assert found == name


def test_models_are_loaded_in_safe_mode(tmp_path, capsys):
    images = keras.Input((2,))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images))
    model.save(tmp_path / "model.keras")
    with pytest.raises(SystemExit) as end:
        main(["summary", str(tmp_path / "model.keras")])
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be loaded as a network" in said and "Lambda" in said


def test_arrays_that_hold_objects_are_refused(tmp_path):
    from keras_shift.training import load_data

    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "toy.npz", **dict.fromkeys(["x_train", "y_train"], objects))
    with pytest.raises(ValueError):
        load_data("toy", (8, 8), tmp_path)


def test_every_dependency_has_its_reason():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = {}
    groups = {"always": config["options"]["install_requires"]}
    groups |= config["options.extras_require"]
    for group, text in groups.items():
        for line in text.strip().splitlines():
            name = re.match(r"[\w.-]+", line)[0]
            needed.setdefault(name, set()).add(group)
    _, text = (ROOT / "docs" / "reliability.md").read_text().split("\n## Supply\n")
    rows = re.findall(r"^\| `([\w.-]+)` \| (.+?) \| (.+) \|$", text, re.MULTILINE)
    stated = {name: groups for name, groups, reason in rows if reason}
    assert set(stated) == set(needed)
    for name, groups in needed.items():
        words = set(re.findall(r"`(\w+)`", stated[name])) or {stated[name]}
        assert words == groups, name


def test_terms_of_weights_are_listed(capsys):
    from keras_shift import zoo

    main(["list", "--weights"])
    out = " ".join(capsys.readouterr().out.split())
    for name in zoo.list_weights():
        assert zoo.get_record(name).licence in out
