"""Optimizers from a configuration."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdjax import schedules
from kdjax.distill.gradients.dot import two_momenta
from kdjax.field import shown
from kdjax.keywords import keywords
from kdjax.schedules import Length

#: Parameters of a constructor in Optax that are set by fields of their own.
_OWN_FIELDS = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")


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
      delta: makes two of the momentum, see `two_momenta`; None keeps one.
      mask: tells which parameters decay; None for all.
    """
    if delta is None:
        momentum_rule = optax.trace(momentum, nesterov)
    else:
        momentum_rule = two_momenta(momentum, delta, nesterov=nesterov)
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask),
        restart(momentum_rule, restart_at) if restart_at else momentum_rule,
        optax.scale_by_learning_rate(learning_rate),
    )


def kernels(params: Any) -> Any:
    """Tells which parameters are neither of norms nor biases, which are vectors."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


#: Parameters that decay, by the name used in `optimizer.weight_decay_of`.
DECAYED: Mapping[str, Callable[[Any], Any] | None] = {"all": None, "kernels": kernels}


def clipped(
    inner: optax.GradientTransformationExtraArgs, norm: float
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients down whose norm over all parameters is larger.

    Where a gradient is kept apart, the norm is that of the sum, and both are scaled.

    Args:
      inner: what sees the scaled gradients.
      norm: largest norm.
    """

    def update(updates, state, params=None, **extra):
        whole = updates
        if "distillation" in extra:
            student = optax.tree.add(updates["student"], extra["distillation"])
            whole = updates | {"student": student}
        # As PyTorch and `optax.clip_by_global_norm` for norms that are not 0.
        share = norm / jnp.maximum(optax.tree.norm(whole), norm)
        updates, extra = optax.tree.scale(share, (updates, extra))
        return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def scale_methods(factor: float) -> optax.GradientTransformation:
    """Scales the updates of what methods learn, and so their learning rate."""
    return optax.stateless(
        lambda updates, _: (
            updates | {"methods": optax.tree.scale(factor, updates["methods"])}
        )
    )


def build(
    config: ml_collections.ConfigDict, length: Length, *, apart: bool = False
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """Builds the optimizer of the training proper and its schedule.

    Args:
      config: the `optimizer` part of a configuration.
      length: of the training.
      apart: some gradient has a momentum of its own.
    """
    schedule = schedules.build(config, length)
    mask = DECAYED[config.weight_decay_of]
    if config.name == "sgd":
        drops = config.schedule == "steps" and config.reset_momentum
        optimizer = _sgd(
            config,
            schedule,
            length if drops else None,
            delta=config.momentum_delta if apart else None,
            mask=mask,
        )
    else:
        optimizer = optax.with_extra_args_support(_from_optax(config, schedule, mask))
    if config.methods_factor != 1:
        optimizer = optax.chain(optimizer, scale_methods(config.methods_factor))
    if config.clip_norm:
        optimizer = clipped(optimizer, config.clip_norm)
    return optimizer, schedule


def build_sgd(
    config: ml_collections.ConfigDict, length: Length
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """Builds the optimizer of a phase before the training, and its schedule."""
    schedule = schedules.drops(config, length)
    return _sgd(config, schedule, length if config.reset_momentum else None), schedule


def _sgd(
    config: ml_collections.ConfigDict,
    schedule: optax.Schedule,
    length: Length | None,
    **settings: Any,
) -> optax.GradientTransformationExtraArgs:
    """Builds SGD; its momentum is reset at the milestones of a length, if any."""
    restart_at = length and schedules.drop_steps(config.lr_milestones, *length)
    return sgd(
        schedule,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        restart_at=restart_at or (),
        **settings,
    )


def _from_optax(
    config: ml_collections.ConfigDict,
    schedule: optax.ScalarOrSchedule,
    mask: Callable[[Any], Any] | None,
) -> optax.GradientTransformation:
    """Calls the constructor in Optax that `optimizer.name` names.

    Where it has no weight decay of its own, decay is added to the gradient.
    """
    constructor = _constructor(config.name)
    known = inspect.signature(constructor).parameters
    given = keywords("optimizer.arguments", config.arguments)
    for name in given:
        if name in _OWN_FIELDS or name not in known:
            allowed = sorted(known.keys() - {*_OWN_FIELDS})
            raise ValueError(
                f"optimizer.arguments={shown(config.arguments)}: {name!r} is none of "
                f"{allowed}"
            )
    decay = {"weight_decay": config.weight_decay, "mask": mask}
    decay["weight_decay_mask"] = mask
    if "weight_decay" in known:
        own = {name: value for name, value in decay.items() if name in known}
        return constructor(schedule, **own, **given)
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        constructor(schedule, **given),
    )


def _constructor(name: str) -> Callable[..., optax.GradientTransformation]:
    """Returns the function of Optax that is called so, as "lion" or "optax.lion".

    Raises:
      ValueError: if there is none with a learning rate.
    """
    parts = name.removeprefix("optax.").split(".")
    found = functools.reduce(lambda x, part: getattr(x, part, None), parts, optax)
    if not inspect.isfunction(found) or (
        "learning_rate" not in inspect.signature(found).parameters
    ):
        raise ValueError(
            f"optimizer.name={shown(name)} is neither 'sgd' nor an optimizer of Optax, "
            "as 'adamw', 'lamb', 'lion' or 'optax.contrib.muon'"
        )
    return found


def check(config: ml_collections.ConfigDict, epochs: int) -> None:
    """Rejects an optimizer that there is not or that cannot be built.

    Args:
      config: the `optimizer` part of a configuration.
      epochs: of the training.

    Raises:
      ValueError: names the field, its value and what is wrong.
    """
    if config.warm_up_epochs >= epochs:
        raise ValueError(
            f"optimizer.warm_up_epochs={config.warm_up_epochs} is not less than "
            f"epochs={epochs}"
        )
    if config.name == "sgd":
        if config.arguments:
            raise ValueError(
                f"optimizer.arguments={shown(config.arguments)} are for optimizers of "
                "Optax, but optimizer.name='sgd' has fields of its own"
            )
        return
    _from_optax(config, config.learning_rate, DECAYED[config.weight_decay_of])
    params = {"student": {"kernel": jnp.zeros((2, 2))}, "methods": {}}
    try:
        optimizer, _ = build(config, Length(epochs, 1))
        jax.eval_shape(lambda x: optimizer.update(x, optimizer.init(x), x), params)
    except Exception as error:  # Whatever constructors make of wrong arguments.
        raise ValueError(
            f"optimizer.name={shown(config.name)} with optimizer.arguments="
            f"{shown(config.arguments)} cannot be built: {error}"
        ) from None
