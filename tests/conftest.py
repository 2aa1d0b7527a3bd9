"""A strict session: four CPU devices, no silent broadcasting, warnings as errors."""

import pathlib

import jax
import numpy as np
import pytest

# Before the first use of a device.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """Lets tests share what they compile; many build the same step."""
    folder = str(tmp_path_factory.mktemp("compilation_cache"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture
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
