"""Several devices, and several processes, which end together."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import training_process
from keras_shift.training import distribution, train
from keras_shift.training.distribution import Division
from marks import exhaustive

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "tests" / "training_process.py")
# Of one program, which takes a tenth of it; none may hang.
TIMEOUT = 280
# It compiles more than it trains, so that optimizing takes more time than it saves.
JAX = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason='JAX, on which processes train together, is not installed (".[jax]")',
)


def start(*arguments, **variables):
    """Starts a program of this checkout."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for programs, and returns their codes and what they said."""
    try:
        said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    finally:
        for process in processes:
            # JAX outlives a milder signal.
            process.kill()
    return [process.returncode for process in processes], said


def together(*arguments, count=2, **variables):
    """Runs a program as so many processes of one training."""
    with contextlib.closing(socket.socket()) as port:
        port.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*port.getsockname())
    shared = {
        distribution.ADDRESSES: address,
        distribution.PROCESSES: str(count),
        **JAX,
        **variables,
    }
    return finish(
        *(
            start(*arguments, **shared, **{distribution.PROCESS: str(index)})
            for index in range(count)
        )
    )


def assert_ended_well(codes, said):
    assert codes == [0] * len(codes), "\n".join(said)


def state(folder):
    with np.load(folder / "checkpoint.npz") as arrays:
        return {name: arrays[name] for name in arrays if name != "progress"}


def assert_alike(one, other, tolerance):
    one, other = state(one), state(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a training by two processes."""
    folder = tmp_path_factory.mktemp("two")
    codes, said = together(PROGRAM, folder)
    assert_ended_well(codes, said)
    for index in range(2):
        assert f"Division(index={index}, processes=2, devices=2)" in said[index]
    return folder


@needs_jax
class TestProcesses:
    @pytest.mark.exhaustive
    def test_two_processes_train_the_network_of_one(self, two, tmp_path):
        assert_ended_well(*finish(start(PROGRAM, tmp_path, **JAX)))
        assert_alike(tmp_path, two, 2e-6)
        left = {path.name for path in two.iterdir()} - {"tensorboard"}
        assert left == {
            "checkpoint.npz",
            "environment.json",
            "final.weights.h5",
            "log.csv",
            "recipe.json",
        }
        assert len((two / "log.csv").read_text().splitlines()) == 4

    @pytest.mark.exhaustive
    def test_two_devices_of_one_process_do(self, two, tmp_path):
        process = start(
            PROGRAM,
            tmp_path,
            **JAX,
            XLA_FLAGS="--xla_force_host_platform_device_count=2",
        )
        codes, said = finish(process)
        assert_ended_well(codes, said)
        assert "Division(index=0, processes=1, devices=2)" in said[0]
        assert_alike(tmp_path, two, 2e-6)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("dies", [0, 1])
    def test_one_does_not_outlive_the_other(self, two, tmp_path, dies):
        # Step 8 is in the middle of the second of three epochs of five.
        codes, said = together(PROGRAM, tmp_path, "--die-in-step", 8, DIES=str(dies))
        survivor = 1 - dies
        assert codes[dies] == 9 and codes[survivor] not in (0, 9), "\n".join(said)
        # Where process 0 is gone, JAX may have the first word, and the last.
        assert (
            "The connection to another process was lost" in said[survivor]
            or "another task died" in said[survivor]
        )
        assert not (tmp_path / "final.weights.h5").exists()
        assert_ended_well(*together(PROGRAM, tmp_path, "--resume"))
        assert_alike(tmp_path, two, 0)

    @pytest.mark.exhaustive
    def test_all_must_see_the_same_checkpoint(self, two, tmp_path):
        codes, said = together(
            "-c",
            "import os, runpy, sys;"
            f"process = os.environ[{distribution.PROCESS!r}];"
            f"folder = [{str(two)!r}, {str(tmp_path)!r}][int(process)];"
            f"sys.argv = [{PROGRAM!r}, folder, '--resume'];"
            f"runpy.run_path({PROGRAM!r}, run_name='__main__')",
        )
        assert 0 not in codes, "\n".join(said)
        # The one that is slower to say so may be ended by the other.
        assert "which only the processes [0] find" in "\n".join(said)


@pytest.mark.tensorflow
class TestTensorFlow:
    @pytest.mark.exhaustive
    def test_mirrored_devices_train_the_network_of_one(self, tmp_path):
        folders = [tmp_path / str(count) for count in (1, 2)]
        two = start(PROGRAM, folders[1], KERAS_BACKEND="tensorflow", LOGICAL_CPUS="2")
        assert_ended_well(*finish(two))
        # This process has one device, and starting another takes longer than training.
        train(
            training_process.network(batch_normalization=False),
            training_process.RECIPE,
            training_process.data(),
            folders[0],
            verbose=0,
        )
        assert_alike(*folders, 2e-6)

    def test_several_workers_are_refused(self, monkeypatch):
        cluster = {"worker": ["10.0.0.1:1", "10.0.0.2:1"]}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster}))
        with pytest.raises(ValueError, match="several TensorFlow workers.* 2 tasks"):
            with distribution.scope():
                raise NotImplementedError

    @pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": ["a:1"]}}'])
    def test_one_worker_is_welcome(self, monkeypatch, text):
        monkeypatch.setenv("TF_CONFIG", text)
        with distribution.scope():
            assert distribution.division() == Division()

    def test_variables_of_jax_are_refused(self, monkeypatch):
        monkeypatch.setenv(distribution.PROCESSES, "2")
        with pytest.raises(ValueError, match="Only on JAX.*the backend tensorflow"):
            with distribution.scope():
                raise NotImplementedError


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the variables are JAX's")
@pytest.mark.parametrize(
    "variables, message",
    [
        ({distribution.PROCESSES: "2"}, "without .*ADDRESSES.*PROCESS_ID"),
        (
            {
                distribution.ADDRESSES: "127.0.0.1:1",
                distribution.PROCESSES: "2",
                distribution.PROCESS: "2",
            },
            "PROCESS_ID='2', .*NUM_PROCESSES='2'",
        ),
    ],
)
def test_variables_must_be_complete(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        with distribution.scope():
            raise NotImplementedError


class TestDivision:
    def test_batches_for_evaluation_are_divisible(self):
        assert Division().evaluation_batch == 250
        assert Division(0, 2, 16).evaluation_batch == 256

    def test_batches_must_be_divisible(self):
        Division(0, 2, 4).check_batch_size(8)
        with pytest.raises(ValueError, match="which is 4 .*Received: batch_size=6"):
            Division(0, 2, 4).check_batch_size(6)

    def test_one_process_writes(self):
        assert Division(0, 2, 2).writes and not Division(1, 2, 2).writes


class TestFailFast:
    def test_alone_errors_are_ordinary(self):
        with pytest.raises(KeyError), distribution.fail_fast():
            raise KeyError

    @pytest.mark.parametrize(
        "statement, code, text",
        [
            ("raise KeyError('lost')", 1, "KeyError: 'lost'"),
            exhaustive("raise SystemExit", 3, ""),
            exhaustive("raise SystemExit('wrong arguments')", 1, "wrong arguments"),
        ],
    )
    def test_with_others_nothing_delays_the_end(self, statement, code, text):
        # The file alone, since importing the package takes longer than all else.
        program = (
            "import atexit, os, runpy\n"
            f"module = runpy.run_path({distribution.__file__!r})\n"
            "atexit.register(os._exit, 3)\n"
            f"with module['fail_fast']():\n    {statement}\n"
        )
        variables = {distribution.PROCESSES: "2", "KERAS_BACKEND": "numpy"}
        codes, said = finish(start("-c", program, **variables))
        assert codes == [code] and text in said[0]
