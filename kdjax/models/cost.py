"""The cost of a network: its parameters, and the multiply-adds of one image."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, jaxprs_in_params

from kdjax.models.features import Features

#: Primitives that run their body any number of times, or not at all.
_CONTROL_FLOW = ("cond", "scan", "while")


class Cost(NamedTuple):
    """The cost of a network, and the shapes of its features.

    Attributes:
      parameters: number of trained values.
      multiply_adds: of convolutions and linear layers for one image.
      features: their shapes for one image.
    """

    parameters: int
    multiply_adds: int
    features: Features


def of(network: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Counts parameters and multiply-adds in one trace, without computing anything.

    Multiply-adds are counted in the program itself. Those with the zeros of the padding
    are in, as is the custom; biases, batch norms, ReLUs, sums and pools are not.

    Args:
      network: from `models.build`.
      image_shape: [H, W, 3].

    Raises:
      ValueError: if the network has loops or branches.
    """

    def run(image: jax.Array) -> Any:
        return network.init_with_output(jax.random.key(0), image, train=False)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    # The initializers draw, and multiply nothing.
    jaxpr, shapes = jax.make_jaxpr(run, return_shape=True)(image)
    (_, features), variables = shapes
    return Cost(parameters(variables), _count(jaxpr), features)


def parameters(variables: Mapping[str, Any]) -> int:
    """Counts trained values: running statistics are left out."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def multiply_adds(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Counts the multiply-adds of one image, as `of` does."""
    return of(network, image_shape).multiply_adds


def _count(jaxpr: Any) -> int:
    return sum(map(_count_equation, jaxpr.eqns))


def _count_equation(equation: JaxprEqn) -> int:
    inner = sum(map(_count, jaxprs_in_params(equation.params)))
    if inner and equation.primitive.name in _CONTROL_FLOW:
        raise ValueError(
            f"cannot count the multiply-adds within {equation.primitive.name!r}"
        )
    return inner + _each_output(equation) * math.prod(equation.outvars[0].aval.shape)


def _each_output(equation: JaxprEqn) -> int:
    """Counts the multiply-adds behind each value of the output."""
    settings = equation.params
    if equation.primitive.name == "conv_general_dilated":
        # Its input channels are those of one group.
        kernel = equation.invars[1].aval.shape
        return math.prod(kernel) // kernel[settings["dimension_numbers"].rhs_spec[0]]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = settings["dimension_numbers"]
        return math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 0
