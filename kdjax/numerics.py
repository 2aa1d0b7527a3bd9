"""Precision of matrix products and determinism of kernels, as a configuration asks."""

import os
from contextlib import AbstractContextManager

import jax
import ml_collections

#: What XLA reads when the backend starts.
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def matmul_precision(config: ml_collections.ConfigDict) -> AbstractContextManager:
    """Returns a context in which products and convolutions are traced as configured."""
    name = config.matmul_precision
    return jax.default_matmul_precision(None if name == "default" else name)


def request_determinism() -> None:
    """Asks XLA for deterministic kernels; must precede the first use of a device."""
    given = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_DETERMINISTIC}".strip()


def check_determinism(config: ml_collections.ConfigDict) -> None:
    """Rejects a deterministic run on a GPU whose backend was started without.

    Raises:
      ValueError: says what to set.
    """
    if not config.deterministic or jax.default_backend() != "gpu":
        return  # CPUs and TPUs are deterministic.
    if _DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        raise ValueError(
            f"deterministic=True needs XLA_FLAGS={_DETERMINISTIC} in the environment "
            "before JAX uses the GPU; kdjax.main sets it"
        )
