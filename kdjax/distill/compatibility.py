"""Checks abstractly that methods support a teacher-student pair."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from kdjax import models
from kdjax.distill import declared
from kdjax.distill.method import Method, Outputs
from kdjax.forward import classifier_of


@functools.cache
def outputs(name: str, num_classes: int, image_shape: tuple[int, int, int]) -> Outputs:
    """Returns the shapes and types of a network's outputs on one image.

    Raises:
      ValueError: if there is no such network, or none for such images.
    """
    network = models.build(name, num_classes)
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    return Outputs(*found, classifier=classifier_of(variables["params"]))


def check(
    methods: Mapping[str, Method],
    *,
    teacher: str | None,
    student: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    teacher_logits: bool = True,
) -> None:
    """Rejects methods that cannot join two networks.

    Args:
      methods: by the names of their terms.
      teacher: name of the network; None if no method needs one.
      student: name of the network.
      num_classes: size of the logits.
      image_shape: [H, W, 3].
      teacher_logits: whether the methods are given the teacher's.

    Raises:
      ValueError: names the method and says why; or a network cannot be built.
    """
    student_outputs = outputs(student, num_classes, image_shape)
    teacher_outputs = teacher and outputs(teacher, num_classes, image_shape)
    if teacher_outputs and not teacher_logits:
        teacher_outputs = teacher_outputs._replace(logits=None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for name, method in methods.items():
        taught = teacher_outputs and declared.outputs(method, name, teacher_outputs)
        if method.needs_teacher:
            method.check_teacher(teacher)
        if method.needs_classifier:
            _require_classifiers(
                method, {teacher: teacher_outputs, student: student_outputs}
            )
        if method.pretrains:
            jax.eval_shape(lambda key, m=method, t=taught: m.pretrain_init(key, t), key)
        jax.eval_shape(
            lambda key, m=method, t=taught: m.init(key, student_outputs, t), key
        )


def _require_classifiers(
    method: Method, networks: Mapping[str | None, Outputs | None]
) -> None:
    """Rejects networks, given by name, that do not end in a linear layer."""
    for name, found in networks.items():
        if found and found.classifier is None:
            raise ValueError(
                f"methods.{method.name} reads the classifiers, but {name} does not end "
                "in a linear layer `classifier`"
            )
