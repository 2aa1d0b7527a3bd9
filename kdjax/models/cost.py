"""What a network costs: its parameters, and its multiply-adds for one image."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, jaxprs_in_params

#: What runs its body any number of times, or not at all.
_CONTROL_FLOW = ("cond", "scan", "while")


def parameters(variables: Mapping[str, Any]) -> int:
    """Counts what is trained: running statistics are not."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def multiply_adds(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Counts the multiply-adds of convolutions and linear layers for one image.

    Counted in the program itself. Those with the zeros of the padding are in, as is
    the custom; biases, batch norms, ReLUs, sums and pools are not.

    Args:
      network: from `models.build`.
      image_shape: [H, W, 3].

    Raises:
      ValueError: if the network has loops or branches.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def init(x):
        return network.init(jax.random.key(0), x, train=False)

    def logits(variables, x):
        return network.apply(variables, x, train=False)[0]

    return _count(jax.make_jaxpr(logits)(jax.eval_shape(init, image), image))


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
