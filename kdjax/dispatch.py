"""How many training steps the host starts at once.

A program of several steps is a `jax.lax.scan` over the step, in which the host has no
part. Epochs, evaluations and checkpoints begin between two programs, and what does not
fill a program of several steps is made one step at a time.
"""

import jax

from kdjax.data.pipeline.batch_plan import BatchPlan

#: Most steps that are chosen; more would make a run slower to stop, and no faster.
_MOST = 16


def steps_per_dispatch(given: int, plan: BatchPlan, *, in_memory: bool) -> int:
    """Returns the number of steps of one program.

    Args:
      given: as configured; 0 chooses 1 on the CPU, where starting a program costs
        little, or else the largest divisor of an epoch's full batches up to 16.
      plan: of the batches.
      in_memory: whether the images are in the memory of the devices.

    Raises:
      ValueError: if several steps are asked for, and their images are streamed.
    """
    if given > 1 and not in_memory:
        raise ValueError(
            f"steps_per_dispatch={given} needs the images in memory, and "
            "they are streamed: data.pipeline='in_memory'"
        )
    if given:
        return given
    if not in_memory or jax.default_backend() == "cpu":
        return 1
    most = min(_MOST, max(plan.full_steps, 1))
    return max(n for n in range(1, most + 1) if plan.full_steps % n == 0)


def next_steps(
    step: int, per_dispatch: int, plan: BatchPlan, *multiples: int, last: int
) -> int:
    """Returns how many steps the next program makes: `per_dispatch`, or 1.

    Args:
      step: updates made.
      per_dispatch: of a full program.
      plan: of the batches.
      *multiples: after each multiple of these something else is done; 0 for nothing.
      last: number of updates of the phase.
    """
    in_epoch = step % plan.steps_per_epoch
    # The batches of one program have one size and one order.
    ends = [last, step - in_epoch + plan.full_steps]
    ends += [step - step % n + n for n in multiples if n]
    return per_dispatch if step + per_dispatch <= min(ends) else 1
