"""Describes the machine, the libraries and the version of the sources in use."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import keras

from keras_shift.version import __version__

_PACKAGES = {"tensorflow": ("tensorflow", "tensorflow-cpu")}

# Where a program has this in its environment, Linux refuses AMX to it:
# benchmarks/without_amx.py.
_NO_AMX = "KERAS_SHIFT_WITHOUT_AMX"

# Linux' flags for vector instructions stand beside their names, the widest first.
_VECTORS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


def environment() -> dict[str, Any]:
    """Returns what this process computes with, in types that JSON can hold.

    Returns:
        A dict with the keys `"git_commit"` (as in `git_commit`), `"versions"` (as in
        `versions`), `"backend"` (the name of Keras' backend) and `"device"` (as in
        `device`).
    """
    return {
        "git_commit": git_commit(),
        "versions": versions(),
        "backend": keras.backend.backend(),
        "device": device(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that compute, by name."""
    numbers = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_shift": __version__,
    }
    backend = keras.backend.backend()
    for package in ("numpy", *_PACKAGES.get(backend, (backend,))):
        try:
            numbers[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return numbers


def git_commit() -> str | None:
    """Returns the Git commit of the sources that run.

    Returns:
        A hash, or `None` where the sources are not a Git checkout, where they have
        changes that are not committed, or where there is no Git.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    sources = ["keras_shift", "zoo", "custom_ops"]
    changes = _git(root, "status", "--porcelain", "--", *sources)
    return None if changes is None or changes else _git(root, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True
        )
    except OSError:  # Git is not installed.
        return None
    return None if result.returncode else result.stdout.strip()


def device() -> str:
    """Returns the names of the backend's accelerators, if any, and of the processor."""
    names = _accelerators(keras.backend.backend())
    if not names:
        return machine()
    return f"{len(names)} x {names[0]}, {machine()}"


def _accelerators(backend: str) -> list[str]:
    if backend == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    if backend == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details
        gpus = tf.config.list_physical_devices("GPU")
        return [details(gpu).get("device_name", gpu.name) for gpu in gpus]
    if backend == "torch":
        import torch

        count = torch.cuda.device_count()
        return [torch.cuda.get_device_name(index) for index in range(count)]
    return []


def machine() -> str:
    """Returns the name of this machine's processor, and how many cores it has.

    Processors of different speed may have one name, so the widest of their vector
    instructions are named, too.
    """
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            fields = (line.partition(":") for line in file)
            details = {key.strip(): value.strip() for key, _, value in fields}
        name = details.get("model name", name)
        instructions = set(details.get("flags", "").split())
        if _NO_AMX in os.environ:
            instructions.discard("amx_int8")
        vectors = [_VECTORS[flag] for flag in _VECTORS if flag in instructions]
        if vectors:
            name = f"{name} with {vectors[0]}"
    return f"{name}, {os.cpu_count()} cores"
