"""The attention network that turns the vectors of a batch into a graph.

Every image has one vector at the front and one at the back of a part of a network. A
head relates the back vector of image i to the front vectors of all images j; these
relations are the edges of a graph over the batch. The network learns on the teacher,
by estimating its back vectors from its front vectors, and is frozen for the transfer,
where the student's graph is drawn to the teacher's.

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

#: Products in full: the TF32 of some accelerators would cost half the digits of logits
#: that are not scaled down.
_PRECISION = jax.lax.Precision.HIGHEST


def truncated_fan_out(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Draws weights from N(0, 2.6 / out), cut at two standard deviations.

    Source: the release's variance scaling, mode FAN_OUT, factor 2, whose 1.3 makes up
    for the cut, nearly: the weights' standard deviation is 1.003 sqrt(2 / out).
    Differs from the original in: nothing. Flax's variance scaling makes up for the cut
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
    """Relates back vectors to front vectors, and estimates the former by the latter.

    The graph spans the front vectors it is given. Where a batch is spread over devices,
    give every device its own back vectors and the front vectors of all: it gets its own
    rows of the graph of the whole batch.

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
          front: vectors of the images that make the columns, [B_all, C_front].
          back: vectors of the images that make the rows, [B, C_back].
          train: batch norms use the statistics of the batch, as in the training of this
            network; the transfer uses the running ones.

        Returns:
          [A, B, B_all].

        Raises:
          ValueError: if the vectors have other lengths than announced.
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
          back: what is estimated, seen by the attention alone, [B, C_back].
          kept: heads that take part in the estimate of each row, from `kept_heads`,
            [A, B, 1]. The others count as 0, and nothing makes up for them.
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


def head_noise(
    key: jax.Array, *, heads: int, position: jax.Array, batch_size: int
) -> jax.Array:
    """Draws the N(0, 1) numbers by which heads are dropped.

    What row k of a batch draws depends on the key, k and the size of the batch, not on
    how the batch is spread over devices.

    Args:
      key: randomness of this step, and of this network where there are several.
      heads: number of heads.
      position: place of each row in the whole batch, [B] int32.
      batch_size: size of the whole batch over all devices.

    Returns:
      [A, B, 1].
    """
    return jax.random.normal(key, (heads, batch_size, 1))[:, position]


def kept_heads(noise: jax.Array) -> jax.Array:
    """Keeps the heads of a row whose number is above the mean of the row's heads.

    Of several heads each is kept with probability 1/2, and at least one is kept and one
    dropped.

    Original: `drop_head`.
    Differs from the original in: a single head is kept. Its number is never above its
    own mean, so the original always drops it and its attention never learns.

    Args:
      noise: from `head_noise`, [A, B, 1].

    Returns:
      True where a head is kept, [A, B, 1].
    """
    if len(noise) == 1:
        return jnp.ones(noise.shape, bool)
    return noise > jnp.mean(noise, axis=0, keepdims=True)


def estimation_loss(estimate: jax.Array, back: jax.Array) -> jax.Array:
    """Measures 1 - cosine of unit vectors: the loss the attention network learns by.

    Original: `MHGD`, the collection `MHA_loss`.
    Differs from the original in: one value an example, where the original averages.

    Args:
      estimate: from `AttentionNetwork`, [B, C].
      back: the vectors themselves, [B, C].

    Returns:
      Values from 0 to 2, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    if estimate.shape != back.shape:
        raise ValueError(
            f"estimation_loss: estimate {estimate.shape} and back {back.shape} differ"
        )
    return 1 - jnp.sum(estimate * back, axis=-1)


def _tanh(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return jnp.tanh(logits)


def _centered_tanh(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return jnp.tanh(logits - jnp.mean(teacher_logits, axis=-1, keepdims=True))


#: What bounds the logits of a graph, by name: `tanh` as last released; `centered_tanh`
#: as first released (July 2019, when the release's own accuracy was measured), which
#: takes the mean of the teacher's row off both networks' logits.
SMOOTHINGS = {"tanh": _tanh, "centered_tanh": _centered_tanh}


def graph(logits: jax.Array, teacher_logits: jax.Array, *, smoothing: str) -> jax.Array:
    """Turns logits into graphs whose rows sum to 1.

    Within a row no edge is more than e^2 times another, whatever the logits.

    Original: `MHGD` and the softmax in `kld_loss`.
    Differs from the original in: nothing. The paper's poster has no smoothing.

    Args:
      logits: of either network, [A, B, B_all].
      teacher_logits: the teacher's for the same rows and columns, [A, B, B_all].
      smoothing: one of `SMOOTHINGS`.

    Returns:
      [A, B, B_all].
    """
    return nn.softmax(SMOOTHINGS[smoothing](logits, teacher_logits))


def graph_divergence(
    student_logits: jax.Array, teacher_logits: jax.Array, *, smoothing: str
) -> jax.Array:
    """Measures KL(student's graph || teacher's graph), row by row.

    Relates the images of a batch: a row compares one image with all the columns given,
    on this device or gathered over all of them. No gradient is stopped.

    Original: `kld_loss`.
    Differs from the original in: one value an example, where the original sums over the
    rows too, so that its loss grows with the batch.

    Args:
      student_logits: from `AttentionNetwork.logits`, [A, B, B_all].
      teacher_logits: of the same shape.
      smoothing: one of `SMOOTHINGS`.

    Returns:
      Sums over heads and columns, in nats, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"graph_divergence: student {student_logits.shape} and teacher "
            f"{teacher_logits.shape} differ"
        )
    student = graph(student_logits, teacher_logits, smoothing=smoothing)
    teacher = graph(teacher_logits, teacher_logits, smoothing=smoothing)
    # No edge is 0, see `graph`.
    difference = jnp.log(student) - jnp.log(teacher)
    return jnp.sum(student * difference, axis=(0, 2))
