"""Intermediate features that every network returns with its logits."""

from typing import Any, NamedTuple

import jax

#: Stands for an argument that is not given, where None has a meaning.
_NOT_GIVEN: Any = object()


class _Fields(NamedTuple):
    stem: jax.Array
    post: tuple[jax.Array, ...]
    pre: tuple[jax.Array, ...]
    pooled: jax.Array
    block: tuple[jax.Array, ...]
    last: jax.Array | None
    heads: tuple[jax.Array, ...]


class Features(_Fields):
    """The tensors that distillation methods read.

    XLA removes whatever a program does not use: a feature that no method reads costs
    nothing.

    `block` and `post` are the same in networks whose blocks end in a ReLU. In
    pre-activation networks (wide residual networks, PyramidNets) the ReLU belongs to
    the next block: there `block` is the bare sum of branch and shortcut, and `post`
    comes after the next block's batch norm and ReLU.

    Attributes:
      stem: input of the first stage, [B, H, W, C].
      post: outputs of the stages after their ReLU, bottom to top, [B, H, W, C] each.
      pre: the same before that ReLU, which the overhaul method distills.
      pooled: input of the classifier, [B, C].
      block: outputs of the last block of every stage, which the code of the usual
        benchmark (RepDistiller, mdistiller, ReviewKD) returns; `post` unless given.
      last: the map that is averaged to `pooled`, [B, H, W, C]: the last of `post`
        unless given; None of networks whose `pooled` is no average of a map.
      heads: logits of the classifier and of a second one, [B, K] each, whose mean are
        the network's, where a token of its own is there to be distilled to; else empty.
    """

    __slots__ = ()

    def __new__(
        cls,
        stem: jax.Array,
        post: tuple[jax.Array, ...],
        pre: tuple[jax.Array, ...],
        pooled: jax.Array,
        block: tuple[jax.Array, ...] | None = None,
        last: jax.Array | None = _NOT_GIVEN,
        heads: tuple[jax.Array, ...] = (),
    ) -> "Features":
        block = post if block is None else block
        last = post[-1] if last is _NOT_GIVEN else last
        return super().__new__(cls, stem, post, pre, pooled, block, last, heads)
