"""Values and gradients of released functions, and the inputs that they got."""

import functools
import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np

_FILE = pathlib.Path(__file__).parents[1] / "golden" / "released_losses.json"

#: An odd batch: classes of seven examples, of eleven classes.
LABEL = np.asarray([3, 1, 4, 1, 5, 9, 10])
CLASSES = 11


@functools.cache
def values():
    """Returns the file: by name the value, and by input two figures of a gradient."""
    return json.loads(_FILE.read_text())


def drawn(name, *shape):
    """Draws an input by its name."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def logits():
    """Returns those of both networks, [7, 11]."""
    return {
        f"{side}_logits": 3 * drawn(side, len(LABEL), CLASSES)
        for side in ("student", "teacher")
    }


def figures(name, gradient):
    """Returns the norm of a gradient, and its product with a drawn direction."""
    direction = drawn(f"direction of {name}", *gradient.shape)
    return [np.linalg.norm(gradient), np.vdot(direction, gradient)]


def assert_matches(name, loss, inputs, *, names=None, rtol=1e-9):
    """Compares the mean of a loss and its gradients with the released function's.

    Args:
      name: of the entry in the file.
      loss: takes the inputs by keyword; values of examples, [B].
      inputs: arrays by keyword.
      names: in the file, of the inputs whose gradients are compared, by keyword; by
        default "student" of the student's logits.
      rtol: for the value, and for the figures of a gradient by its norm.
    """
    expected = values()[name]
    names = names or {"student_logits": "student"}
    assert set(names.values()) == set(expected["gradient"])

    @jax.jit
    @jax.value_and_grad
    def run(by, others):
        value = loss(**by, **others)
        assert value.ndim == 1
        assert value.dtype == jnp.float64
        return jnp.mean(value)

    with jax.enable_x64(True):
        arrays = {key: jnp.asarray(x) for key, x in inputs.items()}
        by = {key: arrays.pop(key) for key in names}
        value, gradients = jax.device_get(run(by, arrays))
    assert_close(
        name, value, {names[key]: gradient for key, gradient in gradients.items()}, rtol
    )


def assert_close(name, value, gradients, rtol=1e-9):
    """Compares a value, and gradients by their names in the file, with the release's.

    Norms below a millionth of the largest are of gradients that are zero but for
    rounding errors, on both sides.
    """
    expected = values()[name]
    largest = max(norm for norm, _ in expected["gradient"].values())
    errors = [0.0]
    for key, gradient in gradients.items():
        wanted = np.asarray(expected["gradient"][key])
        error = np.abs(figures(key, gradient) - wanted).max()
        errors.append(error / max(wanted[0], 1e-6 * largest))
    # The figures of docs/parity.md.
    error = abs(value / expected["value"] - 1)
    print(f"\n{name}: value {error:.0e}, gradient {max(errors):.0e}")
    assert max(error, *errors) < rtol
