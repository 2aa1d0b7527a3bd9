"""The training step: pure, on one device's share of a batch, and how it is spread."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax.data.batches import Batch
from kdjax.distill import Method, Outputs
from kdjax.distill.clipping import clip_to_task
from kdjax.metrics import Sums
from kdjax.train_state import TrainState

#: Name of the axis of devices in every collective.
DEVICES = "devices"


class Frozen(NamedTuple):
    """What a step reads and never changes.

    Attributes:
      teacher: the teacher's variables; None without a teacher.
      constants: what each method read off the teacher.
    """

    teacher: Any = None
    constants: Mapping[str, Any] = {}


class Losses(NamedTuple):
    """The loss of a batch, by how the gradients of its parts meet.

    Attributes:
      task: cross-entropy and the terms of methods whose gradient is simply added.
      clipped: terms whose gradient is clipped to the task's.
    """

    task: jax.Array
    clipped: jax.Array


class Measured(NamedTuple):
    """What the objective returns beside its value."""

    batch_stats: dict[str, Any]
    logits: jax.Array
    terms: dict[str, jax.Array]


def forward(
    network: nn.Module, variables: Mapping[str, Any], image: jax.Array, *, train: bool
) -> tuple[Outputs, Any]:
    """Applies a network to [B, H, W, 3] images; returns outputs and new batch_stats.

    With `train`, batch norms use the statistics of the batch.
    """
    if not train:
        return Outputs(*network.apply(variables, image, train=False)), None
    outputs, updates = network.apply(
        variables, image, train=True, mutable=["batch_stats"]
    )
    return Outputs(*outputs), updates["batch_stats"]


def make_objective(
    student: nn.Module,
    teacher: nn.Module | None,
    methods: Mapping[str, Method],
    *,
    teacher_train: bool,
) -> Callable[..., tuple[Losses, Measured]]:
    """Builds the loss of a batch: cross-entropy and the methods' weighted terms.

    Args:
      student: the network that learns.
      teacher: the network it learns from; None if there are no methods.
      methods: terms of the loss by name.
      teacher_train: batch norms of the teacher use the statistics of the batch.

    Returns:
      `objective(params, batch_stats, frozen, batch) -> (Losses, Measured)`. The terms
      measured are not weighted by their method's weight.
    """

    def objective(params, batch_stats, frozen: Frozen, batch: Batch):
        variables = {
            "params": params["student"],
            "batch_stats": batch_stats["student"],
        }
        ours, student_stats = forward(student, variables, batch.image, train=True)
        terms = {
            "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(
                ours.logits, batch.label
            )
        }
        task = jnp.mean(terms["cross_entropy"])
        losses = {"sum": task, "clip": jnp.zeros_like(task)}
        method_stats = {}
        if methods:
            # The teacher's running statistics go nowhere, and neither does a gradient.
            theirs, _ = forward(
                teacher, frozen.teacher, batch.image, train=teacher_train
            )
            theirs = jax.lax.stop_gradient(theirs)
        for name, method in methods.items():
            variables = {
                "params": params["methods"][name],
                "batch_stats": batch_stats["methods"][name],
            }
            found, method_stats[name] = method.loss(
                variables, frozen.constants[name], ours, theirs
            )
            total = sum(jnp.mean(term) for term in found.values())
            losses[method.combination] += method.weight * total
            terms |= {f"{name}/{term}": value for term, value in found.items()}
        stats = {"student": student_stats, "methods": method_stats}
        losses = Losses(task=losses["sum"], clipped=losses["clip"])
        return losses, Measured(stats, ours.logits, terms)

    return objective


def make_train_step(
    objective: Callable[..., tuple[Losses, Measured]],
    optimizer: optax.GradientTransformation,
    *,
    log_every: int,
    clips: bool = False,
    steps_per_epoch: int = 1,
    axis_name: str | None = None,
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, Sums]]:
    """Builds one update of the student and of what the methods learn with it.

    Args:
      objective: from `make_objective`.
      optimizer: takes the gradient of all parameters.
      log_every: steps after which the sums of metrics start anew.
      clips: whether a method has its gradient clipped to the task's. It costs a second
        backward pass of the same forward pass.
      steps_per_epoch: length of the epochs that the clipping counts.
      axis_name: device axis over which gradients, running statistics and metrics are
        averaged; None on a single device.

    Returns:
      `train_step(state, frozen, batch) -> (state, metrics)`, where metrics are the
      sums in the new state once more, for a caller that donates the state.
    """

    def mean_over_devices(tree):
        # Every device holds an equal share, so the mean of means is the mean.
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def train_step(state: TrainState, frozen: Frozen, batch: Batch):
        losses, pull_back, measured = jax.vjp(
            lambda params: objective(params, state.batch_stats, frozen, batch),
            state.params,
            has_aux=True,
        )
        one, zero = jnp.ones_like(losses.task), jnp.zeros_like(losses.task)
        (gradient,) = mean_over_devices(pull_back(Losses(one, zero)))
        if clips:
            (added,) = mean_over_devices(pull_back(Losses(zero, one)))
            epoch = state.step // steps_per_epoch
            gradient = {
                "student": clip_to_task(
                    gradient["student"], added["student"], epoch=epoch
                ),
                # The task does not reach what the methods learn.
                "methods": jax.tree.map(jnp.add, gradient["methods"], added["methods"]),
            }
        accuracy = jnp.mean(jnp.argmax(measured.logits, -1) == batch.label)
        values = {name: jnp.mean(term) for name, term in measured.terms.items()}
        values |= {"loss": losses.task + losses.clipped, "accuracy": accuracy}
        batch_stats, values = mean_over_devices((measured.batch_stats, values))
        values["gradient_norm"] = optax.tree.norm(gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        count = batch.label.size
        if axis_name is not None:
            count *= jax.lax.axis_size(axis_name)
        metrics = state.metrics.reset_if(state.step % log_every == 0).add(
            {name: value * count for name, value in values.items()},
            count,
            state.step + 1,
        )
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            metrics=metrics,
        )
        return state, metrics

    return train_step


def metric_names(terms: Mapping[str, Any]) -> list[str]:
    """Lists what a training step measures, given the objective's terms."""
    return ["loss", "accuracy", "gradient_norm", *terms]


def data_parallel(
    function: Callable,
    devices: Sequence[jax.Device],
    *,
    in_axes: tuple[int | None, ...],
    out_axes: Any = None,
    donate: tuple[int, ...] = (),
) -> Callable:
    """Runs a function of one device's share on all devices at once.

    Args:
      function: uses the axis `DEVICES` in its collectives.
      devices: where to run.
      in_axes: per argument, None for what all devices share, 0 for what is split.
      out_axes: the same for the results.
      donate: arguments whose memory the results may take.
    """
    return jax.pmap(
        function,
        axis_name=DEVICES,
        in_axes=in_axes,
        out_axes=out_axes,
        donate_argnums=donate,
        devices=devices,
    )
