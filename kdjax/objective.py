"""What a batch asks of the parameters: the losses of each phase and their gradients.

Every objective is pure and sees one device's share of a batch.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax.data.augment import mixup
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import Inputs, Method, Outputs


class Frozen(NamedTuple):
    """What a step reads and never changes.

    Attributes:
      teacher: the teacher's variables; None without a teacher.
      precomputed: what each method computed from the teacher, and under `pretrained`
        what it learned on the teacher.
    """

    teacher: Any = None
    precomputed: Mapping[str, Any] = {}


class Demand(NamedTuple):
    """What a batch asks of the parameters, and what was measured on the way.

    Attributes:
      gradient: of the losses that are added up; a tree like the parameters.
      clipped: gradient of the losses whose gradient is clipped to the student's first;
        None if there are none.
      loss: sum of all losses, a scalar.
      batch_stats: new running statistics.
      values: by name one value an example, [B]: terms of the loss, not weighted by
        their method's weight, and `accuracy`.
    """

    gradient: Any
    clipped: Any
    loss: jax.Array
    batch_stats: dict[str, Any]
    values: dict[str, jax.Array]


#: `(params, batch_stats, frozen, batch, key, epoch) -> Demand`, with the key of the
#: step and the epochs before it.
Objective = Callable[[Any, Any, Frozen, Batch, jax.Array, jax.Array], Demand]


def forward(
    network: nn.Module,
    variables: Mapping[str, Any],
    image: jax.Array,
    *,
    train: bool,
    label: jax.Array | None = None,
) -> tuple[Outputs, Any]:
    """Applies a network to images.

    Args:
      network: from `models.build`.
      variables: its `params` and `batch_stats`.
      image: [B, H, W, 3].
      train: batch norms use the statistics of the batch.
      label: classes whose logits are to be differentiated by the images, [B]; None
        leaves that out.

    Returns:
      Outputs and new `batch_stats`.
    """
    if label is not None:

        def true_logits(image):
            outputs, stats = forward(network, variables, image, train=train)
            own = jnp.take_along_axis(outputs.logits, label[:, None], 1)
            return jnp.sum(own), (outputs, stats)

        gradient, (outputs, stats) = jax.grad(true_logits, has_aux=True)(image)
        return outputs._replace(input_gradient=gradient), stats
    if not train:
        return Outputs(*network.apply(variables, image, train=False)), None
    outputs, updates = network.apply(
        variables, image, train=True, mutable=["batch_stats"]
    )
    # A network without batch norms has none.
    return Outputs(*outputs), updates.get("batch_stats", {})


def _teacher_outputs(
    teacher: nn.Module,
    frozen: Frozen,
    image: jax.Array,
    *,
    train: bool,
    label: jax.Array | None = None,
) -> Outputs:
    # The teacher's running statistics go nowhere, and neither does a gradient.
    outputs, _ = forward(teacher, frozen.teacher, image, train=train, label=label)
    return jax.lax.stop_gradient(outputs)


def _variables(params: Any, batch_stats: Any, name: str) -> dict[str, Any]:
    """Returns what a method learns, by collection."""
    return {
        "params": params["methods"][name],
        "batch_stats": batch_stats["methods"][name],
    }


def _weight(method: Method, epoch: jax.Array) -> float | jax.Array:
    """Returns the factor on a method's terms in an epoch, counted from 0."""
    if not method.warm_up:
        return method.weight
    return method.weight * jnp.minimum((epoch + 1) / method.warm_up, 1)


def student_objective(
    student: nn.Module,
    teacher: nn.Module | None,
    methods: Mapping[str, Method],
    *,
    teacher_train: bool,
    task_weight: float = 1.0,
) -> Objective:
    """Builds the objective of the student: the task and the methods' terms.

    The student's forward pass is run once. Its outputs are all that the losses see, so
    that a second way for gradients to meet costs a second backward pass of the network
    and nothing of the losses.

    Where images are mixed, cross-entropy and accuracy are mixtures of those by the two
    classes. Both networks see the mixed images, and the methods must not need labels.

    Args:
      student: the network that learns.
      teacher: the network it learns from; None if no method needs one.
      methods: terms of the loss by name.
      teacher_train: batch norms of the teacher use the statistics of the batch.
      task_weight: factor on the cross-entropy. With 0 there is no gradient to clip to,
        and all methods' gradients are added up.
    """
    combinations = {
        name: method.combination if task_weight else "sum"
        for name, method in methods.items()
    }
    input_gradient = any(method.needs_input_gradient for method in methods.values())

    def objective(params, batch_stats, frozen, batch, key, epoch):
        label = batch.label if input_gradient else None

        def student_outputs(student_params):
            variables = {
                "params": student_params,
                "batch_stats": batch_stats["student"],
            }
            return forward(student, variables, batch.image, train=True, label=label)

        ours, pull_back, student_stats = jax.vjp(
            student_outputs, params["student"], has_aux=True
        )
        theirs = None
        if teacher is not None and methods:
            theirs = _teacher_outputs(
                teacher, frozen, batch.image, train=teacher_train, label=label
            )
        keys = dict(zip(methods, jax.random.split(key, len(methods)), strict=True))
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels

        def losses(ours, learned, combination):
            """Adds up the losses whose gradients meet in one way."""
            loss, terms, stats = jnp.zeros((), ours.logits.dtype), {}, {}
            if combination == "sum":
                terms["cross_entropy"] = mixup.mixed_loss(
                    functools.partial(cross_entropy, ours.logits),
                    batch.label,
                    batch.mixed,
                )
                loss += task_weight * jnp.mean(terms["cross_entropy"])
            for name, method in methods.items():
                if combinations[name] != combination:
                    continue
                found, stats[name] = method.loss(
                    _variables({"methods": learned}, batch_stats, name),
                    frozen.precomputed[name],
                    ours,
                    theirs,
                    Inputs(batch.image, batch.label, batch.index, keys[name]),
                )
                total = sum(jnp.mean(term) for term in found.values())
                loss += _weight(method, epoch) * total
                terms |= {f"{name}/{term}": value for term, value in found.items()}
            return loss, (terms, stats)

        def demand(combination):
            """Returns the losses' gradient, value, terms and statistics."""
            (loss, (terms, stats)), (outputs, learned) = jax.value_and_grad(
                losses, argnums=(0, 1), has_aux=True
            )(ours, params["methods"], combination)
            (network,) = pull_back(outputs)
            return {"student": network, "methods": learned}, loss, terms, stats

        gradient, loss, terms, method_stats = demand("sum")
        clipped = None
        if "clip" in combinations.values():
            clipped, more, more_terms, more_stats = demand("clip")
            loss, terms = loss + more, terms | more_terms
            method_stats |= more_stats
        prediction = jnp.argmax(ours.logits, -1)
        right = mixup.mixed_loss(
            functools.partial(jnp.equal, prediction), batch.label, batch.mixed
        )
        return Demand(
            gradient,
            clipped,
            loss,
            {"student": student_stats, "methods": method_stats},
            {"accuracy": right, **terms},
        )

    return objective


def pretraining_objective(
    teacher: nn.Module, methods: Mapping[str, Method], *, teacher_train: bool
) -> Objective:
    """Builds the objective of what the methods learn on the teacher alone.

    Nothing here reads a label, so mixed images are images like any other: those on
    which the student is to be compared with the teacher.

    Args:
      teacher: the trained network.
      methods: those that pretrain, by name.
      teacher_train: batch norms of the teacher use the statistics of the batch.
    """

    def objective(params, batch_stats, frozen, batch, key, epoch):
        theirs = _teacher_outputs(teacher, frozen, batch.image, train=teacher_train)
        keys = dict(zip(methods, jax.random.split(key, len(methods)), strict=True))

        def losses(learned):
            loss, terms, stats = 0, {}, {}
            for name, method in methods.items():
                found, stats[name] = method.pretrain_loss(
                    _variables({"methods": learned}, batch_stats, name),
                    keys[name],
                    theirs,
                )
                loss += sum(jnp.mean(term) for term in found.values())
                terms |= {f"{name}/{term}": value for term, value in found.items()}
            return loss, (terms, stats)

        (loss, (terms, stats)), gradient = jax.value_and_grad(losses, has_aux=True)(
            params["methods"]
        )
        return Demand({"methods": gradient}, None, loss, {"methods": stats}, terms)

    return objective
