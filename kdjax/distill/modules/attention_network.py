"""The attention network that turns the vectors of a batch into a graph.

Every image has one vector at the front and one at the back of a part of a network. A
head relates the back vector of image i to the front vectors of all images j; these
relations are the edges of a graph over the batch. The network learns on the teacher,
by estimating its back vectors from its front vectors, and is frozen for the transfer,
in which the student's graph is matched to the teacher's (`losses.graph_divergence`).

Source of everything here: Lee and Song, "Graph-based Knowledge Distillation by
Multi-head Attention Network" (BMVC 2019); original: KD_methods_with_TF at its last
revision, `nets/Relation.py`, whose functions are named below. A is the number of heads.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers

#: Products in full float32: TF32 would cost half the digits of logits that are not
#: scaled down.
_PRECISION = jax.lax.Precision.HIGHEST


def truncated_fan_out(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Draws weights from N(0, 2.6 / out), truncated at two standard deviations.

    Source: the release's variance scaling, mode FAN_OUT, factor 2, whose 1.3 nearly
    compensates the truncation: the weights' standard deviation is 1.003 sqrt(2 / out).
    Differs from the original in: nothing. Flax's variance scaling compensates it
    exactly and would give 0.3 % less.

    Args:
      key: randomness.
      shape: of the kernel, [..., out].
      dtype: type of the weights.
    """
    stddev = math.sqrt(1.3 * 2 / shape[-1])
    return nn.initializers.truncated_normal(stddev)(key, shape, dtype)


class Projection(nn.Module):
    """A linear layer without bias, and a batch norm.

    Attributes:
      width: output channels.
      dtype: type of the computation.
      axis_name: device axis of the synchronized batch norm, or None.
    """

    width: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, C] to [B, width]; with `train` by the batch's statistics."""
        x = nn.Dense(
            self.width,
            use_bias=False,
            kernel_init=truncated_fan_out,
            dtype=self.dtype,
            precision=_PRECISION,
            name="dense",
        )(x)
        return layers.batch_norm(
            train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            # A batch has one value a channel and image.
            fast_variance=False,
            name="bn",
        )(x)


class AttentionNetwork(nn.Module):
    """Relates back vectors to front vectors, and estimates the former from the latter.

    The columns of the graph are the front vectors of the call. Where a batch is spread
    over devices, give every device its own back vectors and the front vectors of all:
    it gets its own rows of the graph of the full batch.

    Original: `Attention_head` (`sender`, `receiver`) and `Estimator` (`hidden`,
    `output`).
    Differs from the original in: the running variances, see `layers.batch_norm`; the
    penalty on the weights is left to the optimizer. The original adds 5e-4 times the
    sum of squares of every parameter to the loss, which is a weight decay of 1e-3.

    Attributes:
      front_channels: length of a front vector.
      back_channels: length of a back vector.
      heads: number of graphs.
      dtype: type of the computation; logits and estimates are float32 or wider.
      axis_name: device axis of synchronized batch norms, or None.
    """

    front_channels: int
    back_channels: int
    heads: int = 8
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self):
        width = (self.front_channels + self.back_channels) // 2
        projection = functools.partial(
            Projection, dtype=self.dtype, axis_name=self.axis_name
        )
        self.sender = projection(width * self.heads)
        self.receiver = projection(width * self.heads)
        self.hidden = projection(width)
        self.output = nn.Dense(
            self.back_channels,
            kernel_init=truncated_fan_out,
            dtype=self.dtype,
            precision=_PRECISION,
        )

    def logits(self, front: jax.Array, back: jax.Array, *, train: bool) -> jax.Array:
        """Compares every back vector with every front vector, head by head.

        The products are not scaled by the width, and an image is compared with itself
        too.

        Args:
          front: vectors of the images in the columns, [B_all, C_front].
          back: vectors of the images in the rows, [B, C_back].
          train: batch norms use the statistics of the batch, as in the training of this
            network; the transfer uses the running statistics.

        Returns:
          [A, B, B_all].

        Raises:
          ValueError: if the vectors do not have the lengths of the attributes.
        """
        lengths = front.shape[-1], back.shape[-1]
        if lengths != (self.front_channels, self.back_channels):
            raise ValueError(
                f"front and back vectors have lengths {lengths}, the attention network "
                f"was made for {(self.front_channels, self.back_channels)}"
            )
        # The head is the faster index of a projection's channels.
        sent = self.sender(back, train=train).reshape(len(back), -1, self.heads)
        received = self.receiver(front, train=train).reshape(len(front), -1, self.heads)
        return jnp.einsum(
            "idh,jdh->hij",
            sent,
            received,
            preferred_element_type=self._wide,
            precision=_PRECISION,
        )

    def __call__(
        self, front: jax.Array, back: jax.Array, kept: jax.Array, *, train: bool
    ) -> jax.Array:
        """Estimates the back vectors from mixtures of the front vectors.

        Args:
          front: [B_all, C_front].
          back: vectors to be estimated; only the attention reads them, [B, C_back].
          kept: heads that take part in the estimate of each row, from
            `head_dropout_mask`, [A, B, 1]. The others are set to 0, and the rest is not
            scaled up.
          train: batch norms use the statistics of the batch.

        Returns:
          Unit vectors, [B, C_back].
        """
        logits = self.logits(front, back, train=train)
        assert kept.shape == (*logits.shape[:2], 1), (kept.shape, logits.shape)
        attention = nn.softmax(logits) * kept
        hidden = nn.relu(self.hidden(front, train=train))
        # All channels of the first head, then all of the second, ...
        mixed = jnp.einsum("hij,jd->ihd", attention, hidden, precision=_PRECISION)
        mixed = mixed.reshape(len(back), -1)
        estimate = self.output(mixed).astype(self._wide)
        square = jnp.sum(jnp.square(estimate), axis=-1, keepdims=True)
        return estimate * jax.lax.rsqrt(jnp.maximum(square, 1e-12))

    @property
    def _wide(self):
        return jnp.promote_types(self.dtype, jnp.float32)


def head_dropout_mask(
    key: jax.Array, *, heads: int, index: jax.Array, batch_size: int
) -> jax.Array:
    """Draws the heads that take part in the estimate of each row.

    Each head of a row draws a number from N(0, 1) and is kept if that is above the mean
    of the row's heads: of several heads each is kept with probability 1/2, at least one
    is kept and at least one is dropped. The randomness of a row depends on the key, its
    index in the batch and the size of the batch, not on the sharding.

    Original: `drop_head`.
    Differs from the original in: a single head is kept. Its number is never above its
    own mean, so the original always drops it and its attention never learns.

    Args:
      key: randomness of this step, and of this network where there are several.
      heads: number of heads.
      index: index of each row in the batch over all devices, [B] int32.
      batch_size: size of the batch over all devices.

    Returns:
      True where a head is kept, [A, B, 1].
    """
    noise = jax.random.normal(key, (heads, batch_size, 1))[:, index]
    return _above_mean(noise)


def _above_mean(noise: jax.Array) -> jax.Array:
    if len(noise) == 1:
        return jnp.ones(noise.shape, bool)
    return noise > jnp.mean(noise, axis=0, keepdims=True)
