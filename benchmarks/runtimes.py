"""Is FE-Net faster than MobileNetV2 in whatever a server's CPU runs best?

    pip install onnxruntime openvino tf2onnx
    python benchmarks/runtimes.py

MobileNetV2 1.0 of keras.applications, FE-Net 1.0 with 60% of its wide channels
unshifted and the others displaced by one pixel at most, and FE-Net 0.75 with the few
displacements of its weights `tiny_imagenet.emptied`, each for 1000 classes and images
of 224x224 pixels, in the strongest form that a user gets of every runtime:

- `TensorFlow`: `deploy.fuse` of the network, which folds MobileNetV2's batch
  normalization, as a compiled function with constants for variables;
- `LiteRT`: the float32 file of `deploy.to_tflite`, on XNNPACK;
- `ONNX Runtime`: `deploy.portable` of the network, exported to ONNX;
- `OpenVINO`: the same file, with the hint for latency for one image, and the hint for
  throughput for several, for which there is a request each, all at once;
- `OpenVINO, whole batches`: the hint for latency and all images in one request.

But for the first and the last, several images are computed one by one, which is faster:
fewer maps are alive at once, and stay in the caches.

In bfloat16 there are OpenVINO and FE-Net's `fuse`, where the processor has instructions
for it. Files with int8 are left out: benchmarks/frontier.py has LiteRT's.

A network's outputs in all runtimes are compared with Keras' before anything is timed.
Images and outputs stay where the runtime has them. All programs of one batch run in
turns in one process, quick ones several times. Every number of threads is a process of
its own. Two ratios are taken round by round, as medians and quartiles: to the time of
MobileNetV2 in OpenVINO in float32, and to that of MobileNetV2 in the runtime that is
its fastest in the same precision.

Writes benchmarks/results/runtimes.csv with machine and versions. `--threads` and
`--batch` measure some of it, and leave the other rows as they are; `--files` keeps the
exported files for the next time.
"""

import argparse
import concurrent.futures
import csv
import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402
from inference import fenet, frozen, network, peer  # noqa: E402
from records import write  # noqa: E402

from keras_shift import zoo  # noqa: E402
from keras_shift.deploy import LiteRTModel, fuse, portable, to_tflite  # noqa: E402
from keras_shift.deploy.agreement import compare  # noqa: E402
from keras_shift.deploy.timing import seconds_alternately, timing_of  # noqa: E402
from keras_shift.environment import machine, versions  # noqa: E402
from keras_shift.files import replacing  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "runtimes.csv"

# These modules must be installed. The keys are the names of their packages.
PACKAGES = {
    "ai-edge-litert": "ai_edge_litert",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tf2onnx": "tf2onnx",
}
THREADS = (1, 2)
BATCHES = (1, 8, 32)
IMAGE_SHAPE = (224, 224, 3)
# Times are ratios to that of this network, runtime and precision.
BASELINE = ("MobileNetV2 1.0", "OpenVINO", "float32")
# After its last images, a runtime's threads may keep processors busy, waiting for more.
# The call of a turn that is not counted has to outlast those of other runtimes.
TURN_SECONDS = 0.05
# Outputs may differ from Keras' by this share of the largest one.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.1}
OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class Program(NamedTuple):
    """A network in a runtime, with images in its input.

    Attributes:
        run: Function that computes all images once.
        outputs: Function that does so and returns an array of all outputs.
    """

    run: Callable[[], object]
    outputs: Callable[[], np.ndarray]


def networks():
    """Functions that make a network, by name."""
    return {
        "MobileNetV2 1.0": lambda: peer(keras.applications.MobileNetV2, 1.0),
        "FE-Net 1.0": lambda: fenet(1.0),
        "FE-Net 0.75": lambda: network(
            zoo.FENet,
            input_shape=IMAGE_SHAPE,
            alpha=0.75,
            weights="tiny_imagenet.emptied",
            classes=1000,
            output_stride=32,
            include_preprocessing=False,
        ),
    }


def precisions():
    """Returns what this processor multiplies, as OpenVINO sees it."""
    import openvino

    found = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["float32", "bfloat16"] if "BF16" in found else ["float32"]


def repeated(run, times):
    """Returns a function that calls another one several times."""

    def repeat():
        for _ in range(times):
            run()

    return repeat


def in_tensorflow(model, images):
    """Returns a model as a function that is compiled for these images' shape."""
    import tensorflow as tf

    tensor = tf.constant(images)
    # Without looking for what was compiled before, a call takes less time.
    function = frozen(model).get_concrete_function(tensor)

    # `numpy` waits until the numbers are computed.
    def outputs():
        return function(tensor).numpy()

    return Program(outputs, outputs)


def in_litert(path, images, threads):
    """Returns a .tflite file for one image in LiteRT's interpreter."""
    model = LiteRTModel(path, num_threads=threads)
    return Program(repeated(model.invoke, len(images)), lambda: model.predict(images))


def in_onnx_runtime(path, images, threads):
    """Returns an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads must not wait for the next images while other programs are timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    bindings = []
    for number in range(len(images)):
        bindings.append(session.io_binding())
        bindings[-1].bind_cpu_input(
            session.get_inputs()[0].name, images[number : number + 1]
        )
        bindings[-1].bind_output(session.get_outputs()[0].name)

    def run():
        for binding in bindings:
            session.run_with_iobinding(binding)

    def outputs():
        run()
        return np.concatenate([b.copy_outputs_to_cpu()[0] for b in bindings])

    return Program(run, outputs)


def in_openvino(path, images, threads, precision, batch=1):
    """Returns an ONNX file in OpenVINO, with `batch` images in a request."""
    import openvino

    model = openvino.Core().read_model(path)
    model.reshape([batch, *images.shape[1:]])
    options = {
        "PERFORMANCE_HINT": "LATENCY" if batch == len(images) else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[precision],
    }
    compiled = openvino.compile_model(model, "CPU", options)
    requests = []
    for part in np.split(images, len(images) // batch):
        requests.append(compiled.create_infer_request())
        requests[-1].set_input_tensor(openvino.Tensor(part))

    def run():
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()

    def outputs():
        run()
        return np.concatenate([r.get_output_tensor().data for r in requests])

    return Program(run, outputs)


def onnx_file(name, model, folder):
    """Returns the path of a network's ONNX file, which is written if need be."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        plain = portable(model)
        # Keras only exports a model that was called.
        plain(np.zeros((1, *model.input_shape[1:])))
        with replacing(path) as temporary:
            plain.export(temporary, format="onnx", verbose=False)
    return path


def tflite_file(name, model, folder):
    """Returns the path of a network's .tflite file, which is written if need be."""
    path = folder / f"{name}.tflite"
    if not path.exists():
        to_tflite(model, path)
    return path


class Networks:
    """The networks in all runtimes.

    Args:
        folder: `pathlib.Path` of the files that runtimes read.
        threads: Number of threads.
    """

    def __init__(self, folder, threads):
        self._folder, self._threads = folder, threads
        self._precisions = precisions()
        self._models, self._fused = {}, {}
        for name, build in networks().items():
            # Every process then makes the weights that are in the files.
            keras.utils.set_random_seed(0)
            model = self._models[name] = build()
            # MobileNetV2 has no units, which are all that `fuse` computes in bfloat16.
            own = ["float32"] if name == BASELINE[0] else self._precisions
            self._fused[name] = {p: fuse(model, precision=p) for p in own}

    def programs(self, images):
        """Returns what is timed, by network, runtime and precision.

        Raises:
            ValueError: If the outputs of one are not those of its network in Keras.
        """
        found = {}
        for name, model in self._models.items():
            expected = keras.ops.convert_to_numpy(model(images, training=False))
            for key, program in self._of(name, model, images):
                found[name, *key] = program
                check(program.outputs(), expected, name, *key)
        return found

    def _of(self, name, model, images):
        """Yields runtime and precision, and a program, of one network."""
        batch = len(images)
        for precision, fast in self._fused[name].items():
            yield ("TensorFlow", precision), in_tensorflow(fast, images)
        path = tflite_file(name, model, self._folder)
        yield ("LiteRT", "float32"), in_litert(path, images, self._threads)
        path = onnx_file(name, model, self._folder)
        yield ("ONNX Runtime", "float32"), in_onnx_runtime(path, images, self._threads)
        for precision in self._precisions:
            yield ("OpenVINO", precision), in_openvino(
                path, images, self._threads, precision
            )
        if batch > 1 and name == BASELINE[0]:
            yield ("OpenVINO, whole batches", "float32"), in_openvino(
                path, images, self._threads, "float32", batch
            )


def check(outputs, expected, name, runtime, precision):
    """Refuses outputs that are not those of Keras.

    Raises:
        ValueError: If they differ by more than `BOUNDS`.
    """
    difference = compare(outputs, expected).relative_difference
    if not difference <= BOUNDS[precision]:
        raise ValueError(
            f"{name} in {runtime} and {precision} must answer what it does in Keras, "
            f"but for {BOUNDS[precision]:g} of the largest output. "
            f"Received: a difference of {difference:.2g} of it"
        )


def rows_of(seconds):
    """Returns a row for every program.

    Args:
        seconds: Dictionary of arrays of seconds in every round by network, runtime and
            precision.
    """
    rows = []
    for (name, runtime, precision), own in seconds.items():
        rivals = {
            key[1]: rival
            for key, rival in seconds.items()
            if key[0] == BASELINE[0] and key[2] == precision
        }
        fastest = min(rivals, key=lambda key: np.median(rivals[key]))
        timing = timing_of(own, seconds[BASELINE])
        rival = timing_of(own, rivals[fastest])
        rows.append(
            {
                "network": name,
                "runtime": runtime,
                "precision": precision,
                "ratio": timing.ratio,
                "ratio_low": timing.ratio_low,
                "ratio_high": timing.ratio_high,
                "fastest": fastest,
                "to_fastest": rival.ratio,
                "to_fastest_low": rival.ratio_low,
                "to_fastest_high": rival.ratio_high,
                "ms": timing.median * 1e3,
            }
        )
    return rows


def repeats_of(run):
    """Returns how often a function has to run for `TURN_SECONDS`."""
    run()
    start = time.perf_counter()
    run()
    return math.ceil(TURN_SECONDS / (time.perf_counter() - start))


def measure(threads, batches, rounds, folder):
    """Returns the rows of one number of threads, in a process of its own."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    made = Networks(folder, threads)
    rows = []
    for batch in batches:
        images = np.random.default_rng(0).uniform(-1, 1, (batch, *IMAGE_SHAPE))
        programs = made.programs(images.astype("float32"))
        repeats = {key: repeats_of(program.run) for key, program in programs.items()}
        calls = {
            key: repeated(program.run, repeats[key])
            for key, program in programs.items()
        }
        count = max(3, rounds // 2) if batch > 16 else rounds
        seconds = seconds_alternately(calls, count)
        seconds = {key: own / repeats[key] for key, own in seconds.items()}
        rows += [
            {"threads": threads, "batch": batch, **row} for row in rows_of(seconds)
        ]
    return rows


def here():
    """Returns what rows have in common that are measured on one machine."""
    numbers = {name: importlib.metadata.version(name) for name in PACKAGES}
    numbers = {**versions(), **numbers}
    texts = [f"{name} {number}" for name, number in numbers.items()]
    return {"machine": machine(), "versions": ", ".join(texts)}


def others(path, threads, batches):
    """Returns the rows of a file that are not measured again.

    Raises:
        ValueError: If they come from another machine, or from other versions.
    """
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if int(row["threads"]) not in threads or int(row["batch"]) not in batches
        ]
    common = here()
    for row in rows:
        found = {key: row[key] for key in common}
        if found != common:
            raise ValueError(
                f"The other rows of {path} must be of this machine and these versions. "
                "Measure all of them again, or give another --output. "
                f"Received: {found}, here: {common}"
            )
    return rows


def table_of(rows):
    """Returns the table that is printed."""
    table = rich.table.Table(
        title=rows[0]["machine"],
        caption="Time / MobileNetV2's in OpenVINO in float32, and / MobileNetV2's in "
        "the runtime that is its fastest in that precision: median (quartiles).",
    )
    columns = ("threads", "batch", "network", "runtime", "precision")
    for column in columns:
        table.add_column(column)
    for column in ("ms", "ratio", "to fastest"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{float(row['ms']):.2f}"]
        for key in ("ratio", "to_fastest"):
            low, median, high = (
                float(row[name]) for name in (f"{key}_low", key, f"{key}_high")
            )
            cells.append(f"{median:.2f} ({low:.2f}-{high:.2f})")
        table.add_row(*(str(row[column]) for column in columns), *cells)
    return table


def main(arguments):
    """Measures what was asked for, prints and writes it."""
    missing = [
        name
        for name, module in PACKAGES.items()
        if not importlib.util.find_spec(module)
    ]
    if missing:
        raise SystemExit(
            "This needs packages that are not installed: "
            f"pip install {' '.join(missing)}"
        )
    try:
        rows = others(arguments.output, arguments.threads, arguments.batch)
        with tempfile.TemporaryDirectory() as folder:
            folder = arguments.files or Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
            for threads in arguments.threads:
                # TensorFlow's number of threads cannot be changed in a process.
                with concurrent.futures.ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn")
                ) as process:
                    task = process.submit(
                        measure, threads, arguments.batch, arguments.rounds, folder
                    )
                    rows += [{**row, **here()} for row in task.result()]
    except ValueError as error:
        raise SystemExit(str(error)) from error
    rows.sort(key=lambda row: (int(row["threads"]), int(row["batch"])))
    write(rows, arguments.output)
    console = rich.console.Console(width=120)
    console.print(table_of(rows))
    console.print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=16, help="turns, half as many of large batches"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--files", type=Path, help="folder that keeps exported files")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
