"""Export to StableHLO, which JAX reads.

JAX promises to read a file in the versions of the six months after the one that wrote
it, and of the three weeks before.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax import export

from kdjax.export.program import Program

#: What the program runs on.
PLATFORMS = ("cpu", "cuda", "tpu")

NOTE = (
    f"Written by jax {jax.__version__}: versions of the six months after it and of the "
    "three weeks\nbefore it read the file."
)


def write(
    function: Callable[[jax.Array], jax.Array],
    image: jax.ShapeDtypeStruct,
    metadata: Mapping[str, str],
) -> bytes:
    """Returns the content of a file; arguments as `program.Format.write`."""
    del metadata  # The format has no place for it.
    exported = export.export(jax.jit(function), platforms=PLATFORMS)
    return bytes(exported(image).serialize())


def load(content: bytes) -> Program:
    """Returns the program in a file."""
    call = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda image: np.asarray(call(image))


def runtime() -> str:
    """Returns the name and version of what runs the program."""
    return f"jax {jax.__version__}"
