"""Distances d between a student's and a teacher's transformed features.

All are pure and have the form `(student, teacher, *, hyperparameters) -> [B]`: one
value an example, not reduced over the batch, not weighted, with no gradient stopped.
"""

import jax
import jax.numpy as jnp


def partial_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences, except where student <= teacher <= 0.

    There both responses vanish in the ReLU that follows, and the student is free.
    The value jumps only where the teacher crosses zero above a negative student.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019),
    d_p(T, S); original: `distiller.py`, `distillation_loss`.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too.

    Args:
      student: connected features, [B, ...].
      teacher: features after the margin ReLU, of the same shape.

    Returns:
      Sums over all axes but the first, [B], accumulated in float32 or wider whatever
      the type of the features: they reach 1e5.

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("partial_l2", student, teacher)
    counts = (student > teacher) | (teacher > 0)
    square = jnp.where(counts, jnp.square(student - teacher), 0)
    return jnp.sum(square, axis=tuple(range(1, square.ndim)))


def l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("l2", student, teacher)
    return jnp.sum(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def mean_squared(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages squared differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("mean_squared", student, teacher)
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def l1(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages absolute differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("l1", student, teacher)
    return jnp.mean(jnp.abs(student - teacher), axis=tuple(range(1, student.ndim)))


def activation_boundary(
    student: jax.Array, teacher: jax.Array, *, margin: float = 1.0
) -> jax.Array:
    """Sums squares of what the student lacks to be on the teacher's side of zero.

    Where the teacher's neuron is active the student's response is to reach the margin,
    elsewhere to stay below minus the margin: max(margin -+ student, 0)^2.

    Source: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries
    Formed by Hidden Neurons" (AAAI 2019); original: bhheo/AB_distillation,
    `criterion_alternative_L2`.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too.

    Args:
      student: connected features before their ReLU, [B, ...].
      teacher: features of the same shape; only whether they are positive is seen.
      margin: mu of the paper.

    Returns:
      Sums over all axes but the first, [B], in float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("activation_boundary", student, teacher)
    lacking = margin + jnp.where(teacher > 0, -student, student)
    square = jnp.square(jnp.maximum(lacking, 0))
    return jnp.sum(square, axis=tuple(range(1, square.ndim)))


def polynomial_mmd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Measures how two sets of channels differ, by the kernel k(x, y) = (x . y)^2.

    The squared maximum mean discrepancy, mean k(t, t) + mean k(s, s) - 2 mean k(s, t)
    over all pairs of channels: it compares sets, so that neither their order nor their
    size has to agree. In float32 rounding can leave it as little as 1e-7 below zero.

    Source: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron
    Selectivity Transfer" (2017), with the polynomial kernel of d = 2 and c = 0; as
    in RepDistiller, `NSTLoss`.
    Differs from the original in: nothing.

    Args:
      student: channels as vectors over space, [B, ..., C_student].
      teacher: likewise, [B, ..., C_teacher].

    Returns:
      [B], in float32 or wider.

    Raises:
      ValueError: if the shapes without the last axis differ.
    """
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"polynomial_mmd: student {student.shape} and teacher {teacher.shape} "
            "differ in more than channels"
        )
    student, teacher = (
        x.reshape(len(x), -1, x.shape[-1]) for x in _promoted(student, teacher)
    )

    def mean_kernel(x: jax.Array, y: jax.Array) -> jax.Array:
        # A difference of means of these is returned: short products would spoil it.
        products = jnp.einsum("bnc,bnd->bcd", x, y, precision=jax.lax.Precision.HIGHEST)
        return jnp.mean(jnp.square(products), axis=(1, 2))

    of_teacher = mean_kernel(teacher, teacher)
    student_objective = mean_kernel(student, student)
    return of_teacher + student_objective - 2 * mean_kernel(student, teacher)


def _wide(
    name: str, student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns both in float32 or wider; raises a ValueError if the shapes differ."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} differ"
        )
    return _promoted(student, teacher)


def _promoted(student: jax.Array, teacher: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = jnp.promote_types(jnp.result_type(student, teacher), jnp.float32)
    return student.astype(wide), teacher.astype(wide)


#: Distances that need nothing but the two, by the name used in `distance`.
DISTANCES = {
    "partial_l2": partial_l2,
    "l2": l2,
    "mean_squared": mean_squared,
    "l1": l1,
    "activation_boundary": activation_boundary,
    "polynomial_mmd": polynomial_mmd,
}
