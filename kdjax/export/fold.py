"""Folds batch norms into the preceding convolutions.

In evaluation a batch norm multiplies each channel by a number and adds another. If its
input is the output of a convolution, and nothing else on the way to the logits reads
that output, both go into the convolution's kernel and bias. This is decided from the
traced computation, not from names. Other batch norms, after a sum or a convolution that
a shortcut also reads, become one multiplication and one addition.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, JaxprEqn, Literal

Path = tuple[str, ...]


class Folded(NamedTuple):
    """A network without batch norms.

    Attributes:
      apply: `apply(variables, image)` returns the logits, [B, K].
      variables: for `apply`: `params` has biases where batch norms were folded, and
        the `scale` and `bias` that replace the others.
      convolutions: path of the convolution, by the path of the batch norm folded
        into it.
    """

    apply: Callable[[Mapping[str, Any], jax.Array], jax.Array]
    variables: dict[str, Any]
    convolutions: dict[Path, Path]


def fold_batch_norms(
    network: nn.Module, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> Folded:
    """Folds the batch norms of a trained network.

    Layers that run more than once, or inside a compiled or repeated part of the
    network, are left alone: what holds for one call may not hold for another.

    Args:
      network: from `models.build`.
      variables: its `params` and `batch_stats`.
      image_shape: [H, W, 3].
    """
    layers, convolutions = _trace(network, variables, image_shape)
    params, stats = (
        flax.traverse_util.flatten_dict(jax.device_get(dict(variables.get(name, {}))))
        for name in ("params", "batch_stats")
    )
    norms = {path for path, layer in layers.items() if isinstance(layer, nn.BatchNorm)}
    for path in norms:
        scale, offset = _scale_and_offset(layers[path], params, stats, path)
        if path in convolutions:
            for leaf in ("scale", "bias"):
                params.pop((*path, leaf), None)
            path = convolutions[path]
            kernel, bias = (*path, "kernel"), (*path, "bias")
            offset = offset + scale * params.get(bias, 0)
            params[kernel] = np.asarray(params[kernel] * scale, np.float32)
        else:
            params[*path, "scale"] = np.asarray(scale, np.float32)
        params[*path, "bias"] = np.asarray(offset, np.float32)
    stats = {path: leaf for path, leaf in stats.items() if path[:-1] not in norms}
    biased = {path for path in convolutions.values() if not layers[path].use_bias}

    def replace(run, args, kwargs, context):
        layer, path = context.module, context.module.path
        if context.method_name != "__call__":
            return run(*args, **kwargs)
        if path in convolutions:
            return args[0]
        if path in norms:
            output = args[0] * _of_channels(layer, "scale", args[0])
            return output + _of_channels(layer, "bias", output)
        output = run(*args, **kwargs)
        return (
            output + _of_channels(layer, "bias", output) if path in biased else output
        )

    def apply(folded, image):
        with nn.intercept_methods(replace):
            return network.apply(folded, image, train=False)[0]

    folded = {"params": params, "batch_stats": stats}
    nested = {
        name: flax.traverse_util.unflatten_dict(tree) for name, tree in folded.items()
    }
    return Folded(apply, nested, convolutions)


def _trace(
    network: nn.Module, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> tuple[dict[Path, nn.Module], dict[Path, Path]]:
    """Returns the layers by path, and the convolution of each foldable batch norm."""
    layers, runs = {}, Counter()

    def mark(run, args, kwargs, context):
        """Marks a batch norm's input, or a convolution's output, with its path."""
        layer = context.module
        norm = isinstance(layer, nn.BatchNorm)
        if context.method_name != "__call__" or not (
            norm or isinstance(layer, nn.Conv)
        ):
            return run(*args, **kwargs)
        if norm and not (layer.use_running_average and layer.axis == -1):
            return run(*args, **kwargs)
        name = "/".join(layer.path)
        layers[layer.path] = layer
        runs[layer.path] += 1
        if norm:
            return run(checkpoint_name(args[0], name), *args[1:], **kwargs)
        return checkpoint_name(run(*args, **kwargs), name)

    def logits(image):
        with nn.intercept_methods(mark):
            return network.apply(variables, image, train=False)[0]

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jaxpr = jax.make_jaxpr(logits)(image).jaxpr
    equations = _live(jaxpr)
    reads = Counter(
        v for e in equations for v in e.invars if not isinstance(v, Literal)
    )
    reads.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
    made, convolutions = {}, {}
    for equation in equations:
        path = tuple(str(equation.params.get("name")).split("/"))
        if equation.primitive.name != "name" or runs[path] != 1:
            continue
        if isinstance(layers[path], nn.Conv):
            made[equation.outvars[0]] = path
        elif reads[source := equation.invars[0]] == 1 and source in made:
            convolutions[path] = made[source]
    return layers, convolutions


def _live(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Returns the equations that the outputs depend on, in order."""
    needed, live = set(map(id, jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
            live.append(equation)
    return live[::-1]


def _scale_and_offset(
    layer: nn.BatchNorm,
    params: Mapping[Path, np.ndarray],
    stats: Mapping[Path, np.ndarray],
    path: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factor and the summand of each channel, in float64."""
    mean, variance = (np.float64(stats[*path, leaf]) for leaf in ("mean", "var"))
    scale = params.get((*path, "scale"), 1) / np.sqrt(variance + layer.epsilon)
    return scale, params.get((*path, "bias"), 0) - mean * scale


def _of_channels(layer: nn.Module, leaf: str, like: jax.Array) -> jax.Array:
    """Returns a parameter with one number per channel, shaped for [..., C]."""
    value = layer.get_variable("params", leaf)
    return value.reshape((1,) * (like.ndim - 1) + (-1,)).astype(like.dtype)
