"""FitNets: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015).

As in HobbitLong/RepDistiller, `HintLoss`.
"""

import jax

from kdjax.losses.elementwise import mean_squared
from kdjax.losses.numerics import require_equal_shapes


def hint(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared difference of a hint and what the student's regressor guesses.

    Source: the paper's equation 3; as in RepDistiller, `HintLoss`.
    Differs from the original in: a mean over the entries of an example, as in
    RepDistiller, where the paper has half the sum.

    Args:
      student: features after the regressor, [B, ...].
      teacher: features of the same shape.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("hint", student, teacher)
    return mean_squared(student, teacher)
