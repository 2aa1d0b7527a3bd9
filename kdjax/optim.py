"""Learning rate schedules and optimizers from a configuration."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdjax.distill.gradients.dot import two_momenta


def drop_steps(
    lr_milestones: Sequence[float], epochs: int, steps_per_epoch: int
) -> tuple[int, ...]:
    """Turns fractions of the training into the first steps of epochs.

    A milestone that falls on the first step of the training, as in a very short one, is
    left out: training starts at the full rate.

    Args:
      lr_milestones: fractions in (0, 1); 0.5 of 200 epochs is the start of epoch 100,
        counting from 0.
      epochs: length of the training.
      steps_per_epoch: updates in an epoch.
    """
    # The epsilon keeps 0.3 * 100 at 30, however it is rounded.
    steps = (
        math.floor(fraction * epochs + 1e-9) * steps_per_epoch
        for fraction in lr_milestones
    )
    return tuple(step for step in steps if step)


def restart(
    inner: optax.GradientTransformation, at_steps: Sequence[int]
) -> optax.GradientTransformationExtraArgs:
    """Resets the state of `inner` to zeros before the updates of the given steps.

    Source: the overhaul paper's CIFAR-100 loop builds a new optimizer at each drop of
    the learning rate, which resets its momentum.

    Args:
      inner: a transformation whose initial state is all zeros.
      at_steps: numbers of earlier updates at which to reset it.
    """

    inner = optax.with_extra_args_support(inner)

    def init(params):
        return jnp.zeros((), jnp.int32), inner.init(params)

    def update(updates, state, params=None, **extra):
        count, inner_state = state
        reset = jnp.isin(count, jnp.asarray(at_steps, jnp.int32))
        inner_state = jax.tree.map(
            lambda x: jnp.where(reset, jnp.zeros_like(x), x), inner_state
        )
        updates, inner_state = inner.update(updates, inner_state, params, **extra)
        return updates, (count + 1, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    restart_at: Sequence[int] = (),
    delta: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Builds SGD as PyTorch has it: d = g + wd p, m = mu m + d, p -= lr (d + mu m).

    Weight decay is coupled (it enters the momentum) and covers every parameter, batch
    norms and biases included. Without `nesterov` the update is p -= lr m.

    Args:
      learning_rate: a number or a schedule over steps.
      momentum: mu.
      nesterov: look ahead.
      weight_decay: wd.
      restart_at: steps before which the momentum is reset to zero.
      delta: makes two of the momentum, see `two_momenta`; None keeps one.
    """
    if delta is None:
        momentum_rule = optax.trace(momentum, nesterov)
    else:
        momentum_rule = two_momenta(momentum, delta, nesterov=nesterov)
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        restart(momentum_rule, restart_at) if restart_at else momentum_rule,
        optax.scale_by_learning_rate(learning_rate),
    )


def build(
    config: ml_collections.ConfigDict,
    *,
    epochs: int,
    steps_per_epoch: int,
    apart: bool = False,
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """Builds the optimizer and its schedule.

    Args:
      config: the `optimizer` part of a configuration.
      epochs: length of the phase.
      steps_per_epoch: updates in an epoch.
      apart: some gradient has a momentum of its own.
    """
    drops = drop_steps(config.lr_milestones, epochs, steps_per_epoch)
    # Several milestones of a short training may fall on one step.
    schedule = optax.piecewise_constant_schedule(
        config.learning_rate,
        {step: config.lr_gamma ** drops.count(step) for step in drops},
    )
    optimizer = sgd(
        schedule,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        restart_at=drops if config.reset_momentum else (),
        delta=config.momentum_delta if apart else None,
    )
    return optimizer, schedule
