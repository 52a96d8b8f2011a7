"""The benchmark of FE-Net beside MobileNetV2 in all runtimes for CPUs."""

import concurrent.futures
import csv
import importlib
import importlib.util
import sys

import keras
import numpy as np
import pytest

from keras_shift.layers import SparseShift2D
from networks import ROOT, predict

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmark times TensorFlow", allow_module_level=True)

pytestmark = pytest.mark.tensorflow

SHAPE = (8, 8, 3)


def tiny():
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(6, 3, padding="same")(images)
    x = SparseShift2D(max_displacement=1)(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(5)(x))


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("runtimes")
    networks = {"MobileNetV2 1.0": tiny, "FE-Net 1.0": tiny}
    monkeypatch.setattr(script, "networks", lambda: networks)
    monkeypatch.setattr(script, "IMAGE_SHAPE", SHAPE)
    return script


@pytest.fixture
def without_packages(benchmark, monkeypatch):
    """As if ONNX files were computed by Keras, in one precision."""

    def in_keras(model, images, *arguments):
        return benchmark.Program(lambda: None, lambda: predict(model, images))

    monkeypatch.setattr(benchmark, "precisions", lambda: ["float32"])
    monkeypatch.setattr(benchmark, "onnx_file", lambda name, model, folder: model)
    monkeypatch.setattr(benchmark, "in_onnx_runtime", in_keras)
    monkeypatch.setattr(benchmark, "in_openvino", in_keras)
    return benchmark


def pixels(batch):
    images = np.random.default_rng(0).uniform(-1, 1, (batch, *SHAPE))
    return images.astype("float32")


def row(threads, batch, **changes):
    return {"threads": threads, "batch": batch, "ratio": 1.0, **changes}


def test_ratios_are_to_openvino_and_to_the_fastest_of_the_same_precision(benchmark):
    seconds = {
        ("MobileNetV2 1.0", "OpenVINO", "float32"): [2.0, 4.0, 8.0],
        ("MobileNetV2 1.0", "LiteRT", "float32"): [2.0, 1.0, 4.0],
        ("FE-Net 1.0", "TensorFlow", "float32"): [3.0, 4.0, 2.0],
        ("FE-Net 1.0", "OpenVINO", "bfloat16"): [1.0, 3.0, 1.0],
        ("MobileNetV2 1.0", "OpenVINO", "bfloat16"): [4.0, 4.0, 1.0],
    }
    seconds = {key: np.array(values) for key, values in seconds.items()}
    rows = benchmark.rows_of(seconds)
    assert [(r["network"], r["runtime"], r["precision"]) for r in rows] == [*seconds]
    _, _, fused, reduced, _ = rows
    # 3/2, 4/4 and 2/8; and 3/2, 4/1 and 2/4.
    assert fused["fastest"] == "LiteRT" and fused["ms"] == pytest.approx(3e3)
    assert (fused["ratio_low"], fused["ratio"], fused["ratio_high"]) == pytest.approx(
        (0.625, 1, 1.25)
    )
    assert (fused["to_fastest"], fused["to_fastest_high"]) == pytest.approx((1.5, 2.75))
    # 1/2, 3/4 and 1/8; and 1/4, 3/4 and 1.
    assert reduced["fastest"] == "OpenVINO"
    assert (reduced["ratio"], reduced["to_fastest"]) == pytest.approx((0.5, 0.75))


def test_every_network_is_timed_in_every_runtime(without_packages, tmp_path):
    benchmark = without_packages
    made = benchmark.Networks(tmp_path, threads=2)
    runtimes = ["TensorFlow", "LiteRT", "ONNX Runtime", "OpenVINO"]
    for batch, more in ((1, []), (3, ["OpenVINO, whole batches"])):
        programs = made.programs(pixels(batch))
        found = {name: [] for name in benchmark.networks()}
        for name, runtime, precision in programs:
            assert precision == "float32"
            found[name].append(runtime)
        assert found == {"MobileNetV2 1.0": runtimes + more, "FE-Net 1.0": runtimes}
        for (name, *_), program in programs.items():
            program.run()
            assert program.outputs().shape == (batch, 5)
    # A second process reads the same files.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    benchmark.Networks(tmp_path, threads=1).programs(pixels(3))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_other_answers_are_an_error(without_packages, tmp_path, monkeypatch, wrong):
    benchmark = without_packages
    in_litert = benchmark.in_litert

    def falsified(*arguments):
        program = in_litert(*arguments)
        return program._replace(outputs=lambda: program.outputs() + wrong)

    monkeypatch.setattr(benchmark, "in_litert", falsified)
    message = "MobileNetV2 1.0 in LiteRT and float32 must answer.*Received: a diff"
    with pytest.raises(ValueError, match=message):
        benchmark.Networks(tmp_path, threads=1).programs(pixels(2))


def test_the_processor_decides_on_bfloat16(benchmark, monkeypatch):
    class Core:
        def get_property(self, device, name):
            assert device == "CPU"
            return self.found

    openvino = type("openvino", (), {"Core": Core})
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    for Core.found in (["FP32"], ["FP32", "BF16"]):
        both = ["float32", "bfloat16"]
        assert benchmark.precisions() == both[: len(Core.found)]


def test_only_units_are_fused_in_bfloat16(without_packages, tmp_path, monkeypatch):
    benchmark = without_packages
    monkeypatch.setattr(benchmark, "precisions", lambda: ["float32", "bfloat16"])
    programs = benchmark.Networks(tmp_path, threads=1).programs(pixels(1))
    fused = {
        name
        for name, runtime, precision in programs
        if (runtime, precision) == ("TensorFlow", "bfloat16")
    }
    assert fused == set(benchmark.networks()) - {"MobileNetV2 1.0"}


@pytest.mark.parametrize(
    "runtime, packages",
    [("in_onnx_runtime", ["onnxruntime", "tf2onnx"]), ("in_openvino", ["openvino"])],
)
@pytest.mark.parametrize("batch", [1, 4])
# Of Keras' exporter to ONNX.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_files_in_their_runtimes(benchmark, tmp_path, runtime, packages, batch):
    for package in (*packages, "tf2onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    model, images = tiny(), pixels(batch)
    path = benchmark.onnx_file("tiny", model, tmp_path)
    arguments = {
        "in_onnx_runtime": [()],
        "in_openvino": [("float32",), ("float32", batch), ("bfloat16",)],
    }
    for extra in arguments[runtime]:
        program = getattr(benchmark, runtime)(path, images, 2, *extra)
        program.run()
        bound = benchmark.BOUNDS["bfloat16" if "bfloat16" in extra else "float32"]
        expected = predict(model, images)
        difference = np.abs(program.outputs() - expected).max()
        assert difference <= bound * np.abs(expected).max()


class TestMain:
    @pytest.fixture
    def main(self, benchmark, monkeypatch, tmp_path):
        """Runs it with given rows, as if all packages were there."""
        measured = []

        def measure(threads, batches, rounds, folder):
            assert folder.is_dir() and rounds == 7
            measured.append((threads, *batches))
            names = {"network": "n", "runtime": "r", "precision": "p", "ms": 1.0}
            ends = ("ratio", "to_fastest")
            values = {f"{k}{end}": 0.5 for k in ends for end in ("", "_low", "_high")}
            return [row(threads, batch, **names, **values) for batch in batches]

        def pool(processes, context):
            assert context.get_start_method() == "spawn"
            return concurrent.futures.ThreadPoolExecutor(processes)

        monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: True)
        monkeypatch.setattr(
            benchmark.concurrent.futures, "ProcessPoolExecutor", pool, raising=True
        )
        monkeypatch.setattr(benchmark, "measure", measure)
        here = {"machine": "this one", "versions": "1"}
        monkeypatch.setattr(benchmark, "here", lambda: here)
        output = tmp_path / "runtimes.csv"

        def main(*options):
            measured.clear()
            given = [*options, "--rounds", "7", "--output", str(output)]
            benchmark.main(benchmark.parse(given))
            with open(output, newline="") as file:
                rows = list(csv.DictReader(file))
            return measured, [(int(r["threads"]), int(r["batch"])) for r in rows]

        main.here = here
        main.output = output
        return main

    def test_all_of_it(self, main):
        measured, rows = main()
        assert measured == [(1, 1, 8, 32), (2, 1, 8, 32)]
        assert rows == [(t, b) for t in (1, 2) for b in (1, 8, 32)]

    def test_some_of_it_joins_the_rest(self, main):
        assert main("--threads", "2", "--batch", "8", "32")[1] == [(2, 8), (2, 32)]
        measured, rows = main("--threads", "1", "2", "--batch", "8")
        assert measured == [(1, 8), (2, 8)]
        assert rows == [(1, 8), (2, 8), (2, 32)]

    @pytest.mark.parametrize("what", ["machine", "versions"])
    def test_rows_of_other_machines_are_not_joined(self, main, what):
        main("--threads", "2")
        before = main.output.read_bytes()
        main.here[what] = "another one"
        with pytest.raises(SystemExit, match="another --output. Received: .*another"):
            main("--threads", "1")
        assert main.output.read_bytes() == before
        main()  # All of them may be replaced.

    def test_packages_that_are_missing(self, main, benchmark, monkeypatch):
        monkeypatch.setattr(
            benchmark.importlib.util, "find_spec", lambda name: name == "tf2onnx"
        )
        message = "pip install ai-edge-litert onnxruntime openvino$"
        with pytest.raises(SystemExit, match=message):
            main()


def test_short_programs_run_several_times_in_a_turn(benchmark, monkeypatch):
    clock, ran = [0.0], []

    def run():
        ran.append(None)
        clock[0] += 0.02

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    assert benchmark.repeats_of(run) == 3  # of 50 ms
    ran.clear()
    benchmark.repeated(run, 3)()
    assert len(ran) == 3


def test_a_process_times_every_batch(without_packages, monkeypatch, tmp_path):
    import tensorflow as tf

    benchmark = without_packages
    threads = {}
    for name in ("intra_op", "inter_op"):
        monkeypatch.setattr(
            tf.config.threading,
            f"set_{name}_parallelism_threads",
            lambda number, name=name: threads.update({name: number}),
        )
    monkeypatch.setattr(benchmark, "TURN_SECONDS", 1e-6)
    rows = benchmark.measure(2, (1, 2), 3, tmp_path)
    assert threads == {"intra_op": 2, "inter_op": 1}
    assert [(r["threads"], r["batch"]) for r in rows] == [(2, 1)] * 8 + [(2, 2)] * 9
    for found in rows:
        key = found["network"], found["runtime"], found["precision"]
        assert found["ms"] > 0
        if key == benchmark.BASELINE:
            assert found["ratio"] == 1


def test_results_are_complete(benchmark):
    with open(benchmark.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    places = [(int(r["threads"]), int(r["batch"])) for r in rows]
    assert list(dict.fromkeys(places)) == [
        (threads, batch) for threads in benchmark.THREADS for batch in benchmark.BATCHES
    ]
    for found in rows:
        for key in ("ratio", "to_fastest"):
            low, median, high = (
                float(found[f"{key}{end}"]) for end in ("_low", "", "_high")
            )
            assert 0 < low <= median <= high
        fastest = [
            r
            for r in rows
            if all(r[k] == found[k] for k in ("threads", "batch", "precision"))
            and (r["network"], r["runtime"])
            == (benchmark.BASELINE[0], found["fastest"])
        ]
        assert [float(r["to_fastest"]) for r in fastest] == [1]
    assert len({(r["machine"], r["versions"]) for r in rows}) == 1


def test_one_image_is_as_the_guide_for_servers_says():
    """In float32 LiteRT is faster than `fuse`, and in bfloat16 `fuse` than LiteRT."""
    with open(ROOT / "benchmarks" / "results" / "runtimes.csv", newline="") as file:
        ratios = {
            tuple(row[key] for key in ("threads", "network", "runtime", "precision")): (
                float(row["ratio"])
            )
            for row in csv.DictReader(file)
            if row["batch"] == "1"
        }
    for threads in "12":
        for network in ("FE-Net 1.0", "FE-Net 0.75"):
            fused, half = (
                ratios[threads, network, "TensorFlow", precision]
                for precision in ("float32", "bfloat16")
            )
            assert half < ratios[threads, network, "LiteRT", "float32"] < fused
