"""Converts between PyTorch state dicts and the variables of a network.

A layout is one naming of a network's modules; public PyTorch code has several. A
network's `torch_modules` gives the module at a path of its variables in each. A state
dict must match one layout completely.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

#: PyTorch's name of a Flax parameter or statistic.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

#: Transposition of PyTorch's kernels (OIHW and OI) to Flax's, by number of axes.
_AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}

#: PyTorch counts the calls of each batch norm; Flax does not.
_COUNTER = "num_batches_tracked"

#: Missing and unexpected names in the message on a state dict of another network.
_MOST_LISTED = 8

_UNEXPECTED = "is not in the network"


def layouts(network: nn.Module) -> tuple[str, ...]:
    """Returns the names of a network's layouts.

    Raises:
      ValueError: if it has none.
    """
    if not hasattr(network, "torch_modules"):
        raise ValueError(f"{type(network).__name__} has no PyTorch layout")
    return tuple(network.torch_modules(("classifier",)))


def torch_name(network: nn.Module, path: tuple[str, ...], layout: str) -> str:
    """Returns PyTorch's name of the variable at a path, collection first."""
    _, *module, leaf = path
    return f"{network.torch_modules(tuple(module))[layout]}.{_LEAVES[leaf]}"


def find_layout(network: nn.Module, state_dict: Mapping[str, np.ndarray]) -> str:
    """Returns the layout that a state dict matches.

    Raises:
      ValueError: if it matches none; lists missing, unexpected and misshapen names for
        the closest layout. Or if the network has no PyTorch layout.
    """
    attempts = {
        layout: _from_layout(network, state_dict, layout)[1]
        for layout in layouts(network)
    }
    layout, wrong = min(attempts.items(), key=lambda item: len(item[1]))
    if wrong:
        unexpected = [message for message in wrong if message.endswith(_UNEXPECTED)]
        others = [message for message in wrong if message not in unexpected]
        listed = others[:_MOST_LISTED] + unexpected[:_MOST_LISTED]
        more = len(wrong) - len(listed)
        raise ValueError(
            f"the state dict does not match the network's layout {layout!r}: "
            + "; ".join(listed)
            + f"; and {more} more" * bool(more)
        )
    return layout


def from_state_dict(
    network: nn.Module, state_dict: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Converts a PyTorch state dict to the variables of a network.

    Args:
      network: from `models.build`.
      state_dict: arrays by name, in one of the network's layouts.

    Returns:
      Collections `params` and `batch_stats`, with the dtypes of the state dict.

    Raises:
      ValueError: as `find_layout`.
    """
    layout = find_layout(network, state_dict)
    found, _ = _from_layout(network, state_dict, layout)
    return flax.traverse_util.unflatten_dict(found)


def _from_layout(
    network: nn.Module, state_dict: Mapping[str, np.ndarray], layout: str
) -> tuple[dict[tuple[str, ...], np.ndarray], list[str]]:
    """Returns the variables by path, and a message for each mismatch with a layout."""
    found, used, wrong = {}, set(), []
    # Kernels come first: they tell networks apart.
    for path, leaf in sorted(_wanted(network).items(), key=lambda item: -item[1].ndim):
        name = torch_name(network, path, layout)
        used.add(name)
        if name not in state_dict:
            wrong.append(f"{name} is missing")
            continue
        array = np.asarray(state_dict[name])
        if array.ndim == leaf.ndim:
            array = array.transpose(_AXES[array.ndim])
        if array.shape != leaf.shape:
            wrong.append(
                f"{name} has shape {np.shape(state_dict[name])}, which becomes "
                f"{array.shape} and not {leaf.shape}"
            )
        found[path] = array
    wrong += [
        f"{name} {_UNEXPECTED}"
        for name in state_dict
        if name not in used and not name.endswith(_COUNTER)
    ]
    return found, wrong


def to_state_dict(
    network: nn.Module, variables: Mapping[str, Any], layout: str
) -> dict[str, np.ndarray]:
    """Converts the variables of a network to a PyTorch state dict.

    The exact inverse of `from_state_dict`. PyTorch's counters of batch norms are set to
    0: only a batch norm without momentum reads them.

    Args:
      network: from `models.build`.
      variables: collections `params` and `batch_stats`.
      layout: one of `layouts(network)`.

    Raises:
      ValueError: if the network has no such layout.
    """
    if layout not in layouts(network):
        raise ValueError(f"layout={layout!r} is none of {layouts(network)}")
    state_dict = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(variables)).items():
        array = np.asarray(leaf)
        name = torch_name(network, path, layout)
        state_dict[name] = np.ascontiguousarray(
            array.transpose(np.argsort(_AXES[array.ndim]))
        )
        if path[-1] == "var":
            counter = name.replace("running_var", _COUNTER)
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


def _wanted(network: nn.Module) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Returns the shapes of a network's variables by path."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    return flax.traverse_util.flatten_dict(dict(variables))
