"""A strict session: four CPU devices, no silent broadcasting, warnings as errors."""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

# The tests check numbers and four devices on the CPU, whatever else the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

# Before the first use of a device.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests build the same step; they share what they compile, and so do the processes
# that they start.
# JAX_COMPILATION_CACHE_DIR keeps it from one session to the next.
CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR")
if not CACHE:
    CACHE = tempfile.mkdtemp(prefix="kdjax_test_cache_")
    atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(autouse=True, scope="module")
def _forget_executables():
    """Unmaps what a file of tests compiled, before the next file.

    Each executable holds memory maps; those of the whole suite are more than Linux
    allows one process (vm.max_map_count), which ends it by a segmentation fault.
    """
    yield
    jax.clear_caches()
    gc.collect()


GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden():
    """Returns a function that reads the arrays of a file under tests/golden."""

    def read(name: str, prefix: str = "") -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {
                key.removeprefix(prefix): arrays[key]
                for key in arrays.files
                if key.startswith(prefix)
            }

    return read
