"""Checks abstractly that methods support a teacher-student pair."""

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax

from kdjax.distill import declared, heads
from kdjax.distill.method import Method, Outputs
from kdjax.distill.shapes import outputs


class Named(NamedTuple):
    """A network and the name by which it was built."""

    name: str
    network: nn.Module


def check(
    methods: Mapping[str, Method],
    *,
    teacher: Named | None,
    student: Named,
    image_shape: tuple[int, int, int],
    teacher_logits: bool = True,
) -> None:
    """Rejects methods that cannot join two networks.

    Args:
      methods: by the names of their terms.
      teacher: network that teaches; None if no method needs one.
      student: network that learns, without the head that a method brings.
      image_shape: [H, W, 3].
      teacher_logits: whether the methods are given the teacher's.

    Raises:
      ValueError: names the method and says why.
    """
    student_network = heads.with_head(
        student.network, methods, image_shape, teacher and teacher.network
    )
    student_outputs = outputs(student_network, image_shape)
    teacher_outputs = teacher and outputs(teacher.network, image_shape)
    if teacher_outputs and not teacher_logits:
        teacher_outputs = teacher_outputs._replace(logits=None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for name, method in methods.items():
        taught = teacher_outputs and declared.outputs(method, name, teacher_outputs)
        if method.needs_teacher:
            method.check_teacher(teacher.name)
        if method.needs_classifier or method.takes_from_teacher:
            ends = {student.name: student_outputs}
            if teacher:
                ends[teacher.name] = teacher_outputs
            _require_classifiers(method, ends)
        if method.needs_distillation_token and not student_outputs.features.heads:
            raise ValueError(
                f"methods.{name} needs a student with a distillation token: a vision "
                "transformer whose name ends in '_distilled', as deit_tiny_distilled"
            )
        if method.needs_rotations and image_shape[0] != image_shape[1]:
            raise ValueError(
                f"methods.{name} turns images by 90 degrees, and needs as many rows as "
                f"columns, but these have {image_shape[0]}x{image_shape[1]} pixels"
            )
        if method.pretrains:
            jax.eval_shape(lambda key, m=method, t=taught: m.pretrain_init(key, t), key)
        jax.eval_shape(
            lambda key, m=method, t=taught: m.init(key, student_outputs, t), key
        )


def _require_classifiers(method: Method, networks: Mapping[str, Outputs]) -> None:
    """Rejects networks, given by name, that do not end in a linear layer."""
    for name, found in networks.items():
        if found.classifier is None:
            raise ValueError(
                f"methods.{method.name} reads the classifiers, but {name} does not end "
                "in a linear layer `classifier`"
            )
