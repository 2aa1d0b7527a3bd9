"""Variables and terms of methods, as the state and the metrics have them."""

from typing import Any

import jax
import jax.numpy as jnp

from kdjax.distill import Method

Terms = dict[str, jax.Array]


def variables(learned: Any, batch_stats: Any, name: str) -> dict[str, Any]:
    """Returns a method's variables, by collection."""
    variables = {"params": learned[name], "batch_stats": batch_stats["methods"][name]}
    states = batch_stats.get("method_state", {})
    return variables | ({"method_state": states[name]} if name in states else {})


def updated(batch_stats: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Returns what methods found, as the running statistics or states that it is."""
    states = batch_stats.get("method_state")
    if not states:
        return {"methods": found}
    return {
        "methods": {name: {} if name in states else x for name, x in found.items()},
        "method_state": {name: found[name] for name in states},
    }


def weight(method: Method, epoch: jax.Array) -> float | jax.Array:
    """Returns the weight of a method's terms in an epoch, counted from 0."""
    if not method.warm_up:
        return method.weight
    return method.weight * jnp.minimum((epoch + 1) / method.warm_up, 1)


def total(terms: Terms) -> jax.Array:
    """Returns the sum of the terms' means."""
    return sum(jnp.mean(term) for term in terms.values())


def named(method: str, terms: Terms) -> Terms:
    """Returns the terms of a method by their names in the metrics."""
    return {f"{method}/{term}": value for term, value in terms.items()}
