"""Learning rates over the steps of a phase, by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import ml_collections
import optax


class Length(NamedTuple):
    """How long a phase is.

    Attributes:
      epochs: number of epochs.
      steps_per_epoch: updates in each.
    """

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Number of updates."""
        return self.epochs * self.steps_per_epoch

    def rise(self, warm_up_epochs: float) -> int:
        """Returns the number of steps of a warm-up; at least one step follows."""
        return min(round(warm_up_epochs * self.steps_per_epoch), self.steps - 1)


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


def drops(
    config: ml_collections.ConfigDict, length: Length, after: int = 0
) -> optax.Schedule:
    """Multiplies the rate by `lr_gamma` at each of `lr_milestones`.

    Args:
      config: the `optimizer` part of a configuration.
      length: of the phase.
      after: step that the schedule's own steps are counted from.
    """
    steps = drop_steps(config.lr_milestones, *length)
    steps = [max(step - after, 0) for step in steps]
    # Several milestones of a short training may fall on one step.
    return optax.piecewise_constant_schedule(
        config.learning_rate,
        {step: config.lr_gamma ** steps.count(step) for step in steps},
    )


def _constant(config, length, after):
    del length, after
    return optax.constant_schedule(config.learning_rate)


def _cosine(config, length, after):
    return optax.cosine_decay_schedule(
        config.learning_rate, length.steps - after, alpha=config.final_factor
    )


def _linear(config, length, after):
    rate = config.learning_rate
    return optax.linear_schedule(rate, rate * config.final_factor, length.steps - after)


#: What follows the warm-up, by the name used in `optimizer.schedule`: functions of the
#: `optimizer` part of a configuration, the length of the phase and the steps of the
#: warm-up.
_AFTER_WARM_UP: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": _constant,
    "steps": drops,
    "cosine": _cosine,
    "linear": _linear,
}

#: Rises and falls by itself.
_ONE_CYCLE = "one_cycle"

NAMES = (*_AFTER_WARM_UP, _ONE_CYCLE)


def build(config: ml_collections.ConfigDict, length: Length) -> optax.Schedule:
    """Builds a schedule with its warm-up.

    The rate rises linearly from `warm_up_factor` times the learning rate, which it
    reaches in the first step after `warm_up_epochs`. As PyTorch's `LinearLR`, followed
    by `MultiStepLR`, `CosineAnnealingLR` or another `LinearLR`, and as
    `optax.warmup_cosine_decay_schedule`.

    Args:
      config: the `optimizer` part of a configuration.
      length: of the phase.
    """
    rise = length.rise(config.warm_up_epochs)
    if config.schedule == _ONE_CYCLE:
        return one_cycle(
            config.learning_rate,
            length.steps,
            rise or round(0.3 * length.steps),
            start_factor=config.warm_up_factor,
            final_factor=config.final_factor,
        )
    schedule = _AFTER_WARM_UP[config.schedule](config, length, rise)
    if not rise:
        return schedule
    rate = config.learning_rate
    warm_up = optax.linear_schedule(rate * config.warm_up_factor, rate, rise)
    return optax.join_schedules([warm_up, schedule], [rise])


def one_cycle(
    peak: float, steps: int, rise: int, *, start_factor: float, final_factor: float
) -> optax.Schedule:
    """Rises along a cosine to a peak and falls along another.

    As PyTorch's `OneCycleLR`, which calls `start_factor` 1 / div_factor (0.04) and
    `final_factor` 1 / (div_factor final_div_factor) (4e-6): the peak is in the last
    step of the rise and the lowest rate in the last step of all.

    Args:
      peak: largest rate.
      steps: of the phase.
      rise: steps of the rise.
      start_factor: first rate by the peak.
      final_factor: last rate by the peak.
    """
    top = max(rise - 1, 0)

    def up(step):
        share = (1 + jnp.cos(jnp.pi * step / max(top, 1))) / 2
        return peak * (1 - (1 - start_factor) * share)

    down = optax.cosine_decay_schedule(
        peak, max(steps - 1 - top, 1), alpha=final_factor
    )
    return optax.join_schedules([up, down], [top])
