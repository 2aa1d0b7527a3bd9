"""The training step: pure, on one device's share of a batch, and how it is spread."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax import rngs
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.clipping import clip_to_task
from kdjax.metrics import Sums
from kdjax.objective import Frozen, Objective
from kdjax.train_state import TrainState

#: Name of the axis of devices in every collective.
DEVICES = "devices"


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    log_every: int,
    seed: int = 0,
    stream: str = "train",
    steps_per_epoch: int = 1,
    skip_params_without_gradient: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, Sums]]:
    """Builds one update of everything that learns.

    Args:
      objective: what a batch asks of the parameters.
      optimizer: takes the gradient of all parameters.
      log_every: steps after which the sums of metrics start anew.
      seed: of what the objective draws.
      stream: name of these draws; another one for each phase.
      steps_per_epoch: length of the epochs that warm-ups and the clipping count.
      skip_params_without_gradient: leaves alone, decay included, the parameters whose
        gradient is zero
        throughout: those that a loss below the logits does not reach.
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
        key = rngs.key(seed, stream, state.step)
        epoch = state.step // steps_per_epoch
        found = objective(state.params, state.batch_stats, frozen, batch, key, epoch)
        values = {name: jnp.mean(value) for name, value in found.values.items()}
        values["loss"] = found.loss
        gradient, clipped, batch_stats, values = mean_over_devices(
            (found.gradient, found.clipped, found.batch_stats, values)
        )
        if clipped is not None:
            gradient = {
                "student": clip_to_task(
                    gradient["student"], clipped["student"], epoch=epoch
                ),
                # The task does not reach what the methods learn.
                "methods": jax.tree.map(
                    jnp.add, gradient["methods"], clipped["methods"]
                ),
            }
        values["gradient_norm"] = optax.tree.norm(gradient)
        params = state.params
        if skip_params_without_gradient:
            # To the optimizer the others are zero: no gradient, no decay, no momentum.
            params = jax.tree.map(
                lambda p, g: jnp.where(jnp.any(g != 0), p, 0), params, gradient
            )
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
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


def metric_names(values: Mapping[str, Any]) -> list[str]:
    """Lists what a training step measures, given the values of its objective."""
    return ["loss", "gradient_norm", *values]


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
