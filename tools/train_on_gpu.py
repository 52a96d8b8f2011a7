"""Trains several recipes at once, on JAX, on a machine with a GPU that is lent.

Such a machine has JAX, NumPy and Pillow, and neither Keras nor a way to fetch it nor
data; a call to it brings 64 MiB and takes 60 MiB away. So, in this order,

    python tools/train_on_gpu.py plan               # here: what to train, by rank
    python tools/train_on_gpu.py pack --recipes FOLDER \\
        tiny_imagenet=DIR/tiny_imagenet cifar100=DIR/cifar100.npz
    python tools/train_on_gpu.py unpack             # there, once a dataset is complete
    python tools/train_on_gpu.py train --background --seconds 450 RECIPE RECIPE:SEED ...
    python tools/train_on_gpu.py collect --seconds 300    # there, as often as wanted
    python tools/train_on_gpu.py join DIR           # here: DIR holds what came back

`pack` prints the calls to make. All files lie in .gpu/, which git ignores. A training
begins when its dataset has arrived, and is killed when its time is over. It goes on
from its last complete epoch with the next `train`; on another machine, too, if `pack
--runs` takes what `join` made along. What `join` makes of a training that has ended,
tools/publish_weights.py publishes.

RECIPE may be the path of a .json file; with a .network file beside it, which
benchmarks/peers.py writes, a network that the zoo lacks is trained.

What 15 minutes of an H200 are enough for, with CUDA's MPS started by hand
(`nvidia-cuda-mps-control -d`): 40 seconds to start, 4 seconds a call (move
zoo/weights/*.h5 away before), a quarter of a minute to decode Tiny-ImageNet, up to two
minutes in which eight processes compile on 16 cores, and then about 160 epochs of
networks for Tiny-ImageNet beside 80 of a ShiftResNet-20: nine at once took 27 s for an
epoch of each. A collection brings 60 MB, which three checkpoints of MobileNetV2 fill:
collect what has ended before the last minute. Make all calls in one go: a machine that
waits for 30 seconds is taken away with all that it holds.

What changed nothing: mixed_bfloat16 (slower by itself, as fast beside others), mapping
the training step over seeds (`jax.vmap`, 1x1 convolutions as products of matrices), and
leaving Triton out of compiling (`--xla_gpu_enable_triton_gemm=false`).
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".gpu"

# These recipes are trained with these seeds, what is needed most first.
PLAN = (
    ("tiny_imagenet.fenet_1.0.none", (0,)),
    ("tiny_imagenet.fenet_1.0.depthwise", (0,)),
    ("tiny_imagenet.fenet_1.0.few_shifts", (1, 2)),
    ("tiny_imagenet.fenet_0.75.sparse", (1, 2)),
    ("cifar10.shiftresnet20_ssl_grouped", (0,)),
    ("cifar10.shiftresnet20_ssl_1x1_only", (0,)),
)
# `plan` computes the numbers of steps from these.
TRAINING_IMAGES = {"tiny_imagenet": 100_000, "cifar10": 50_000, "cifar100": 50_000}

# The machine lacks these packages. It gets them in this environment's versions, for its
# own Python.
PACKAGES = ("keras", "namex", "optree")
PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17)]

# One call carries so many bytes at most, and so many paths besides the working tree.
# Parts have 60 MB at most together, and less if the repository itself leaves less.
TREE = 63 * 2**20
PART = 60_000_000
PATHS = 8
# At most 8 files come back, with 16 MiB each and 64 MiB together.
PIECE, RESULTS = 15 * 2**20, 60 * 2**20
# While trainings run, so many seconds pass between two collections.
COLLECT_EVERY = 60

# So many images of an array are encoded as one, one below the other.
STRIP = 500
SPLITS = {"train": ("train",), "test": ("validation", "val", "test")}

WEIGHTS, CHECKPOINT = "final.weights.h5", "checkpoint.npz"
ENVIRONMENT, SOURCES = "environment.json", "sources.sha256"
OUTPUT = "output.txt"


def main():
    """Does what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=WORK, help="instead of .gpu/")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("plan", help="list what to train, by rank")
    command.set_defaults(function=plan)

    command = commands.add_parser("pack", help="make the parts that travel")
    command.add_argument(
        "datasets",
        nargs="*",
        metavar="NAME=PATH",
        help="PATH is a folder with one folder for each split and in it one for each "
        "class, or an .npz file as keras_shift.training.load_data reads it",
    )
    command.add_argument(
        "--runs", nargs="*", default=[], metavar="RUN", help="trainings to go on with"
    )
    command.add_argument("--recipes", type=Path, help="folder of recipes as .json")
    command.add_argument("--python", default=PYTHON, help="that machine's version")
    command.add_argument("--packages", nargs="*", default=PACKAGES)
    command.add_argument("--part", type=int, metavar="BYTES", help="size of a part")
    command.set_defaults(function=pack)

    command = commands.add_parser("unpack", help="install packages, decode images")
    command.set_defaults(function=unpack)

    command = commands.add_parser("train", help="train recipes at once, and collect")
    command.add_argument("runs", nargs="+", metavar="RECIPE[:SEED]")
    command.add_argument("--seconds", type=float, required=True, help="then it stops")
    command.add_argument(
        "--background", action="store_true", help="return at once; `collect` collects"
    )
    # A process makes batches and starts kernels for longer than they run, so that one
    # alone leaves the GPU idle.
    command.add_argument("--at-once", type=int, default=6, metavar="N")
    command.add_argument("--epochs", type=int, help="instead of the recipe's")
    command.add_argument(
        "--precision", help="instead of the recipe's, for a trial: not to be published"
    )
    command.set_defaults(function=train)

    command = commands.add_parser("collect", help="put results where they come back")
    command.add_argument("runs", nargs="*", metavar="RUN", help="all by default")
    command.add_argument(
        "--seconds", type=float, default=0.0, help="wait before, for trainings to end"
    )
    command.set_defaults(function=wait_and_collect)

    command = commands.add_parser("join", help="make folders of results again")
    command.add_argument("folder", type=Path)
    command.set_defaults(function=join)

    command = commands.add_parser("one")
    command.add_argument("run")
    command.add_argument("arguments", nargs=argparse.REMAINDER)
    command.set_defaults(function=train_one)

    options = vars(parser.parse_args())
    options.pop("function")(**options)


def plan(work):
    """Lists what to train."""
    from keras_shift.zoo import recipes

    print(f"{'recipe:seed':44}{'steps':>8}{'images':>12}")
    for name, seeds in PLAN:
        recipe = recipes.get_recipe(name)
        count = TRAINING_IMAGES[recipe.dataset]
        steps = recipe.steps_per_epoch(count) * recipe.epochs_of(count)
        for seed in seeds:
            print(f"{f'{name}:{seed}':44}{steps:8,}{steps * recipe.batch_size:12,}")


# The next functions cut files into parts.


def cut(path, size):
    """Cuts a file into parts `path.1of3`, ..., and removes it.

    Args:
        path: Path of a file.
        size: Int, bytes in a part at most.

    Returns:
        A list of paths.
    """
    count = max(1, -(-path.stat().st_size // size))
    parts = [path.with_name(f"{path.name}.{i + 1}of{count}") for i in range(count)]
    with open(path, "rb") as file:
        for part in parts:
            part.write_bytes(file.read(size))
    path.unlink()
    return parts


def parts_of(path):
    """Returns the parts of a file that `cut` has cut, or `None` if some are missing.

    Args:
        path: Path that the file had.
    """
    found = list(path.parent.glob(f"{path.name}.*of*"))
    counts = {int(part.name.rpartition("of")[2]) for part in found}
    if counts != {len(found)}:
        return None
    return [
        path.with_name(f"{path.name}.{i + 1}of{len(found)}") for i in range(len(found))
    ]


# The next functions run here, before the calls.


def pack(work, datasets, runs, recipes, python, packages, part):
    """Writes the parts that travel, and prints the calls.

    There is an archive for every dataset, and before them one of all else.
    """
    for run in runs:
        if not (work / "runs" / run / CHECKPOINT).is_file():
            raise SystemExit(f"{run} has no {CHECKPOINT} in {work / 'runs'}.")
    tree = tree_size()
    piece, room = part or PIECE, min(PART, TREE - tree)
    if room < piece:
        raise SystemExit(
            f"The repository has {tree / 1e6:.1f} MB, and a call brings "
            f"{TREE / 1e6:.1f} MB: move zoo/weights/*.h5 away until all is there."
        )
    packed = work / "packed"
    shutil.rmtree(packed, ignore_errors=True)
    (packed / "wheels").mkdir(parents=True)
    if packages:
        download(packages, python, packed / "wheels")
    members = {"all": [(packed / "wheels", "wheels")]}
    members["all"] += [(work / "runs" / run, f"runs/{run}") for run in runs]
    members["all"] += [(recipes, "recipes")] if recipes else []
    for dataset in datasets:
        name, separator, path = dataset.partition("=")
        if not separator:
            raise SystemExit(f"A dataset must be NAME=PATH. Received: {dataset}")
        array = packed / f"{name}.npz"
        encode(Path(path), array)
        print(f"{name}: {array.stat().st_size / 1e6:.1f} MB")
        members[name] = [(array, array.name)]
    parts = []
    for name, paths in members.items():
        archive = packed / f"{name}.tar"
        with tarfile.open(archive, "w") as file:
            for path, inside in paths:
                file.add(path, inside)
        parts += cut(archive, piece)
    for path in (packed / "wheels", *packed.glob("*.npz")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    calls = in_calls(parts, room)
    print(f"The repository has {tree / 1e6:.1f} MB, so {len(calls)} calls of `run`:")
    for call in calls:
        carried = ", ".join(f'"{os.path.relpath(path, ROOT)}"' for path in call)
        size = sum(path.stat().st_size for path in call) / 1e6
        command = "python3 tools/train_on_gpu.py unpack"
        print(f'carry=[{carried}] command="{command}"  # {size:.1f} MB')


def in_calls(parts, size):
    """Divides parts, in their order, among calls that carry `size` bytes at most."""
    calls, left = [], 0
    for part in parts:
        if not calls or part.stat().st_size > left or len(calls[-1]) == PATHS:
            calls.append([])
            left = size
        calls[-1].append(part)
        left -= part.stat().st_size
    return calls


def download(packages, python, folder):
    """Downloads wheels in the versions of this environment, without their needs."""
    from importlib import metadata

    versions = [f"{package}=={metadata.version(package)}" for package in packages]
    # pip takes those platforms and no others.
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={python}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, *platforms]
    command += ["--disable-pip-version-check", f"--dest={folder}", *versions]
    subprocess.run(command, check=True)


def tree_size():
    """Returns the bytes of the files that travel with every call."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    names = listed.stdout.decode().split("\0")[:-1]
    return sum((ROOT / name).stat().st_size for name in names if (ROOT / name).exists())


def encode(source, path):
    """Writes a dataset as encoded images, which `decode` reads.

    Image files stay what they are, and what all have in common is compressed away.
    Arrays are encoded in strips as lossless WebP.

    Args:
        source: Path of a folder or of an `.npz` file.
        path: Path of an `.npz` file.
    """
    arrays = from_folders(source) if source.is_dir() else from_arrays(source)
    np.savez_compressed(path, **arrays)


def from_folders(folder):
    classes = sorted(path.name for path in (folder / "train").iterdir())
    found = {"classes": np.array(classes)}
    for split, names in SPLITS.items():
        within = next(folder / name for name in names if (folder / name).is_dir())
        contents, labels = [], []
        for label, name in enumerate(classes):
            # keras.utils.image_dataset_from_directory has this order, too.
            files = sorted((within / name).iterdir())
            contents += [file.read_bytes() for file in files]
            labels += [label] * len(files)
        found |= stored(split, contents, labels)
    return found


def from_arrays(source):
    found = {}
    with np.load(source) as arrays:
        for split in SPLITS:
            images = arrays[f"x_{split}"]
            strips = [images[i : i + STRIP] for i in range(0, len(images), STRIP)]
            # Pillow lets other threads run.
            with ThreadPool() as pool:
                contents = pool.map(webp, strips)
            found |= stored(split, contents, arrays[f"y_{split}"].reshape(-1))
        if "classes" in arrays:
            found["classes"] = arrays["classes"]
    return found


def stored(split, contents, labels):
    """Returns the arrays of a split: concatenated files, their sizes, and labels."""
    return {
        f"files_{split}": np.frombuffer(b"".join(contents), "uint8"),
        f"sizes_{split}": np.array([len(content) for content in contents]),
        f"y_{split}": np.array(labels, "int32"),
    }


def webp(images):
    from PIL import Image

    file = io.BytesIO()
    strip = np.ascontiguousarray(images.reshape(-1, *images.shape[2:]))
    Image.fromarray(strip).save(file, "WEBP", lossless=True, quality=100, method=4)
    return file.getvalue()


# The next functions run on the lent machine.


def unpack(work):
    """Installs packages, and writes data as `keras_shift.training.load_data` reads it.

    Archives of which parts are still missing wait for the next call.

    Args:
        work: Path of the folder that holds packed/.
    """
    packed = work / "packed"
    names = {path.name.rpartition(".")[0] for path in packed.glob("*.*of*")}
    for name in sorted(names):
        if (parts := parts_of(packed / name)) is None:
            print(f"{name} is not complete yet.")
            continue
        # Parts are removed before they are unpacked, so that no other `unpack` reads
        # them, too.
        content = io.BytesIO(b"".join(map(take, parts)))
        with tarfile.open(fileobj=content) as file:
            extract(file, work)
    if wheels := sorted((work / "wheels").glob("*.whl")):
        options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options]
        command += ["--upgrade", f"--target={work / 'site'}", *map(str, wheels)]
        subprocess.run(command, check=True)
        shutil.rmtree(work / "wheels")
    (work / "data").mkdir(exist_ok=True)
    for path in work.glob("*.npz"):
        taken = path.rename(path.with_suffix(".decoding"))
        arrays = decode(taken)
        taken.unlink()
        # A training may wait for the file.
        temporary = work / "data" / f"unfinished_{path.name}"
        np.savez(temporary, **arrays)
        temporary.rename(work / "data" / path.name)


def take(path):
    """Returns the content of a file, and removes it."""
    content = path.read_bytes()
    path.unlink()
    return content


def decode(path):
    """Returns the arrays of a dataset that `encode` wrote.

    Args:
        path: Path of an `.npz` file.

    Returns:
        A dict of arrays, as `keras_shift.training.load_data` wants it.
    """
    found = {}
    with np.load(path) as arrays:
        if "classes" in arrays:
            found["classes"] = arrays["classes"]
        for split in SPLITS:
            ends = np.cumsum(arrays[f"sizes_{split}"])
            content = arrays[f"files_{split}"]
            files = [part.tobytes() for part in np.split(content, ends[:-1])]
            with ThreadPool() as pool:
                images = np.concatenate(pool.map(pixels, files))
            found[f"y_{split}"] = arrays[f"y_{split}"]
            count, width = len(found[f"y_{split}"]), images.shape[1]
            found[f"x_{split}"] = images.reshape(count, -1, width, 3)
    return found


def pixels(content):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def train(work, runs, seconds, background, at_once, epochs, precision):
    """Trains until all recipes or the time are at their end, and collects."""
    if background:
        start_in_background(work)
        return
    end = time.monotonic() + seconds
    changes = [] if epochs is None else ["--epochs", str(epochs)]
    changes += [] if precision is None else ["--precision", precision]
    path = [str(ROOT), str(work / "site"), os.environ.get("PYTHONPATH", "")]
    variables = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        # Several processes share the GPU's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Seeds share a program, which is compiled once.
        "JAX_COMPILATION_CACHE_DIR": str(work / "compiled"),
    }
    # In the background, `collect` collects.
    collects = "OUT" in os.environ
    waiting = [(run, name_of(run)) for run in runs]
    names = [name for _, name in waiting]
    collected = time.monotonic()
    running = {}
    while (waiting or running) and time.monotonic() < end:
        ready = [(run, name) for run, name in waiting if has_arrived(work, run)]
        for run, name in ready[: at_once - len(running)]:
            waiting.remove((run, name))
            folder = work / "runs" / name
            if (folder / WEIGHTS).exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, "--work", work, "one", run, *changes]
            with open(folder / OUTPUT, "a", encoding="utf-8") as output:
                running[name] = subprocess.Popen(
                    list(map(str, command)),
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    said = (work / "runs" / name / OUTPUT).read_text(encoding="utf-8")
                    print(f"{name} failed:\n{said[-2000:]}", flush=True)
        if collects and time.monotonic() > collected + COLLECT_EVERY:
            try:
                collect(work, names)
            except Exception as error:  # The trainings go on.
                print(f"Nothing was collected: {error!r}", flush=True)
            collected = time.monotonic()
        time.sleep(0.2)
    for process in running.values():
        # It goes on from its last complete epoch, whenever it is killed.
        process.kill()
        process.wait()
    for _, name in waiting:
        print(f"{name}: no time was left to begin")
    if collects:
        collect(work, names)


def start_in_background(work):
    """Starts this command once more, in a session of its own, which a call may end."""
    command = [argument for argument in sys.argv if argument != "--background"]
    variables = {key: value for key, value in os.environ.items() if key != "OUT"}
    work.mkdir(parents=True, exist_ok=True)
    with open(work / OUTPUT, "w", encoding="utf-8") as output:
        subprocess.Popen(
            [sys.executable, *command],
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def has_arrived(work, run):
    """Returns whether the dataset of a run is there."""
    recipe, _ = recipe_and_seed(run)
    dataset = Path(recipe).name.partition(".")[0]
    return (work / "data" / f"{dataset}.npz").exists()


def name_of(run):
    """Returns the name of a run's folder: that of its recipe, and its seed."""
    recipe, seed = recipe_and_seed(run)
    return f"{Path(recipe).name.removesuffix('.json')}.seed{seed}"


def recipe_and_seed(run):
    """Returns the parts of RECIPE[:SEED]."""
    found = re.fullmatch(r"(.+?)(?::(\d+))?", run)
    return found[1], int(found[2] or 0)


def train_one(work, run, arguments):
    """Trains a recipe to its end: one of the processes that `train` starts."""
    from keras_shift import cli, publishing
    from keras_shift.files import replacing

    recipe, seed = recipe_and_seed(run)
    folder = work / "runs" / name_of(run)
    if not (folder / CHECKPOINT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SOURCES).write_text(sources(), encoding="utf-8")
    if Path(recipe).with_suffix(".network").exists():
        # It is none of the zoo's.
        if arguments:
            raise SystemExit(f"{recipe} is trained as it says. Received: {arguments}")
        sys.path.insert(0, str(ROOT / "benchmarks"))
        import peers

        peers.train(Path(recipe), work / "data", folder, seed)
        model = peers.read_run(folder)
    else:
        given = ["--seed", str(seed), "--data-dir", str(work / "data"), *arguments]
        cli.main(["train", recipe, "--output", str(folder), "--resume", *given])
        model = publishing.read_run(folder).model
    # The optimizer's momentum is left out, since nothing needs it here.
    with replacing(folder / WEIGHTS) as temporary:
        model.save_weights(temporary)


def wait_and_collect(work, runs, seconds):
    """Collects what trainings in the background have come to."""
    folders = [work / "runs" / run for run in runs]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if folders and all((folder / WEIGHTS).exists() for folder in folders):
            break
        time.sleep(0.2)
    if (work / OUTPUT).exists():
        print((work / OUTPUT).read_text(encoding="utf-8")[-3000:])
    collect(work, runs)


def collect(work, runs):
    """Puts results into $OUT: weights that are done first, then checkpoints."""
    folders = [work / "runs" / run for run in runs] or sorted((work / "runs").iterdir())
    folders = [folder for folder in folders if folder.is_dir()]
    done = [folder for folder in folders if (folder / WEIGHTS).exists()]
    large = [folder / WEIGHTS for folder in done]
    large += [folder / CHECKPOINT for folder in folders if folder not in done]
    endings = (".csv", ".json", ".sha256", ".txt")
    small = [p for f in folders for p in sorted(f.iterdir()) if p.suffix in endings]
    archive, left = work / "results.tar", RESULTS
    with tarfile.open(archive, "w") as file:
        for path in [*small, *large]:
            try:
                # A training that runs may replace the file at any moment.
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            member = tarfile.TarInfo(str(path.relative_to(work / "runs")))
            member.size = len(content)
            # A member has a header, and is filled up.
            if member.size + 2048 <= left:
                left -= member.size + 2048
                file.addfile(member, io.BytesIO(content))
            else:
                print(f"{path.name} did not fit: collect {path.parent.name}")
    parts = cut(archive, PIECE)
    out = Path(os.environ["OUT"])
    for part in out.glob(f"{archive.name}.*"):
        part.unlink()
    for part in parts:
        shutil.move(part, out)
    for folder in folders:
        rows = log(folder)
        last = f"{float(rows[-1]['val_accuracy']):.2%}" if rows else "none"
        took = sum(float(row["seconds"]) for row in rows)
        state = "done" if folder in done else "not done"
        print(f"{folder.name}: {state}, {len(rows)} epochs, {took:.0f} s, {last}")


def log(folder):
    """Returns the rows of a training's log, an empty list before its first epoch."""
    path = folder / "log.csv"
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sources():
    """Returns a digest of the Python files that a training depends on."""
    digest = hashlib.sha256()
    for folder in ("custom_ops", "keras_shift", "zoo"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


# The next functions run here, after the calls.


def extract(file, folder):
    """Extracts a tar file that this tool wrote."""
    # `extractall` has no argument `filter` in Python 3.11.2, which Debian 12 has. Newer
    # versions take the filter from this attribute, too, and older ones ignore it.
    file.extraction_filter = getattr(tarfile, "data_filter", None)
    file.extractall(folder)


def join(work, folder):
    """Makes folders of what came back, as tools/publish_weights.py takes them.

    The machine had no git: a training that was begun with exactly the sources that are
    here, all committed, gets their commit.
    """
    parts = parts_of(folder / "results.tar")
    if parts is None:
        raise SystemExit(f"{folder} does not hold all parts of results.tar.")
    content = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=content) as file:
        names = sorted({name.partition("/")[0] for name in file.getnames()})
        extract(file, work / "runs")
    from keras_shift.environment import git_commit

    for name in names:
        path = work / "runs" / name / ENVIRONMENT
        if path.exists():
            began = (path.parent / SOURCES).read_text(encoding="utf-8")
            if began == sources() and (commit := git_commit()):
                found = json.loads(path.read_text(encoding="utf-8"))
                path.write_text(json.dumps({**found, "git_commit": commit}, indent=2))
            else:
                print(f"{name}: other sources than here; publish with --commit")
        print(path.parent)


if __name__ == "__main__":
    main()
