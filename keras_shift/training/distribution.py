"""Trains models on several devices and several machines."""

import contextlib
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"
PROCESS = "KERAS_DISTRIBUTION_PROCESS_ID"

_EVALUATION_BATCH = 250

# JAX's errors contain one of these words if another process is gone. They have no type
# of their own.
_LOST = ("Gloo", "NCCL", "coordination", "UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclasses.dataclass(frozen=True)
class Division:
    """Says how a training is divided among processes and their devices.

    Attributes:
        index: Number of this process, counted from 0.
        processes: Number of processes.
        devices: Number of devices, those of all processes together. Keras divides
            batches into equal parts for them.
    """

    index: int = 0
    processes: int = 1
    devices: int = 1

    @property
    def share(self) -> tuple[int, int]:
        """The tuple `(index, processes)`, which `TrainingBatches` takes."""
        return self.index, self.processes

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and logs. Only one process does."""
        return self.index == 0

    @property
    def evaluation_batch(self) -> int:
        """The number of images in an evaluation batch, over all processes together."""
        return -(-_EVALUATION_BATCH // self.devices) * self.devices

    def check_batch_size(self, batch_size: int) -> None:
        """Checks that batches can be divided among the devices.

        Args:
            batch_size: Int, number of images in a batch, over all processes together.

        Raises:
            ValueError: If `batch_size` is not a multiple of the number of devices.
        """
        if batch_size % self.devices:
            raise ValueError(
                "A recipe's `batch_size` must be a multiple of the number of devices, "
                f"which is {self.devices} (CUDA_VISIBLE_DEVICES=0,1 would leave two). "
                f"Received: batch_size={batch_size}"
            )

    def check_agreement(self, path: Path) -> None:
        """Checks that either all processes find a checkpoint or none does.

        Otherwise the processes that find it would wait forever for the others.

        Args:
            path: `Path` of the checkpoint, which need not exist.

        Raises:
            ValueError: If only some processes find the checkpoint.
        """
        if self.processes == 1:
            return
        from jax.experimental import multihost_utils

        everywhere = multihost_utils.process_allgather(np.array(path.exists())).tolist()
        if len(set(everywhere)) > 1:
            have = [process for process, exists in enumerate(everywhere) if exists]
            raise ValueError(
                "All processes must find the same checkpoint, in a folder that they "
                f"share. Received: {path}, which only the processes {have} find"
            )


def division() -> Division:
    """Returns the `Division` that Keras uses now.

    Example:

    >>> keras_shift.training.distribution.division()
    Division(index=0, processes=1, devices=1)

    Returns:
        A `Division`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return Division(devices=tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    if keras.backend.backend() != "jax" or distribution is None:
        return Division()
    import jax

    return Division(
        jax.process_index(), jax.process_count(), distribution.device_mesh.devices.size
    )


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Makes models use all devices, and the other processes if there are any.

    On JAX, several processes on one or more machines can train one model together. Each
    of them needs these environment variables:

    -   `KERAS_DISTRIBUTION_JOB_ADDRESSES`: address and port of process 0, such as
        `10.0.0.1:1234`, or the addresses of all processes, separated by commas;
    -   `KERAS_DISTRIBUTION_NUM_PROCESSES`: number of processes;
    -   `KERAS_DISTRIBUTION_PROCESS_ID`: number of this process, counted from 0.

    The devices of all processes share every batch, and batch normalization uses the
    statistics of the whole batch. On TensorFlow there is one process. Its GPUs (or its
    logical CPUs if there are no GPUs) share every batch by
    `tf.distribute.MirroredStrategy`, and each of them uses its own statistics.

    In an evaluation, too, all devices get equal parts. A few held-out images at the end
    may be left out, always fewer than there are devices.

    Enter the scope before anything is computed. If another process ends early, this
    process ends with an error.

    Example:

    >>> with keras_shift.training.distribution.scope():
    ...     model = keras_shift.zoo.recipes.build(recipe)
    ...     rows = keras_shift.training.train(model, recipe, data, "run")

    Raises:
        RuntimeError: If the connection to another process is lost.
        ValueError: If environment variables are missing, invalid, or not for this
            backend.
    """
    backend = keras.backend.backend()
    given = {key for key in (ADDRESSES, PROCESSES, PROCESS) if key in os.environ}
    if given and backend != "jax":
        raise ValueError(
            "Only on JAX can several processes train one model (KERAS_BACKEND=jax). "
            f"Received: the backend {backend}, and the environment variables "
            f"{sorted(given)}"
        )
    if backend == "jax":
        with _jax_scope(given), _explained():
            yield
    elif backend == "tensorflow":
        with _tensorflow_scope():
            yield
    else:
        yield


@contextlib.contextmanager
def fail_fast() -> Iterator[None]:
    """Ends this process at once if it fails while it trains with other processes.

    When Python ends in the ordinary way, JAX waits for the other processes, which wait
    for this one in the middle of a step. Minutes would pass until all of them are
    aborted. Use this context manager for the whole program.

    Example:

    >>> with keras_shift.training.distribution.fail_fast():
    ...     main()
    """
    try:
        yield
    except BaseException as error:
        if os.environ.get(PROCESSES, "1") == "1":
            raise
        if isinstance(error, SystemExit) and not error.code:
            raise
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lets one process do something without the other processes.

    A process that makes variables under a distribution waits until all processes make
    them. Saving weights makes variables, since Keras then makes an optimizer.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextlib.contextmanager
def _jax_scope(given):
    if given:
        _check_variables(given)
        keras.distribution.initialize()
    before = keras.distribution.distribution()
    if len(keras.distribution.list_devices()) > 1:
        # Keras need not divide batches among processes: TrainingBatches and
        # StreamedData do.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _check_variables(given):
    missing = {ADDRESSES, PROCESSES, PROCESS} - given
    if missing:
        raise ValueError(
            "Several processes need three environment variables each. Received: "
            f"{sorted(given)} without {sorted(missing)}"
        )
    processes, process = os.environ[PROCESSES], os.environ[PROCESS]
    if not (
        processes.isdecimal()
        and process.isdecimal()
        and 0 <= int(process) < int(processes)
    ):
        raise ValueError(
            f"{PROCESS} counts processes from 0, and {PROCESSES} is their number. "
            f"Received: {PROCESS}={process!r}, {PROCESSES}={processes!r}"
        )


@contextlib.contextmanager
def _tensorflow_scope():
    workers = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    tasks = sum(len(addresses) for addresses in workers.values())
    if tasks > 1:
        # Up to Keras 3.15.1, model.fit fails under MultiWorkerMirroredStrategy:
        # https://github.com/keras-team/keras/issues/20585
        raise ValueError(
            "Keras does not train with several TensorFlow workers (keras issue "
            "20585); several machines train on JAX: KERAS_BACKEND=jax, with "
            f"{ADDRESSES}, {PROCESSES} and {PROCESS}. Received: TF_CONFIG with {tasks} "
            "tasks"
        )
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        yield
        return
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        yield


@contextlib.contextmanager
def _explained():
    try:
        yield
    except Exception as error:
        lost = any(word in str(error) for word in _LOST)
        if not lost or division().processes == 1:
            raise
        raise RuntimeError(
            "The connection to another process was lost: it ended, or its machine did. "
            "The last checkpoint is complete: start all processes again to go on from "
            f"there (`resume=True`, or --resume). {error}"
        ) from error
