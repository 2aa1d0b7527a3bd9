"""The labels of losses that read them, and what else there is than the true class."""

import jax
import jax.numpy as jnp


def require_labels(name: str, logits: jax.Array, label: jax.Array) -> None:
    """Raises a ValueError that names the loss unless there are labels and 2 classes."""
    batch, classes = logits.shape
    if classes < 2:
        raise ValueError(f"{name}: {classes} class has no other class")
    if label.shape != (batch,) or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ValueError(
            f"{name}: label is {label.dtype}{list(label.shape)}, not integers [{batch}]"
        )


def of_target(x: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the entry of each example's true class, [B] for [B, K]."""
    return jnp.take_along_axis(x, label[:, None], axis=1)[:, 0]


def of_others(x: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the entries of all other classes in their order, [B, K - 1]."""
    # Indices of the other classes skip the target.
    index = jnp.arange(x.shape[-1] - 1)[None]
    return jnp.take_along_axis(x, index + (index >= label[:, None]), axis=1)
