"""SSKD: Xu et al., "Knowledge Distillation Meets Self-Supervision" (ECCV 2020).

The teacher teaches on transformed images too, by its logits and by how similar their
embeddings are to those of the images that they were made of; some of its errors are
left out. Original: xuguodong03/SSKD, `student.py`, where images are rotated.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.losses.labels import of_target
from kdjax.losses.numerics import l2_normalize, promote, require_equal_shapes
from kdjax.losses.relations import gather, global_index, matmul
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)


def error_level(scores: jax.Array, target: jax.Array) -> jax.Array:
    """Counts the entries that are larger than that of the target.

    Source: the paper's error level; original: `rank`.
    Differs from the original in: entries as large as the target's do not count; there
    their order is left to the sorting.

    Args:
      scores: one for each candidate, [N, K].
      target: the right candidate, [N] integers.

    Returns:
      [N] integers, 0 where the target has the largest score.
    """
    return jnp.sum(scores > of_target(scores, target)[:, None], axis=1)


def selection_weights(
    level: jax.Array, *, kept: float, axis_name: str | None = None
) -> jax.Array:
    """Weighs values so that their mean is that of a selection.

    Selected are all values of level 0, and of the others, in the order of their levels,
    the part `kept`, rounded down.

    Source: the paper's selective transfer; original: `distill_index_tf` and
    `distill_index_ss`.
    Differs from the original in: among equal levels the first of the batch are
    selected, there those that the sorting puts first; if none is selected all weights
    are 0, where the mean of the original is not a number.

    Args:
      level: of each value's error, [N] integers.
      kept: part of the values whose level is not 0, from 0 to 1.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [N]: the number of all values over that of the selected, or 0.
    """
    everyone = gather(level, axis_name)
    size = len(everyone)
    wrong = jnp.sum(everyone > 0)
    # Rounded in double precision, as Python does it.
    rounded_down = (np.arange(size + 1) * kept).astype(np.int32)
    selected = size - wrong + jnp.asarray(rounded_down)[wrong]
    place = jnp.argsort(jnp.argsort(everyone))[global_index(len(level), axis_name)]
    return jnp.where(place < selected, size / selected, 0)


def rotation_kd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array | None = None,
    *,
    temperature: float = 4.0,
    kept: float = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Averages T^2 KL(softmax(teacher / T) || softmax(student / T)) over rotations.

    Of the rotated images that the teacher takes for another class, the part `kept`
    counts, those first in which fewest classes are before the true one.

    Source: the original's `loss3`.
    Differs from the original in: what `error_level` and `selection_weights` say.

    Args:
      student_logits: of R rotations of each image, [B, R, K].
      teacher_logits: the same.
      label: true classes, [B] integers; None if all are kept.
      temperature: T, by which the logits are divided.
      kept: part of the rotated images that the teacher gets wrong.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B] in nats, float32 or wider; the mean of the batch is that of the selection.

    Raises:
      ValueError: if shapes or the temperature are wrong, or there is no label by which
        a part is to be kept.
    """
    _require_rotations("rotation_kd", student_logits, teacher_logits)
    require_equal_shapes("rotation_kd", student_logits, teacher_logits)
    require_positive_temperature("rotation_kd", temperature)
    student, teacher = (
        log_softmax(x, temperature=temperature)
        for x in (student_logits, teacher_logits)
    )
    divergence = temperature**2 * kl_divergence(student, teacher)
    if kept == 1:
        return jnp.mean(divergence, axis=1)
    if label is None:
        raise ValueError(f"rotation_kd: kept={kept} needs labels")
    rotations = student_logits.shape[1]
    level = error_level(_flat(teacher_logits), jnp.repeat(label, rotations))
    weights = selection_weights(level, kept=kept, axis_name=axis_name)
    return jnp.mean(weights.reshape(divergence.shape) * divergence, axis=1)


def similarities(
    rotated: jax.Array, upright: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Computes the cosines between rotated images and the upright ones of the batch.

    Source: the original's `s_simi` and `t_simi`.
    Differs from the original in: cosines with a vector of zeros have a gradient of
    zero.

    Args:
      rotated: embeddings of R rotations of each image, [B, R, C].
      upright: embeddings of the images, [B, C].
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B R, B_all], float32 or wider.
    """
    rotated, upright = promote(_flat(rotated), upright)
    everyone = gather(l2_normalize(upright), axis_name)
    return matmul(l2_normalize(rotated), everyone.T)


def similarity_kd(
    student: tuple[jax.Array, jax.Array],
    teacher: tuple[jax.Array, jax.Array],
    *,
    temperature: float = 0.5,
    kept: float = 0.75,
    axis_name: str | None = None,
) -> jax.Array:
    """Averages T^2 KL(softmax(teacher / T) || softmax(student / T)) of similarities.

    A rotated image's similarities are those to all upright images. Of those to which
    another image's is more similar than their own, in the teacher, the part `kept`
    counts, those first to which fewest are.

    Source: the original's `loss4`.
    Differs from the original in: what `similarities`, `error_level` and
    `selection_weights` say.

    Args:
      student: embeddings of the images and of R rotations of each, [B, C], [B, R, C].
      teacher: the same; C may differ.
      temperature: T, by which the similarities are divided.
      kept: part of the rotated images that the teacher gets wrong.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B] in nats, float32 or wider; the mean of the batch is that of the selection.

    Raises:
      ValueError: if shapes or the temperature are wrong.
    """
    _require_rotations("similarity_kd", student[1], teacher[1])
    require_positive_temperature("similarity_kd", temperature)
    of_student, of_teacher = (
        similarities(rotated, upright, axis_name=axis_name)
        for upright, rotated in (student, teacher)
    )
    batch, rotations = student[1].shape[:2]
    own = jnp.repeat(global_index(batch, axis_name), rotations)
    level = error_level(of_teacher, own)
    weights = selection_weights(level, kept=kept, axis_name=axis_name)
    divergence = temperature**2 * kl_divergence(
        *(log_softmax(x, temperature=temperature) for x in (of_student, of_teacher))
    )
    return jnp.mean((weights * divergence).reshape(batch, rotations), axis=1)


def rotation_contrast(
    upright: jax.Array,
    rotated: jax.Array,
    *,
    temperature: float = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Averages the cross-entropies by which a rotated image finds the upright one.

    Source: the original's loop that trains the teacher's head, under `ssp_head`.
    Differs from the original in: what `similarities` says.

    Args:
      upright: embeddings of the images, [B, C].
      rotated: of R rotations of each, [B, R, C].
      temperature: by which the similarities are divided; the original has none.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if the temperature is not positive.
    """
    require_positive_temperature("rotation_contrast", temperature)
    batch, rotations = rotated.shape[:2]
    log_p = log_softmax(
        similarities(rotated, upright, axis_name=axis_name), temperature=temperature
    )
    own = jnp.repeat(global_index(batch, axis_name), rotations)
    return -jnp.mean(of_target(log_p, own).reshape(batch, rotations), axis=1)


def _flat(x: jax.Array) -> jax.Array:
    """Returns the rotations of all images, [B R, K] for [B, R, K]."""
    return x.reshape(-1, x.shape[-1])


def _require_rotations(name: str, student: jax.Array, teacher: jax.Array) -> None:
    """Raises a ValueError unless both are [B, R, ...] of one B and R."""
    if student.ndim != 3 or teacher.ndim != 3 or student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} are not "
            "rotations of one batch, [B, R, ...]"
        )
