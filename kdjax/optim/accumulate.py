"""Gradient accumulation: a batch in parts, whose gradients are averaged."""

import jax
import jax.numpy as jnp

from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.objective import Gradients, Objective


def check(plan: BatchPlan, parts: int) -> None:
    """Rejects batches that a number of parts does not divide.

    Raises:
      ValueError: names both fields.
    """
    for name, size in (("batch", plan.batch_size), ("last batch", plan.rest_size)):
        if size % (plan.devices * parts):
            raise ValueError(
                f"batch_size={plan.batch_size} gives a {name} of {size} images, which "
                f"is not divisible by accumulate={parts} on {plan.devices} devices"
                + ("; data.drop_remainder=True leaves it out" * (name != "batch"))
            )


def in_parts(objective: Objective, parts: int) -> Objective:
    """Computes losses and gradients of a batch from one part after the other.

    They are those of the batch to rounding, in less memory, but where examples of a
    batch meet: batch norms and batch-relational methods see one part. Running
    statistics and states of methods go from part to part.

    Args:
      objective: of a batch.
      parts: of equal size; 1 returns the objective itself.
    """
    if parts == 1:
        return objective

    def accumulated(params, batch_stats, frozen, batch, key, epoch, progress=0.0):
        def one(stats, index, part):
            key_of_part = jax.random.fold_in(key, index)
            return objective(params, stats, frozen, part, key_of_part, epoch, progress)

        def add(carry, indexed):
            stats, *sums = carry
            found = one(stats, *indexed)
            new = found.summed, found.by_rule, found.loss
            return (found.batch_stats, *jax.tree.map(jnp.add, tuple(sums), new)), (
                found.values
            )

        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        indexed = jnp.arange(parts), split
        shapes = jax.eval_shape(
            one, batch_stats, *jax.tree.map(lambda x: x[0], indexed)
        )
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            (shapes.summed, shapes.by_rule, shapes.loss),
        )
        (stats, *sums), values = jax.lax.scan(add, (batch_stats, *zeros), indexed)
        summed, by_rule, loss = jax.tree.map(lambda x: x / parts, sums)
        values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), values)
        return Gradients(summed, by_rule, loss, stats, values)

    return accumulated
