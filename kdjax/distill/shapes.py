"""Shapes and types of a network's outputs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.distill.method import Outputs
from kdjax.forward import classifier_of


@functools.cache
def outputs(network: nn.Module, image_shape: tuple[int, int, int]) -> Outputs:
    """Returns the shapes and types of a network's outputs on one image.

    Raises:
      ValueError: if it is not for such images.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    return Outputs(*found, classifier=classifier_of(variables["params"]))
