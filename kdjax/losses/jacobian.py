"""Jacobian matching: Srinivas and Fleuret, "Knowledge Transfer with Jacobian Matching"
(ICML 2018).

As in AberHu/Knowledge-Distillation-Zoo, `sobolev.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote, require_equal_shapes


def jacobian(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared distance of two gradients scaled to length 1.

    Source: the paper's equation 6, of one row of the Jacobian; as in
    Knowledge-Distillation-Zoo, `Sobolev`.
    Differs from the original in: a sum over the entries of an example, where
    Knowledge-Distillation-Zoo has the mean; a gradient of zero stays zero, with no
    gradient of its own.

    Args:
      student: gradients of a scalar, as the true class's logit, with respect to the
        images, [B, ...].
      teacher: gradients of the same shape.

    Returns:
      From 0 to 4, [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("jacobian", student, teacher)
    student, teacher = (
        l2_normalize(x.reshape(len(x), -1)) for x in promote(student, teacher)
    )
    return jnp.sum(jnp.square(student - teacher), axis=-1)
