"""CC: Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019).

Compares correlations between the embeddings of a batch: in the form of
HobbitLong/RepDistiller, `Correlation`, and in the paper's, whose kernel is that of
yoshitomo-matsubara/torchdistill, `CCKDLoss`.
"""

import math

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote, require_equal_shapes
from kdjax.losses.relations import gather, global_index, matmul, require_vectors


def correlation_congruence(
    student: jax.Array, teacher: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Sums d_i d_(i+1), d = |student - teacher|, over entries, of successive examples.

    Source: RepDistiller, `Correlation`.
    Differs from the original in: nothing. The last example of the batch has no
    successor and the value 0; the factor B / (B - 1) of the others makes the mean that
    of B - 1 terms. With an axis, the successor of a device's last example is the next
    device's first.

    Args:
      student: embeddings, [B, C].
      teacher: embeddings, [B, C].
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ or are not [B, C].
    """
    require_vectors("correlation_congruence", student, teacher)
    require_equal_shapes("correlation_congruence", student, teacher)
    student, teacher = promote(student, teacher)
    difference = jnp.abs(student - teacher)
    everyone = gather(difference, axis_name)
    size = len(everyone)
    index = global_index(len(difference), axis_name)
    product = jnp.sum(difference * everyone[(index + 1) % size], axis=1)
    factor = jnp.where(index == size - 1, 0, size / max(size - 1, 1))
    return factor.astype(product.dtype) * product


def gaussian_kernel(
    x: jax.Array, y: jax.Array, *, gamma: float, order: int
) -> jax.Array:
    """Approximates exp(-gamma |x - y|^2) of vectors of length 1 by a Taylor series.

    Source: the paper's section 3.3; as in torchdistill,
    `CCKDLoss.compute_cc_mat_by_gaussian_rbf`.
    Differs from the original in: the vectors are scaled to length 1 here, which the
    series needs and torchdistill leaves to its caller.

    Args:
      x: [B, C].
      y: [B_all, C].
      gamma: inverse width.
      order: last power of the series.

    Returns:
      [B, B_all].
    """
    cosine = matmul(l2_normalize(x), l2_normalize(y).T)
    series = sum(
        (2 * gamma) ** power / math.factorial(power) * cosine**power
        for power in range(order + 1)
    )
    return math.exp(-2 * gamma) * series


def correlation_congruence_kernel(
    student: jax.Array,
    teacher: jax.Array,
    *,
    gamma: float = 0.4,
    order: int = 2,
    axis_name: str | None = None,
) -> jax.Array:
    """Averages the squared differences of Gaussian kernels between a batch's examples.

    Source: the paper's equation 7; as in torchdistill, `CCKDLoss`.
    Differs from the original in: the sum of squares is divided by B^2 as in the paper,
    where torchdistill takes its root; what `gaussian_kernel` says.

    Args:
      student: embeddings, [B, C].
      teacher: embeddings, [B, C'].
      gamma: inverse width of the kernel.
      order: last power of the kernel's series.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the features are not vectors of one batch.
    """
    require_vectors("correlation_congruence_kernel", student, teacher)
    student, teacher = (
        gaussian_kernel(x, gather(x, axis_name), gamma=gamma, order=order)
        for x in promote(student, teacher)
    )
    return jnp.mean(jnp.square(student - teacher), axis=1)
