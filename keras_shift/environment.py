"""What something was computed with: machine, libraries, and version of the sources."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import keras

from keras_shift.version import __version__

_PACKAGES = {"tensorflow": ("tensorflow", "tensorflow-cpu")}


def environment():
    """Returns what this process computes with, as JSON can hold it.

    Returns:
        A dict with `"git_commit"` (`None` where the sources are no checkout, or have
        changes that are not committed), `"versions"` of libraries by name,
        `"backend"` and `"device"`.
    """
    return {
        "git_commit": git_commit(),
        "versions": versions(),
        "backend": keras.backend.backend(),
        "device": device(),
    }


def versions():
    """Returns the versions of Python and of the libraries that compute."""
    found = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_shift": __version__,
    }
    backend = keras.backend.backend()
    for package in ("numpy", *_PACKAGES.get(backend, (backend,))):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit():
    """Returns the commit of the checkout whose sources these are, or `None`."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    sources = ["keras_shift", "zoo", "custom_ops"]
    changes = _git(root, "status", "--porcelain", "--", *sources)
    return None if changes is None or changes else _git(root, "rev-parse", "HEAD")


def _git(folder, *arguments):
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True
        )
    except OSError:  # There is no git.
        return None
    return None if result.returncode else result.stdout.strip()


def device():
    """Returns the accelerators that the backend uses, or else the processor."""
    names = _accelerators(keras.backend.backend())
    if not names:
        return machine()
    return f"{len(names)} x {names[0]}, {machine()}"


def _accelerators(backend):
    if backend == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    if backend == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details
        found = tf.config.list_physical_devices("GPU")
        return [details(gpu).get("device_name", gpu.name) for gpu in found]
    if backend == "torch":
        import torch

        count = torch.cuda.device_count()
        return [torch.cuda.get_device_name(index) for index in range(count)]
    return []


def machine():
    """Returns the name of this machine's processor and its number of cores."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    name = line.split(":")[1].strip()
                    break
    return f"{name}, {os.cpu_count()} cores"
