"""Converts between PyTorch state dicts and the variables of a network.

A layout is one naming of a network's modules; public PyTorch code has several. A
network's `torch_modules` gives the module at a path of its variables in each. A state
dict must match one layout completely.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

#: PyTorch's name of a Flax parameter or statistic of a layer.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

#: Transposition of PyTorch's kernels (OIHW and OI) to Flax's, by number of axes; tokens
#: and positions have three.
_AXES = {4: (2, 3, 1, 0), 3: (0, 1, 2), 2: (1, 0), 1: (0,)}

#: Path of the classifier in every network.
_CLASSIFIER = ("classifier",)

#: PyTorch counts the calls of each batch norm; Flax does not.
_COUNTER = "num_batches_tracked"

#: Names of each kind in the message on a state dict of another network.
_MOST_LISTED, _MOST_CHARACTERS = 3, 64

Shapes = Mapping[str, tuple[int, ...]]


class Mismatch(NamedTuple):
    """How a state dict differs from a layout of a network.

    Attributes:
      names: their number in the layout.
      missing: names that the state dict lacks.
      unexpected: names that the network lacks.
      misshapen: names of other shapes, with both.
    """

    names: int
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    @property
    def count(self) -> int:
        """The number of names that do not fit."""
        return sum(map(len, self[1:]))

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
        }
        listed = (
            f"{len(names)} {kind} ({_first(names)})"
            for kind, names in kinds.items()
            if names
        )
        return f"of {self.names} names " + ", ".join(listed)


def _first(names: list[str]) -> str:
    """Joins the first names, fewer if they are long."""
    count = next(
        count
        for count in range(_MOST_LISTED, 0, -1)
        if count == 1 or len(", ".join(names[:count])) <= _MOST_CHARACTERS
    )
    return ", ".join(names[:count]) + ", ..." * (len(names) > count)


def layouts(network: nn.Module) -> tuple[str, ...]:
    """Returns the names of a network's layouts.

    Raises:
      ValueError: if it has none.
    """
    if not hasattr(network, "torch_modules"):
        raise ValueError(f"{type(network).__name__} has no PyTorch layout")
    return tuple(network.torch_modules(_CLASSIFIER))


def torch_name(network: nn.Module, path: tuple[str, ...], layout: str) -> str:
    """Returns PyTorch's name of the variable at a path, collection first."""
    _, *module, leaf = path
    if leaf not in _LEAVES:
        return network.torch_modules((*module, leaf))[layout]
    name = network.torch_modules(tuple(module))[layout]
    return f"{name}{'' if name.endswith('_') else '.'}{_LEAVES[leaf]}"


def classifier(network: nn.Module, layout: str) -> str:
    """Returns PyTorch's name of the classifier's module."""
    return network.torch_modules(_CLASSIFIER)[layout]


def shapes(network: nn.Module) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns the shapes in PyTorch of a network's arrays by name, for each layout.

    Raises:
      ValueError: if the network has no PyTorch layout.
    """
    # Kernels come first: they tell networks apart.
    variables = sorted(_variables(network).items(), key=lambda item: -item[1].ndim)
    return {
        layout: {
            torch_name(network, path, layout): (
                *_torch_shape(leaf.shape),
                *_axes_behind(network, path, layout),
            )
            for path, leaf in variables
        }
        for layout in layouts(network)
    }


def may_hold(network: nn.Module, shapes: Collection[tuple[int, ...]]) -> bool:
    """Tells whether arrays of these shapes may be all of a network's convolutions.

    Takes less time than `shapes` for a network that does not fit, since it stops at the
    first convolution that is not among them.
    """
    left = [shape for shape in shapes if len(shape) == 4]

    def take(next_fun, args, kwargs, context):
        outputs = next_fun(*args, **kwargs)
        if isinstance(context.module, nn.Conv):
            kernel = context.module.variables["params"]["kernel"]
            # Raises a ValueError if none is left.
            left.remove(_torch_shape(kernel.shape))
        return outputs

    try:
        with nn.intercept_methods(take):
            _variables(network)
    except ValueError:
        return False
    return True


def compare(wanted: Shapes, found: Shapes) -> Mismatch:
    """Compares the shapes of a state dict, `found`, with those of a layout."""
    return Mismatch(
        len(wanted),
        missing=[name for name in wanted if name not in found],
        unexpected=[
            name for name in found if name not in wanted and not name.endswith(_COUNTER)
        ],
        misshapen=[
            f"{name} {tuple(found[name])} instead of {tuple(shape)}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name]) != tuple(shape)
        ],
    )


def find_layout(network: nn.Module, state_dict: Mapping[str, np.ndarray]) -> str:
    """Returns the layout that a state dict matches.

    Raises:
      ValueError: if it matches none; counts missing, unexpected and misshapen names for
        the closest layout. Or if the network has no PyTorch layout.
    """
    found = {name: np.shape(array) for name, array in state_dict.items()}
    attempts = {
        layout: compare(wanted, found) for layout, wanted in shapes(network).items()
    }
    layout, mismatch = min(attempts.items(), key=lambda item: item[1].count)
    if mismatch.count:
        raise ValueError(
            f"the state dict does not match the network's layout {layout!r}: {mismatch}"
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
    found = {}
    for path, leaf in _variables(network).items():
        array = np.asarray(state_dict[torch_name(network, path, layout)])
        array = array.reshape(_torch_shape(leaf.shape))
        found[path] = array.transpose(_AXES[array.ndim])
    return flax.traverse_util.unflatten_dict(found)


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
        ).reshape(*_torch_shape(array.shape), *_axes_behind(network, path, layout))
        if path[-1] == "var":
            counter = name.replace("running_var", _COUNTER)
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


def _axes_behind(
    network: nn.Module, path: tuple[str, ...], layout: str
) -> tuple[int, ...]:
    """Returns the lengths, all 1, of axes that only PyTorch's array has, at its end."""
    if not hasattr(network, "torch_axes_behind"):
        return ()
    return (1,) * network.torch_axes_behind(path[1:], layout)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in np.argsort(_AXES[len(shape)]))


def _variables(network: nn.Module) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Returns the shapes of a network's variables by path."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    return flax.traverse_util.flatten_dict(dict(variables))
