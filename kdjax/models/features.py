"""What every network of this package returns beside its logits."""

from typing import NamedTuple

import jax


class Features(NamedTuple):
    """The tensors that distillation methods read.

    XLA removes whatever a program does not use, so nobody pays for a feature that no
    method asks for.

    Attributes:
      stem: what the stages start from, [B, H, W, C].
      post: outputs of the stages after their ReLU, bottom to top, [B, H, W, C] each.
      pre: the same before that ReLU: what the overhaul method distills.
      pooled: input of the classifier, [B, C].
    """

    stem: jax.Array
    post: tuple[jax.Array, ...]
    pre: tuple[jax.Array, ...]
    pooled: jax.Array
