"""Is FE-Net faster than MobileNetV2? On TensorFlow's CPU backend, and in LiteRT.

    python benchmarks/inference.py

Every row is the time of a network as a share of its peer's from keras.applications, in
turns in one process: the median of the ratios round by round, and their quartiles.
Images are 224x224; networks take them as they are, without preprocessing. FE-Net 1.0
has 60% of its wide channels unshifted, 1.375 has 69.5% (SSL paper, Table 8), and the
others displaced at random by one pixel at most.

TensorFlow, as functions of `tf.function`, `form` says of which kind:

- `as shipped`: the peer's Keras layers;
- `frozen`: with constants for variables, which TensorFlow folds in part;
- `folded`: the peer in its strongest form, frozen, its batch normalization folded
  into the convolutions, so that bias and ReLU6 are computed along with them.

`fused` is `deploy.fuse`, `layers` are plain Keras layers, in the same state as the
peer's otherwise. `shifts` is the cost of the shifts alone: the fused network as a share
of itself with all displacements zero. `bfloat16` is what half precision saves, frozen:
`fuse(model, precision="bfloat16")` as a share of `fuse(model)`.

LiteRT: files of `deploy.to_tflite` as shares of the peer's in the same mode; `floor` is
the network without shifts, which no lowering can beat.

Every number of threads is a process of its own. Writes benchmarks/results/inference.csv
with the machine in it.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
from records import write  # noqa: E402
from states import displaced  # noqa: E402

from keras_shift import zoo  # noqa: E402
from keras_shift.deploy import (  # noqa: E402
    LiteRTModel,
    fuse,
    to_tflite,
    with_random_biases,
)
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import machine  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "inference.csv"

# The design asks for these shares of the peer's time with one thread, by engine, peer,
# form and batch size.
GOALS = {
    ("tensorflow", "MobileNetV2 1.0", "as shipped", 1): 0.48,
    ("tensorflow", "MobileNetV2 1.0", "as shipped", 32): 0.45,
    ("tensorflow", "MobileNetV2 1.0", "folded", 1): 0.78,
    ("tensorflow", "MobileNetV2 1.0", "folded", 32): 0.68,
    ("tensorflow", "MobileNetV2 1.4", "folded", 32): 0.72,
    ("tensorflow", "FE-Net 1.0 without shifts", "shifts", 1): 1.03,
    ("tensorflow", "FE-Net 1.0 without shifts", "shifts", 32): 1.03,
    ("tensorflow", "FE-Net 1.0 fused", "bfloat16", 32): 0.65,
    ("litert", "MobileNetV2 1.0", "float32", 1): 0.97,
    ("litert", "MobileNetV2 1.0", "float32", 32): 0.9,
    ("litert", "MobileNetV2 1.0", "int8", 1): 1.0,
    ("litert", "MobileNetV2 1.0", "dynamic", 1): 0.45,
}

UNSHIFTED = {1.0: 0.6, 1.375: 0.695}


def network(build, **arguments):
    """Returns a network in a state in which nothing is always zero."""
    return with_random_biases(build(classifier_activation=None, **arguments))


def peer(build, alpha):
    """Returns a network of keras.applications with random weights."""
    return network(build, alpha=alpha, weights=None)


def fenet(alpha, spatial="sparse_shift"):
    """Returns FE-Net, most channels of which do not move."""
    model = network(
        zoo.FENet, alpha=alpha, spatial=spatial, include_preprocessing=False
    )
    return displaced(model, 1, UNSHIFTED[alpha])


def traced(model):
    """Returns a function of a model's Keras layers and variables."""
    import tensorflow as tf

    return tf.function(lambda images: model(images, training=False), autograph=False)


def frozen(model):
    """Returns a function of a model, with constants for its variables."""
    import tensorflow as tf

    constants = [(v, tf.constant(np.asarray(v))) for v in model.variables]

    def function(images):
        with keras.StatelessScope(constants):
            return model(images, training=False)

    return tf.function(function, autograph=False)


def tensorflow_groups():
    """Yields functions to compare, the peer's first, and what they are."""
    v2 = keras.applications.MobileNetV2
    for name, alpha, peer_alpha in (("1.0", 1.0, 1.0), ("1.375", 1.375, 1.4)):
        theirs, ours = peer(v2, peer_alpha), fenet(alpha)
        title = f"MobileNetV2 {peer_alpha}"
        fast = fuse(ours)
        still = fuse(fenet(alpha, "none"))
        yield "as shipped", {
            title: traced(theirs),
            f"FE-Net {name} layers": traced(ours),
            f"FE-Net {name} fused": traced(fast),
        }
        yield "frozen", {
            title: frozen(theirs),
            f"FE-Net {name} layers": frozen(ours),
            f"FE-Net {name} fused": frozen(fast),
        }
        yield "folded", {
            title: frozen(fuse(theirs)),
            f"FE-Net {name} fused": frozen(fast),
            f"FE-Net {name} without shifts, fused": frozen(still),
        }
        yield "shifts", {
            f"FE-Net {name} without shifts": frozen(still),
            f"FE-Net {name} fused": frozen(fast),
        }
        yield "bfloat16", {
            f"FE-Net {name} fused": frozen(fast),
            f"FE-Net {name} fused, bfloat16": frozen(fuse(ours, "bfloat16")),
        }
    yield "folded", {
        "MobileNetV2 1.0": frozen(fuse(peer(v2, 1.0))),
        "FE-Net (DW) 1.0": frozen(fuse(fenet(1.0, "depthwise"))),
    }
    v1 = keras.applications.MobileNet
    for name, alpha in (("A", 1.0), ("C", 0.5)):
        build = getattr(zoo, f"ShiftNet{name}")
        ours = network(build, include_preprocessing=False)
        yield "folded", {
            f"MobileNet {alpha}": frozen(fuse(peer(v1, alpha))),
            f"ShiftNet-{name} fused": frozen(fuse(ours)),
        }


def litert_groups(folder, threads):
    """Yields files to compare, the peer's first, and what they are."""
    images = np.random.default_rng(0).uniform(-1, 1, (8, 224, 224, 3))
    numbers = itertools.count()

    def write(model, mode, batch):
        path = f"{folder}/{next(numbers)}.tflite"
        quantize = None if mode == "float32" else mode
        to_tflite(model, path, quantize, images.astype("float32"), batch)
        return LiteRTModel(path, num_threads=threads)

    v2 = keras.applications.MobileNetV2
    modes = [(mode, 1, 1.0) for mode in ("float32", "int8", "dynamic")]
    modes += [("float32", 32, 1.0), ("float32", 1, 1.375), ("int8", 1, 1.375)]
    for mode, batch, alpha in modes:
        peer_alpha = {1.0: 1.0, 1.375: 1.4}[alpha]
        networks = {
            f"MobileNetV2 {peer_alpha}": peer(v2, peer_alpha),
            f"FE-Net {alpha}": fenet(alpha),
            f"FE-Net {alpha} without shifts, the floor": fenet(alpha, "none"),
        }
        if alpha == 1.0:
            networks["FE-Net (DW) 1.0"] = fenet(alpha, "depthwise")
        yield mode, batch, {
            name: write(model, mode, batch) for name, model in networks.items()
        }


def rows_of(engine, form, batch, calls, rounds):
    """Times functions in turns, the peer's first; returns a row for each other one."""
    timings = time_alternately(calls, rounds)
    first, *others = timings
    return [
        {
            "engine": engine,
            "form": form,
            "batch": batch,
            "network": name,
            "peer": first,
            "ratio": timings[name].ratio,
            "ratio_low": timings[name].ratio_low,
            "ratio_high": timings[name].ratio_high,
            "ms": timings[name].median * 1e3,
            "peer_ms": timings[first].median * 1e3,
        }
        for name in others
    ]


def tensorflow_rows(threads, rounds):
    """Yields the rows of TensorFlow with a number of threads, a group at a time."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for form, functions in tensorflow_groups():
        for batch in (1, 32):
            images = np.random.default_rng(0).uniform(-1, 1, (batch, 224, 224, 3))
            images = tf.constant(images, "float32")
            calls = {
                # `numpy` waits until the numbers are computed.
                name: lambda function=function: function(images).numpy()
                for name, function in functions.items()
            }
            count = rounds if batch == 1 else max(3, rounds // 8)
            yield rows_of("tensorflow", form, batch, calls, count)


def litert_rows(threads, rounds):
    """Yields the rows of LiteRT with a number of threads, a group at a time."""
    with tempfile.TemporaryDirectory() as folder:
        for mode, batch, models in litert_groups(folder, threads):
            calls = {name: model.invoke for name, model in models.items()}
            count = rounds if batch == 1 else max(3, rounds // 8)
            rows = rows_of("litert", mode, batch, calls, count)
            for row in rows:
                row["partitions"] = models[row["network"]].partitions()
            yield rows


ENGINES = {"tensorflow": (tensorflow_rows, 22), "litert": (litert_rows, 6)}


def measured(engine, threads, rounds, advance):
    """Returns the rows that a process of its own measures."""
    command = [sys.executable, __file__, "--rounds", str(rounds)]
    command += ["--engine", engine, "--threads", str(threads)]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            rows += json.loads(line)
            advance()
    if process.returncode:
        raise SystemExit(process.returncode)
    for row in rows:
        keys = (row["engine"], row["peer"], row["form"], row["batch"])
        ours = row["network"] in (
            "FE-Net 1.0",
            "FE-Net 1.0 fused",
            "FE-Net 1.0 fused, bfloat16",
            "FE-Net 1.375 fused",
        )
        row.update(
            threads=threads,
            goal=GOALS.get(keys, "") if ours and threads == 1 else "",
            machine=machine(),
        )
    return rows


def show(rows, console):
    """Prints every ratio beside its goal; what misses it is marked."""
    table = rich.table.Table(
        title=f"Time / the peer's, {rows[0]['machine']}",
        caption="Median (quartiles) of ratios round by round. * misses its goal.",
    )
    columns = ("engine", "form", "threads", "batch", "network", "peer")
    for column in columns:
        table.add_column(column)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("goal", justify="right")
    for row in rows:
        missed = row["goal"] and row["ratio"] > row["goal"]
        table.add_row(
            *(str(row[key]) for key in columns),
            f"{row['ratio']:.3f}{'*' if missed else ' '} "
            f"({row['ratio_low']:.3f}-{row['ratio_high']:.3f})",
            str(row["goal"]),
        )
    console.print(table)


def main():
    """Measures everything, prints the ratios and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="turns at batch 1")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--engine", choices=ENGINES, help="measure only this one")
    parser.add_argument("--threads", type=int, help="print rows for so many threads")
    arguments = parser.parse_args()
    engines = [arguments.engine] if arguments.engine else list(ENGINES)
    if arguments.threads:  # `measured` has started this process.
        for engine in engines:
            for rows in ENGINES[engine][0](arguments.threads, arguments.rounds):
                print(json.dumps(rows), flush=True)
        return
    rows = []
    with rich.progress.Progress() as progress:
        total = 2 * sum(ENGINES[engine][1] for engine in engines)
        task = progress.add_task("comparisons", total=total)
        for engine, threads in itertools.product(engines, (1, 2)):
            rows += measured(
                engine, threads, arguments.rounds, lambda: progress.advance(task)
            )
    write(rows, arguments.output)
    show(rows, rich.console.Console(width=120))
    print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
