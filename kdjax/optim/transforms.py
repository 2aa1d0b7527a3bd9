"""What stands around any optimizer: decayed parameters, clipping and factors."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


def kernels(params: Any) -> Any:
    """Tells which parameters are kernels: not of norms, biases, tokens or positions."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


#: Parameters that decay, by the name used in `optimizer.weight_decay_of`.
DECAYED: Mapping[str, Callable[[Any], Any] | None] = {"all": None, "kernels": kernels}


def clipped(
    inner: optax.GradientTransformationExtraArgs, norm: float
) -> optax.GradientTransformationExtraArgs:
    """Scales gradients down whose norm over all parameters is larger.

    Where gradients are kept apart, the norm is that of the sum, and all are scaled.

    Args:
      inner: what sees the scaled gradients.
      norm: largest norm.
    """

    def update(updates, state, params=None, **extra):
        whole = updates
        for apart in extra.get("apart", {}).values():
            whole = whole | {"student": optax.tree.add(whole["student"], apart)}
        # As PyTorch and `optax.clip_by_global_norm` for norms that are not 0.
        share = norm / jnp.maximum(optax.tree.norm(whole), norm)
        updates, extra = optax.tree.scale(share, (updates, extra))
        return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def without(
    inner: optax.GradientTransformationExtraArgs, modules: Collection[str]
) -> optax.GradientTransformationExtraArgs:
    """Leaves modules of the student as they are: updates of 0, and no state.

    Args:
      inner: what sees the gradients and the parameters of everything else.
      modules: their names at the top of the student's parameters.
    """

    def of_student(tree: Any) -> Any:
        return {name: x for name, x in tree.items() if name not in modules}

    def rest(tree: Any) -> Any:
        return tree | {"student": of_student(tree["student"])}

    def update(updates, state, params=None, **extra):
        if "apart" in extra:
            apart = {name: of_student(x) for name, x in extra["apart"].items()}
            extra = extra | {"apart": apart}
        params = None if params is None else rest(params)
        found, state = inner.update(rest(updates), state, params, **extra)
        kept = {k: optax.tree.zeros_like(updates["student"][k]) for k in modules}
        return found | {"student": found["student"] | kept}, state

    return optax.GradientTransformationExtraArgs(
        lambda params: inner.init(rest(params)), update
    )


def scale_methods(factor: float) -> optax.GradientTransformation:
    """Scales the updates of what methods learn, and so their learning rate."""
    return optax.stateless(
        lambda updates, _: (
            updates | {"methods": optax.tree.scale(factor, updates["methods"])}
        )
    )
