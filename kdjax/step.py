"""One update of everything that learns, and its data-parallel form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax import rngs
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import gradients
from kdjax.objective import Frozen, Objective
from kdjax.train_state import TrainState

#: Name of the mapped device axis in every collective.
DEVICES = "devices"

Metrics = dict[str, jax.Array]


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    seed: int = 0,
    stream: str = "train",
    steps_per_epoch: int = 1,
    total_steps: int = 1,
    skip_params_without_gradient: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, Metrics]]:
    """Builds one update of everything that learns.

    Args:
      objective: losses and gradients of a batch.
      optimizer: updates all parameters. Where a rule keeps gradients of methods apart,
        it takes them as `apart`, by name.
      seed: of the objective's random numbers.
      stream: name of these random numbers; one for each phase.
      steps_per_epoch: length of the epochs that warm-ups and the rules count.
      total_steps: of the phase.
      skip_params_without_gradient: neither updates nor decays parameters whose gradient
        is zero everywhere: those that a loss below the logits does not reach.
      axis_name: device axis over which gradients, running statistics and metrics are
        averaged; None on a single device.

    Returns:
      `train_step(state, frozen, batch) -> (state, metrics)`, where metrics are means
      over the batch of all devices: `loss`, `gradient_norm` and the objective's values.
    """

    def mean_over_devices(tree):
        # Each device has the same number of examples: the mean of means is the mean.
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def train_step(state: TrainState, frozen: Frozen, batch: Batch):
        epoch = state.step // steps_per_epoch
        progress = state.step.astype(jnp.float32) / total_steps
        when = rngs.key(seed, stream, state.step), epoch, progress
        found = objective(state.params, state.batch_stats, frozen, batch, *when)
        metrics = {name: jnp.mean(value) for name, value in found.values.items()}
        metrics["loss"] = found.loss
        # States of methods are the same on all devices, and no averages.
        states = {k: v for k, v in found.batch_stats.items() if k == "method_state"}
        running = {k: v for k, v in found.batch_stats.items() if k not in states}
        gradient, by_rule, running, metrics = mean_over_devices(
            (found.summed, found.by_rule, running, metrics)
        )
        gradient, apart = gradients.combine(gradient, by_rule, epoch=epoch)
        metrics["gradient_norm"] = optax.tree.norm(_whole(gradient, apart))
        visible = state.params
        if skip_params_without_gradient:
            visible = _zero_without_gradient(visible, gradient)
        updates, opt_state = optimizer.update(
            gradient, state.opt_state, visible, **({"apart": apart} if apart else {})
        )
        params = optax.apply_updates(state.params, updates)
        step, stats = state.step + 1, running | states
        return TrainState(step, params, stats, opt_state), metrics

    return train_step


def _zero_without_gradient(params: Any, gradient: Any) -> Any:
    """Returns zeros for the parameters that an optimizer must neither move nor decay.

    It then sees no gradient, no weight to decay, and has no momentum.
    """
    return jax.tree.map(lambda p, g: jnp.where(jnp.any(g != 0), p, 0), params, gradient)


def _whole(gradient: Any, apart: Mapping[str, Any]) -> Any:
    """Returns the gradient with what the optimizer keeps apart by the student's."""
    for added in apart.values():
        gradient = gradient | {"student": optax.tree.add(gradient["student"], added)}
    return gradient


def data_parallel(
    function: Callable,
    devices: Sequence[jax.Device],
    *,
    in_axes: tuple[int | None, ...],
    out_axes: Any = None,
    donate: tuple[int, ...] = (),
) -> Callable:
    """Maps a per-device function over all devices with `jax.pmap`.

    Args:
      function: uses the axis `DEVICES` in its collectives.
      devices: where to run.
      in_axes: per argument, None for replicated, 0 for sharded.
      out_axes: the same for the results.
      donate: arguments whose memory the results may reuse.
    """
    return jax.pmap(
        function,
        axis_name=DEVICES,
        in_axes=in_axes,
        out_axes=out_axes,
        donate_argnums=donate,
        devices=devices,
    )


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding of arrays that every device of this process holds in full.

    It is that of the mapped step's outputs: inputs placed otherwise would compile the
    second step anew.
    """
    mesh = Mesh(np.asarray(devices), (DEVICES,))
    return NamedSharding(mesh.local_mesh, PartitionSpec())
