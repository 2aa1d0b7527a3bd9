"""Losses and gradients of each training phase.

Every objective is pure and sees one device's part of a batch.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax import method_terms, rngs, task
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import Inputs, Method, Outputs, declared, heads
from kdjax.distill.gradients import BY_TERM, SUM
from kdjax.distill.gradients.momenta import TASK
from kdjax.forward import student_outputs, teacher_outputs
from kdjax.method_terms import Terms


class Frozen(NamedTuple):
    """What a step reads and never changes.

    Attributes:
      teacher: the teacher's variables; None without a teacher.
      precomputed: what each method computed from the teacher before training, and under
        `pretrained` what it learned on the teacher.
    """

    teacher: Any = None
    precomputed: Mapping[str, Any] = {}


class Gradients(NamedTuple):
    """Losses and gradients of one batch.

    Attributes:
      summed: gradient of the losses that are added up; a tree like the parameters.
      by_rule: gradients of the other losses, each of the methods of one rule, by its
        name in `gradients.RULES`, or of one term of a method, as "deepkd/target_class";
        trees of the same structure.
      loss: sum of all losses, a scalar.
      batch_stats: new running statistics, and under `method_state` the methods' new
        states.
      values: by name one value an example, [B]: the terms of the loss, without their
        method's weight, and `accuracy`.
    """

    summed: Any
    by_rule: dict[str, Any]
    loss: jax.Array
    batch_stats: dict[str, Any]
    values: Terms


class Objective(Protocol):
    """Computes losses and gradients of a batch."""

    def __call__(
        self,
        params: Any,
        batch_stats: Any,
        frozen: Frozen,
        batch: Batch,
        key: jax.Array,
        epoch: jax.Array,
        progress: jax.Array | float = 0.0,
    ) -> Gradients:
        """Computes them at the start of a step.

        Args:
          params: of everything that learns.
          batch_stats: running statistics and states of methods.
          frozen: what never changes.
          batch: one device's part.
          key: randomness of the step.
          epoch: complete epochs of the phase.
          progress: fraction of the phase's steps that are done.
        """


def student_objective(
    student: nn.Module,
    teacher: nn.Module | None,
    methods: Mapping[str, Method],
    *,
    teacher_train: bool,
    task_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Objective:
    """Builds the student's objective: cross-entropy and the methods' terms.

    The student's forward pass runs once. The losses see its outputs only, so that a
    rule by which gradients meet costs a second backward pass of the network and nothing
    of the losses.

    Where there is a second view of each image, both networks see it after the first,
    and the cross-entropies of both views are added up. Where a method asks for
    rotations, both networks see them in one pass with the upright images, whose
    cross-entropy alone counts.

    Where a method trains the classifier of a distillation token, the cross-entropy is
    that of the other classifier; else that of the logits, as the accuracy always is.

    Where images are mixed, cross-entropy and accuracy are mixtures of those of the two
    classes. Both networks see the mixed images, and the methods must not need labels.

    Args:
      student: the network that learns.
      teacher: the network that it learns from; None if no method needs one.
      methods: terms of the loss by name.
      teacher_train: the teacher's batch norms use the statistics of the batch.
      task_weight: weight of the cross-entropy. With 0 there is no task gradient to
        meet, and all gradients are added up.
      label_smoothing: of the cross-entropy, see `task.cross_entropy`.
    """
    parts = _parts(methods, task_weight)
    first_head = any(x.needs_distillation_token for x in methods.values())
    adds = parts.pop(SUM, _Part({}))
    answer = functools.partial(_answer, student, teacher, methods, teacher_train)

    def objective(params, batch_stats, frozen, batch, key, epoch, progress=0.0):
        outputs, pull_back, student_stats, taught = answer(
            params["student"], batch_stats["student"], frozen.teacher, batch, key
        )
        step = _Step(
            *(batch_stats, frozen, taught, batch, key, epoch, progress),
            label_smoothing,
            first_head,
        )
        gradients = functools.partial(
            _gradients, outputs, pull_back, params["methods"], step=step
        )
        summed, loss, terms, stats = gradients(adds, task_weight=task_weight)
        others = {}
        for name, part in parts.items():
            others[name], more, more_terms, more_stats = gradients(part)
            loss, terms, stats = loss + more, terms | more_terms, stats | more_stats
        stats = {"student": student_stats, **method_terms.updated(batch_stats, stats)}
        terms = {"accuracy": task.accuracy(outputs.logits, batch), **terms}
        return Gradients(summed, others, loss, stats, terms)

    return objective


def _answer(
    student: nn.Module,
    teacher: nn.Module | None,
    methods: Mapping[str, Method],
    teacher_train: bool,
    params: Any,
    batch_stats: Any,
    teacher_variables: Any,
    batch: Batch,
    key: jax.Array,
) -> tuple[Outputs, Callable, Any, Outputs | None]:
    """Applies both networks, with what methods need of them.

    What the student drops depends on the step and on the first example of the device.

    A second view is seen after the first, whose new running statistics it moves on.

    Returns:
      The student's outputs; the function from their gradient to that of its parameters;
      its new running statistics; and the teacher's outputs, None without a teacher.
    """
    input_gradient, classifier, rotations = (
        any(getattr(method, need) for method in methods.values())
        for need in ("needs_input_gradient", "needs_classifier", "needs_rotations")
    )
    asked = {
        "label": batch.label if input_gradient else None,
        "classifier": classifier,
        "rotations": rotations,
    }
    taken = heads.taken_from_teacher(methods)

    def see(name: str, image: jax.Array, params: Any, batch_stats: Any):
        drop_key = jax.random.fold_in(rngs.fold_in_name(key, name), batch.index[0])
        return student_outputs(
            student, batch_stats, image, params, key=drop_key, **asked
        )

    def apply(params):
        kept = {name: jax.lax.stop_gradient(params[name]) for name in taken}
        params = params | kept
        outputs, stats = see("student", batch.image, params, batch_stats)
        if batch.second_image is not None:
            second, stats = see("second_view", batch.second_image, params, stats)
            outputs = outputs._replace(second_view=second)
        return outputs, stats

    outputs, pull_back, stats = jax.vjp(apply, params, has_aux=True)
    if teacher is None or not methods:
        return outputs, pull_back, stats, None
    teach = functools.partial(
        teacher_outputs, teacher, teacher_variables, train=teacher_train, **asked
    )
    taught = teach(batch.image)
    if batch.second_image is not None:
        taught = taught._replace(second_view=teach(batch.second_image))
    return outputs, pull_back, stats, taught


class _Part(NamedTuple):
    """Methods whose losses are added up before they meet others.

    Attributes:
      methods: by name.
      term: the only one of their terms that counts; None for all.
    """

    methods: dict[str, Method]
    term: str | None = None


def _parts(methods: Mapping[str, Method], task_weight: float) -> dict[str, _Part]:
    """Groups the methods by the rule of their gradients, or by their terms."""
    found: dict[str, _Part] = {}
    for name, method in methods.items():
        rule = method.gradient_combination if task_weight else SUM
        if rule == BY_TERM:
            for term in method.momentum_deltas:
                if term != TASK:
                    found[f"{name}/{term}"] = _Part({name: method}, term)
        else:
            found.setdefault(rule, _Part({})).methods[name] = method
    return found


class _Step(NamedTuple):
    """What the losses of one step depend on besides the student's outputs."""

    batch_stats: dict[str, Any]
    frozen: Frozen
    teacher: Outputs | None
    batch: Batch
    key: jax.Array
    epoch: jax.Array
    progress: jax.Array | float
    label_smoothing: float
    first_head: bool


def _gradients(
    outputs: Outputs,
    pull_back: Callable,
    learned: Any,
    part: _Part,
    *,
    step: _Step,
    task_weight: float | None = None,
) -> tuple[Any, jax.Array, Terms, dict[str, Any]]:
    """Returns the gradient of some losses, their sum, terms and new statistics.

    Args:
      outputs: the student's.
      pull_back: from their gradient to that of the student's parameters.
      learned: parameters of the methods.
      part: the methods whose losses are added up.
      step: what else the losses depend on.
      task_weight: weight of the cross-entropy; None leaves it out.
    """
    (loss, (terms, stats)), (outputs_gradient, learned) = jax.value_and_grad(
        _losses, argnums=(0, 1), has_aux=True
    )(outputs, learned, part, step=step, task_weight=task_weight)
    (network,) = pull_back(outputs_gradient)
    return {"student": network, "methods": learned}, loss, terms, stats


def _losses(
    student: Outputs,
    learned: Any,
    part: _Part,
    *,
    step: _Step,
    task_weight: float | None,
) -> tuple[jax.Array, tuple[Terms, dict[str, Any]]]:
    """Adds up the terms of some methods, and the cross-entropy unless it has no weight.

    Returns:
      The loss, a scalar; its terms, [B] each, and the methods' new statistics.
    """
    loss, terms, stats = jnp.zeros((), student.logits.dtype), {}, {}
    if task_weight is not None:
        views = {"cross_entropy": student}
        if student.second_view is not None:
            views["second_cross_entropy"] = student.second_view
        for name, view in views.items():
            terms[name] = task.cross_entropy(
                view.features.heads[0] if step.first_head else view.logits,
                step.batch,
                label_smoothing=step.label_smoothing,
            )
            loss += task_weight * jnp.mean(terms[name])
    for name, method in part.methods.items():
        found, stats[name] = method.loss(
            method_terms.variables(learned, step.batch_stats, name),
            step.frozen.precomputed[name],
            declared.outputs(method, name, student),
            step.teacher and declared.outputs(method, name, step.teacher),
            declared.inputs(
                method, name, _inputs(step, name), mixed=step.batch.mixed is not None
            ),
        )
        counted = found if part.term is None else {part.term: found[part.term]}
        loss += method_terms.weight(method, step.epoch) * method_terms.total(counted)
        terms |= method_terms.named(name, found)
    return loss, (terms, stats)


def pretraining_objective(
    teacher: nn.Module, methods: Mapping[str, Method], *, teacher_train: bool
) -> Objective:
    """Builds the objective of what the methods learn on the teacher alone.

    Nothing here reads a label, so that mixed images need no special treatment.

    Args:
      teacher: the trained network.
      methods: those that pretrain, by name.
      teacher_train: the teacher's batch norms use the statistics of the batch.
    """

    def objective(params, batch_stats, frozen, batch, key, epoch, progress=0.0):
        del epoch, progress
        outputs = teacher_outputs(
            teacher,
            frozen.teacher,
            batch.image,
            train=teacher_train,
            rotations=any(method.needs_rotations for method in methods.values()),
        )

        def losses(learned):
            loss, terms, stats = 0, {}, {}
            for name, method in methods.items():
                found, stats[name] = method.pretrain_loss(
                    method_terms.variables(learned, batch_stats, name),
                    rngs.fold_in_name(key, name),
                    declared.outputs(method, name, outputs),
                )
                loss += method_terms.total(found)
                terms |= method_terms.named(name, found)
            return loss, (terms, stats)

        (loss, (terms, stats)), gradient = jax.value_and_grad(losses, has_aux=True)(
            params["methods"]
        )
        stats = method_terms.updated(batch_stats, stats)
        return Gradients({"methods": gradient}, {}, loss, stats, terms)

    return objective


def _inputs(step: _Step, name: str) -> Inputs:
    """Returns what a method sees of a step; its key depends on its name."""
    batch, key = step.batch, rngs.fold_in_name(step.key, name)
    when = step.epoch, step.progress
    return Inputs(batch.image, batch.label, batch.index, key, *when, batch.second_image)
