"""Weights from PyTorch: names and layouts of a state dict, turned into variables."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

#: A Flax leaf's name in PyTorch.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

#: Axes of a PyTorch kernel in Flax's order, by their number: OIHW and (out, in).
_AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}

#: What a state dict holds besides: how often a batch norm ran.
_IGNORED = "num_batches_tracked"


def from_state_dict(
    network: nn.Module, state_dict: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Turns a PyTorch state dict into the variables of a network.

    Args:
      network: from `models.build`; its `torch_module` says what PyTorch calls the
        module at a path.
      state_dict: arrays by the names of the overhaul paper's code.

    Returns:
      Collections `params` and `batch_stats`, in the types of the state dict.

    Raises:
      ValueError: lists every missing, surplus or misshapen name; or the network has
        no PyTorch layout.
    """
    if not hasattr(network, "torch_module"):
        raise ValueError(f"{type(network).__name__} has no PyTorch layout to read")
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    wanted = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    found, used, wrong = {}, set(), []
    for path, leaf in flax.traverse_util.flatten_dict(dict(wanted)).items():
        _, *module, name = path
        torch_name = f"{network.torch_module(tuple(module))}.{_LEAVES[name]}"
        used.add(torch_name)
        if torch_name not in state_dict:
            wrong.append(f"{torch_name} is missing")
            continue
        array = np.asarray(state_dict[torch_name])
        if array.ndim == leaf.ndim:
            array = array.transpose(_AXES[array.ndim])
        if array.shape != leaf.shape:
            wrong.append(
                f"{torch_name} has shape {state_dict[torch_name].shape}, which becomes "
                f"{array.shape} and not {leaf.shape}"
            )
        found[path] = array
    wrong += [
        f"{name} is not in the network"
        for name in state_dict
        if name not in used and not name.endswith(_IGNORED)
    ]
    if wrong:
        raise ValueError("the state dict does not fit: " + "; ".join(wrong))
    return flax.traverse_util.unflatten_dict(found)
