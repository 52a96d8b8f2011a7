"""What all tests share."""

import os
import re

import keras
import pytest

from keras_shift import dispatch

if keras.backend.backend() == "jax":
    import jax

    # Without it, JAX turns float64 into float32.
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(params=["native", "convolution", "gather"])
def path(request):
    """Arguments that send a shift down one of its three implementations.

    The compiled op is skipped where it cannot be had (another backend, or
    KERAS_SHIFT_DISABLE_NATIVE_OP=1 set on purpose), and a failure where it should
    be there and is not.
    """
    if request.param == "native":
        disabled = os.environ.get("KERAS_SHIFT_DISABLE_NATIVE_OP", "0")
        if keras.backend.backend() != "tensorflow" or disabled not in ("", "0"):
            pytest.skip("no native op here, on purpose")
        assert dispatch.choose("float32").reason is None
        return {"native": True}
    bound = {"convolution": 3, "gather": None}[request.param]
    return {"native": False, "max_displacement": bound}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Paths of temporary files, which may be long, are not folded in tables."""
    monkeypatch.setenv("COLUMNS", "300")


# These files take long for their few tests. They begin first, so that in the end no
# process waits for another.
LONG = {
    "test_distribution",
    "test_docstrings",
    "test_evaluation",
    "test_packaging",
    "test_readme",
    "test_sparsify",
    "test_tflite",
    "test_trainer",
}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps tests in one process that share what takes long: a file's, a network's.

    The mark `xdist_group` of pytest-xdist 3.8 has no effect under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrNetwork(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            network = re.search(r"::TestEveryNetwork::.*\[([\w.]+)", nodeid)
            return network[1] if network else nodeid.split("::")[0]

    return ByFileOrNetwork(config, log)
