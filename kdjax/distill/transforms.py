"""Transforms T of feature maps, the T in d(T_t(F_t), T_s(F_s)), by name.

The functions themselves are in `kdjax.losses`.
"""

from collections.abc import Callable

import jax

from kdjax.losses import margin_relu
from kdjax.losses.attention_transfer import attention_map
from kdjax.losses.factor_transfer import flat_unit
from kdjax.losses.nst import channel_unit

__all__ = [
    "TRANSFORMS",
    "attention_map",
    "channel_unit",
    "flat_unit",
    "identity",
    "margin_relu",
    "relu",
]


def identity(x: jax.Array) -> jax.Array:
    """Returns a feature as it is."""
    return x


def relu(x: jax.Array) -> jax.Array:
    """Replaces negative entries by 0; the gradient at 0 is 0."""
    return jax.nn.relu(x)


#: Transforms by the name used in `teacher_transform` and `student_transform`.
TRANSFORMS: dict[str, Callable[..., jax.Array]] = {
    "identity": identity,
    "relu": relu,
    "attention_map": attention_map,
    "channel_unit": channel_unit,
    "flat_unit": flat_unit,
    "margin_relu": margin_relu,
}
