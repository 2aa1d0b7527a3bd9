"""MHGD: Lee and Song, "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

The logits come from an attention network, `kdjax.distill.modules.attention_network`. A
is the number of its heads. Original: sseung0703/KD_methods_with_TF, `nets/Relation.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote, require_equal_shapes


def estimation_loss(estimate: jax.Array, back: jax.Array) -> jax.Array:
    """One minus the cosine of unit vectors: the loss of the attention network.

    Original: `MHGD`, the collection `MHA_loss`.
    Differs from the original in: one value an example, where the original averages.

    Args:
      estimate: the attention network's, [B, C].
      back: the vectors that it estimates, [B, C].

    Returns:
      Values from 0 to 2, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    if estimate.shape != back.shape:
        raise ValueError(
            f"estimation_loss: estimate {estimate.shape} and back {back.shape} differ"
        )
    estimate, back = promote(estimate, back)
    return 1 - jnp.sum(estimate * back, axis=-1)


def _tanh(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return jnp.tanh(logits)


def _centered_tanh(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return jnp.tanh(logits - jnp.mean(teacher_logits, axis=-1, keepdims=True))


def _unbounded(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    return logits


#: What bounds the logits of a graph, by name: `tanh` as last released; `centered_tanh`
#: as first released (July 2019, when the published accuracy of the code was measured),
#: which subtracts the mean of the teacher's row from both networks' logits; `none` as
#: on the paper's poster, where nothing does.
SMOOTHINGS = {"tanh": _tanh, "centered_tanh": _centered_tanh, "none": _unbounded}


def _log_graph(
    logits: jax.Array, teacher_logits: jax.Array, smoothing: str
) -> jax.Array:
    return jax.nn.log_softmax(SMOOTHINGS[smoothing](logits, teacher_logits))


def graph(logits: jax.Array, teacher_logits: jax.Array, *, smoothing: str) -> jax.Array:
    """Turns logits into graphs whose rows sum to 1.

    Within a row no edge is more than e^2 times another, whatever the logits, unless
    the smoothing is "none".

    Original: `MHGD` and the softmax in `kld_loss`.
    Differs from the original in: nothing. The paper's poster has no smoothing.

    Args:
      logits: of the student's or the teacher's vectors, [A, B, B_all].
      teacher_logits: of the teacher's, for the same rows and columns, [A, B, B_all].
      smoothing: one of `SMOOTHINGS`.

    Returns:
      [A, B, B_all].
    """
    return jnp.exp(_log_graph(logits, teacher_logits, smoothing))


def graph_divergence(
    student_logits: jax.Array, teacher_logits: jax.Array, *, smoothing: str = "tanh"
) -> jax.Array:
    """KL(student's graph || teacher's graph), row by row.

    Relates the images of a batch: a row compares one image with all the columns, of
    this device or gathered over all devices.

    Original: `kld_loss`.
    Differs from the original in: one value an example, where the original sums over the
    rows too, so that its loss grows with the batch.

    Args:
      student_logits: of the attention network, [A, B, B_all].
      teacher_logits: of the same shape.
      smoothing: one of `SMOOTHINGS`.

    Returns:
      Sums over heads and columns, in nats, [B].

    Raises:
      ValueError: if the shapes differ or the smoothing is unknown.
    """
    require_equal_shapes("graph_divergence", student_logits, teacher_logits)
    if smoothing not in SMOOTHINGS:
        raise ValueError(
            f"graph_divergence: smoothing={smoothing!r} is none of {sorted(SMOOTHINGS)}"
        )
    student_logits, teacher_logits = promote(student_logits, teacher_logits)
    # In logarithms, since without smoothing an edge may be as good as 0.
    student = _log_graph(student_logits, teacher_logits, smoothing)
    teacher = _log_graph(teacher_logits, teacher_logits, smoothing)
    return jnp.sum(jnp.exp(student) * (student - teacher), axis=(0, 2))
