"""What is shipped, what importing it costs, and what its sources may import."""

import ast
import configparser
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keras_shift

ROOT = Path(__file__).resolve().parent.parent
# Where each folder of the repository lies when installed.
SHIPPED = {
    "keras_shift": "keras_shift",
    "zoo": "keras_shift/zoo",
    "custom_ops": "keras_shift/custom_ops",
}
OP = "keras_shift/custom_ops/_shift_ops.so"


@pytest.fixture(scope="module")
def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def python_files(*folders):
    return [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def installed_path(path):
    folder, *rest = path.relative_to(ROOT).parts
    return "/".join([SHIPPED[folder], *rest])


def test_every_package_of_the_tree_is_listed(config):
    in_tree = {
        installed_path(path.parent).replace("/", ".")
        for path in python_files(*SHIPPED)
        if path.name == "__init__.py"
    }
    assert set(config["options"]["packages"].split()) == in_tree


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in python_files(*SHIPPED)}
    assert [f for f in folders if not (f / "__init__.py").exists()] == []


def test_commands_exist(config):
    entry_points = config.get("options.entry_points", "console_scripts", fallback="")
    for line in entry_points.split("\n"):
        if line.strip():
            module, function = line.split("=")[1].strip().split(":")
            assert callable(getattr(importlib.import_module(module), function))


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", keras_shift.__version__)


def test_version_of_citation_and_changelog():
    version = keras_shift.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert latest == version.partition(".dev")[0]


def test_version_of_the_installation():
    try:
        installed = importlib.metadata.version("keras-shift")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("keras_shift is not installed here")
    assert installed == keras_shift.__version__, "run `pip install -e .` again"


# What the sources import


def imports(path):
    """Yields what the file imports, however deep in it, or reaches as `tf.a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if re.match(r"(keras|tf|tensorflow)\.[\w.]+$", name):
                yield re.sub(r"^tf\.", "tensorflow.", name)


def importers(pattern, *folders):
    return [
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files(*folders)
        for module in imports(path)
        if re.match(pattern, module)
    ]


def test_no_private_api():
    private = r"(keras\.src|tensorflow\.(lite\.)?python|tf_keras_vis\._)(\.|$)"
    assert importers(private, *SHIPPED, "examples", "benchmarks") == []


def test_nothing_is_imported_beside_keras_shift():
    # `import zoo` works in a checkout, and makes second classes of the same names.
    beside = r"(zoo|custom_ops)(\.|$)"
    assert importers(beside, *SHIPPED, "examples", "benchmarks", "tests") == []


def test_nothing_else_of_the_checkout_lies_in_keras_shift():
    for name in ("setup", "keras_shift", "tests"):
        assert importlib.util.find_spec(f"keras_shift.{name}") is None


def test_what_is_always_imported_is_required(config):
    # The standard library's modules are no requirements; TensorFlow, LiteRT and the
    # like are extras, which are imported where they are needed.
    required = set(re.findall(r"^\w+", config["options"]["install_requires"], re.M))
    at_import = {
        name.partition(".")[0]
        for path in python_files(*SHIPPED)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    others = at_import - set(sys.stdlib_module_names) - {"keras_shift"}
    assert others == required


def test_environments_of_make_can_run_setup_py():
    # Python 3.11 puts an older setuptools in them, and Python 3.12 none.
    text = (ROOT / "pyproject.toml").read_text()
    (needed,) = re.findall(r'requires = \["(setuptools\S+)"\]', text)
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r'pip install .*"(setuptools.*?)"', makefile) == [needed]


def test_files_are_named_after_what_they_hold():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    files = python_files(*SHIPPED, "examples", "benchmarks", "tests")
    assert [str(path) for path in files if path.stem in vague] == []


# What importing costs


# What of the package is found where, and which modules it loads besides Keras' own
# (Keras itself looks for matplotlib, PIL and scikit-learn).
LOOK = """
import json, sys
import keras
before = set(sys.modules)
import keras_shift, keras_shift.custom_ops, keras_shift.zoo
packages = keras_shift, keras_shift.zoo, keras_shift.custom_ops
files = [package.__file__ for package in packages]
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps([files, sorted(loaded)]))
"""


def look(search_path):
    """Imports keras_shift from `search_path` in a fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(search_path)},
        cwd=search_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_import_of_a_checkout():
    files, loaded = look(ROOT)
    found = [Path(file).resolve() for file in files]
    assert found == [ROOT / folder / "__init__.py" for folder in SHIPPED]
    heavy = {"tensorflow_datasets", "matplotlib", "tf_keras_vis", "sklearn", "PIL"}
    assert heavy.intersection(loaded) == set()


# What is shipped


def copy_of_the_checkout(folder):
    not_sources = shutil.ignore_patterns(".*", "*.so", "__pycache__", "*.egg-info")
    for name in (*SHIPPED, "studies", "tools"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=not_sources)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, folder)
    return folder


def build(kind, checkout, **variables):
    """Calls setuptools as pip does, in this environment, and returns the file made."""
    code = (
        "import setuptools.build_meta as backend;"
        f"print('made:' + backend.build_{kind}('dist'))"
    )
    (checkout / "dist").mkdir(exist_ok=True)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout / "dist" / result.stdout.rsplit("made:", 1)[1].strip()


needs_setuptools = pytest.mark.skipif(
    int(importlib.metadata.version("setuptools").split(".")[0]) < 77,
    reason="needs setuptools 77 or newer: pip install -e '.[dev]'",
)
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++").split()[0]) is None,
    reason="needs a C++ compiler",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_of_the_checkout(tmp_path_factory.mktemp("checkout"))


# A compiler that does not optimize, which takes the longest, whatever it is told.
COMPILER = f"""#!{sys.executable} -IS
import os, sys
words = {os.environ.get("CXX", "c++").split()!r} + sys.argv[1:]
os.execvp(words[0], ["-O0" if word.startswith("-O") else word for word in words])
"""


def studied_weights():
    """The files that keras-shift-studies brings."""
    patterns = ("shiftresnet*.h5", "fenet_1.0*.sparsified.*h5", "fenet_1.0*.empt*.h5")
    weights = ROOT / "zoo" / "weights"
    return {
        installed_path(path) for pattern in patterns for path in weights.glob(pattern)
    }


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    compiler = tmp_path_factory.mktemp("compiler") / "c++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    return build("wheel", checkout, CC=str(compiler), CXX=str(compiler))


@needs_setuptools
@needs_compiler
def test_wheel_holds_the_package_and_the_op_and_nothing_else(wheel, config):
    assert re.fullmatch(
        r"keras_shift-[\d.]+\w*-py3-none-(?!any)\w+\.whl", wheel.name
    ), wheel.name
    files = {
        name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name
    }
    expected = {installed_path(path) for path in python_files(*SHIPPED)}
    expected |= {f"{package}/py.typed" for package in SHIPPED.values()}
    expected |= {f"{module}.py" for module in config["options"]["py_modules"].split()}
    for pattern in ("*.csv", "*.toml", "class_names/*", "weights/*"):
        expected |= {installed_path(path) for path in (ROOT / "zoo").glob(pattern)}
    expected -= studied_weights()
    expected.add("keras_shift/reporting/page.html.jinja")
    assert files == expected | {OP}


@needs_setuptools
def test_wheel_of_the_studies_holds_the_other_weights(checkout):
    made = build("wheel", checkout / "studies")
    assert made.name.startswith(f"keras_shift_studies-{keras_shift.__version__}-")
    names = zipfile.ZipFile(made).namelist()
    files = {name for name in names if ".dist-info/" not in name}
    assert files == studied_weights() != set()


@needs_setuptools
@needs_compiler
def test_installed_copy_is_whole(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    files, _ = look(tmp_path)
    assert files == [
        str(tmp_path / folder / "__init__.py") for folder in SHIPPED.values()
    ]


@needs_setuptools
def test_without_a_compiler_the_wheel_has_no_op(wheel, checkout):
    # Neither one left in place by an editable install nor that of the last build.
    (checkout / "custom_ops" / "_shift_ops.so").write_bytes(b"of other sources")
    made = build("wheel", checkout, CC="false", CXX="false")
    names = zipfile.ZipFile(made).namelist()
    assert [name for name in names if name.endswith(".so")] == []
    assert "keras_shift/zoo/__init__.py" in names


@needs_setuptools
def test_sdist_holds_the_sources(checkout):
    (checkout / "custom_ops" / "_shift_ops.so").write_bytes(b"of other sources")
    archive = build("sdist", checkout)
    names = {name.split("/", 1)[-1] for name in tarfile.open(archive).getnames()}
    needed = {"setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"}
    needed.add("keras_shift_command.py")
    for folder in SHIPPED:
        for suffix in ("*.py", "*.cc", "*.h", "py.typed"):
            paths = (ROOT / folder).rglob(suffix)
            needed |= {path.relative_to(ROOT).as_posix() for path in paths}
    assert needed - names == set()
    assert [name for name in names if name.endswith(".so")] == []


def test_the_three_builds_use_the_same_flags():
    setup = ast.parse((ROOT / "setup.py").read_text())
    flags = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("FLAGS", "X86_FLAGS")
    }
    common, special = flags["FLAGS"], flags["X86_FLAGS"]

    bazel = (ROOT / "custom_ops" / "cc" / "BUILD").read_text()

    def of_bazel(name):
        return re.findall(
            r'"(-.+?)"', re.search(rf"^{name} = \[(.*?)\]", bazel, re.M | re.S)[1]
        )

    assert of_bazel("FLAGS") == common
    assert of_bazel("AVX2_FLAGS") == special["_avx2"]
    assert of_bazel("AVX512_FLAGS") == special["_avx512"]
    assert of_bazel("AVX512BF16_FLAGS") == special["_avx512bf16"]

    shell = (ROOT / "tools" / "cc_tests.sh").read_text()
    assert f'flags="{" ".join(common)}"' in shell
    for name, words in special.items():
        case = re.search(rf"x86_64-\*{name}\.cc\)(.*?);;", shell, re.S)[1]
        assert re.findall(r"-m[\w=-]+", case) == words
