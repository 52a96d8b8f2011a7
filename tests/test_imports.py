"""The direction of imports, as docs/design.md draws it."""

import ast
import graphlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up. What stands on one floor does not know each other.
FLOORS = (
    {"custom_ops", "integers", "tracing", "typing", "version"},
    {"files", "former_names", "image_files", "json_text", "table", "weights_folder"},
    {
        "constraints",
        "environment",
        "graph_walk",
        "image_batches",
        "portable_shift",
        "quiet",
        "recipe",
    },
    {"graph", "native", "shift_arguments"},
    {"dispatch", "rewriting"},
    {"ops"},
    {"initializers"},
    {"layers"},
    {"analysis", "callbacks", "deploy", "depthwise_replacement", "zoo"},
    {"training"},
    {"publishing", "reporting"},
    {"keras_shift"},
    {"cli"},
    {"__main__"},
)


def modules():
    """Files of the package by the names of their modules."""
    found = {}
    for folder, package in (
        ("keras_shift", ()),
        ("zoo", ("keras_shift",)),
        ("custom_ops", ("keras_shift",)),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT).with_suffix("").parts
            # keras_shift/ has links to the two other folders.
            if inside[:2] in {("keras_shift", "zoo"), ("keras_shift", "custom_ops")}:
                continue
            if inside[-1] == "__init__":
                inside = inside[:-1]
            found[".".join((*package, *inside))] = path
    return found


def imported(path, known):
    """Modules of ours that a file imports, inside of its functions, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                names.add(module if module in known else node.module)
    return names & known


def part(module):
    """The package or module directly below keras_shift."""
    return module.split(".")[1] if "." in module else module


def test_imports_run_one_way():
    files = modules()
    assert {part(name) for name in files} == set.union(*FLOORS)
    floor = {name: rank for rank, names in enumerate(FLOORS) for name in names}
    upward = [
        f"{name} imports {other}"
        for name, path in files.items()
        for other in imported(path, set(files))
        if part(name) != part(other) and floor[part(other)] >= floor[part(name)]
    ]
    assert upward == []


def test_no_two_modules_import_each_other():
    files = modules()
    graph = {name: imported(path, set(files)) for name, path in files.items()}
    # It raises an error that names a circle if there is one.
    graphlib.TopologicalSorter(graph).prepare()


def private_uses(path, known):
    """Private names of other modules of ours that a file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.split(".")[0] == "keras_shift"]
    names = {alias.asname or alias.name for node in ours for alias in node.names}
    found = {name for name in names if re.match("_(?!_)", name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if re.match("_(?!_)", node.attr) and node.value.id in names & known:
                found.add(f"{node.value.id}.{node.attr}")
    return found


def test_private_names_stay_in_their_modules():
    files = modules()
    known = {name.rpartition(".")[2] for name in files}
    used = {name: private_uses(path, known) for name, path in files.items()}
    assert {name: found for name, found in used.items() if found} == {}


def test_private_names_are_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from keras_shift import ops\nfrom keras_shift.a import _b\n"
        "print(ops._c, ops.__name__, ops.d, other._e)\n"
    )
    assert private_uses(path, {"ops"}) == {"_b", "ops._c"}


def test_imports_inside_of_functions_are_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import json\nimport keras_shift.a\n\n"
        "def f():\n    from keras_shift import b\n    from keras_shift.c import d\n"
    )
    known = {"keras_shift.a", "keras_shift.b", "keras_shift.c"}
    assert imported(path, known) == known
