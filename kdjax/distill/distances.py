"""Distances d between a student's and a teacher's transformed features, by name.

All have the form `(student, teacher) -> [B]`, one value an example; the functions
themselves are in `kdjax.losses`.
"""

from collections.abc import Callable

import jax

from kdjax.losses import activation_boundary, partial_l2
from kdjax.losses.elementwise import l1, l2, mean_squared
from kdjax.losses.nst import polynomial_mmd

__all__ = [
    "DISTANCES",
    "activation_boundary",
    "l1",
    "l2",
    "mean_squared",
    "partial_l2",
    "polynomial_mmd",
]

#: Distances by the name used in `distance`.
DISTANCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "partial_l2": partial_l2,
    "l2": l2,
    "mean_squared": mean_squared,
    "l1": l1,
    "activation_boundary": activation_boundary,
    "polynomial_mmd": polynomial_mmd,
}
