"""SGD as PyTorch has it, with momenta that may be reset or be several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.distill.gradients.momenta import with_momenta


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
    deltas: Mapping[str, float] | None = None,
    mask: Callable[[Any], Any] | None = None,
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
      deltas: make several of the momentum, see `with_momenta`; none keep one.
      mask: tells which parameters decay; None for all.
    """
    if not deltas:
        momentum_rule = optax.trace(momentum, nesterov)
    else:
        momentum_rule = with_momenta(momentum, deltas, nesterov=nesterov)
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask),
        restart(momentum_rule, restart_at) if restart_at else momentum_rule,
        optax.scale_by_learning_rate(learning_rate),
    )
