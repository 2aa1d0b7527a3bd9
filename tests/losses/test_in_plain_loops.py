"""Losses in training loops that are not kdjax's own."""

import pathlib
import runpy

import jax
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.parametrize("name", ["optax_loop", "nnx_loop"])
def test_a_student_learns_the_digits(name):
    path = EXAMPLES / f"{name}.py"
    _, loop = path.read_text().split("# [loop\n")
    loop, _ = loop.split("# loop]\n")
    assert len(list(filter(str.strip, loop.splitlines()))) < 20
    # Of users who leave JAX's defaults alone.
    with jax.numpy_rank_promotion("allow"):
        script = runpy.run_path(str(path))
    assert np.isfinite(script["loss"])
    assert script["accuracy"](script["student"]) > 0.85
