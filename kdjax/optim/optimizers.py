"""Optimizers from a configuration."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdjax.config.field import shown
from kdjax.config.keywords import keywords
from kdjax.optim import schedules
from kdjax.optim.schedules import Length
from kdjax.optim.torch_sgd import sgd
from kdjax.optim.transforms import DECAYED, clipped, scale_methods

#: Parameters of a constructor in Optax that are set by fields of their own.
_OWN_FIELDS = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")


def build(
    config: ml_collections.ConfigDict,
    length: Length,
    *,
    deltas: Mapping[str, float] | None = None,
) -> tuple[optax.GradientTransformationExtraArgs, optax.Schedule]:
    """Builds the optimizer of the training proper and its schedule.

    Args:
      config: the `optimizer` part of a configuration.
      length: of the training.
      deltas: of the momenta of gradients kept apart, see `sgd`.
    """
    schedule = schedules.build(config, length)
    mask = DECAYED[config.weight_decay_of]
    if config.name == "sgd":
        drops = config.schedule == "steps" and config.reset_momentum
        optimizer = _sgd(
            config,
            schedule,
            length if drops else None,
            deltas=deltas,
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
