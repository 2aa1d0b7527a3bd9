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

# These options make compilation, most of their time, three times as fast. An empty
# XLA_FLAGS tests what users compile.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__ < (0, 11):  # Newer versions end at this one.
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _QUICK)

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


#: What `make test-3.13` runs on the newest Python and JAX, by the start of the names.
SMOKE = (
    "tests/losses/test_",
    "tests/losses/linalg/test_singular_vectors.py::test_vectors_match_authors[tall-",
    "tests/losses/linalg/test_singular_vectors.py::test_gradients_of_aligned_vectors_"
    "match_authors[wide-",
    "tests/test_packaging.py",
    "tests/test_step.py::test_margins_and_features_are_the_authors[wrn-float32]",
    "tests/test_step.py::test_losses_are_the_authors[wrn-float32-",
    "tests/test_step.py::test_four_updates_are_the_authors[float64-wrn]",
    "tests/distill/test_kd_svd.py::test_loss_of_maps_matches_authors[gram-",
    "tests/distill/test_mhgd.py::test_loss_of_maps_matches_authors[float64-exact]",
    "tests/test_main.py::test_a_killed_and_then_stopped_run",
    "tests/export/test_export.py::test_program_is_the_student[stablehlo-true]",
)


@pytest.hookimpl(tryfirst=True)  # Before tests are selected by their marks.
def pytest_collection_modifyitems(config, items):
    """Marks the tests of SMOKE, each of which must be there if they are selected."""
    missing = set(SMOKE)
    for item in items:
        found = [start for start in SMOKE if item.nodeid.startswith(start)]
        missing.difference_update(found)
        if found:
            item.add_marker(pytest.mark.smoke)
    if missing and config.option.markexpr == "smoke":
        raise pytest.UsageError(f"SMOKE in tests/conftest.py: no test is {missing}")


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
