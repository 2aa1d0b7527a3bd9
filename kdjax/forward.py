"""Applies networks to images."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.distill.method import Classifier, Outputs


def forward(
    network: nn.Module,
    variables: Mapping[str, Any],
    image: jax.Array,
    *,
    train: bool,
    label: jax.Array | None = None,
    key: jax.Array | None = None,
    rotations: bool = False,
) -> tuple[Outputs, Any]:
    """Applies a network to images.

    Args:
      network: from `models.build`.
      variables: its `params` and `batch_stats`.
      image: [B, H, W, 3].
      train: batch norms use the statistics of the batch.
      label: classes whose logits are differentiated with respect to the images, [B];
        None computes no such gradient.
      key: randomness of a network that drops something in training.
      rotations: in the same pass, also to the images turned by 90, 180 and 270 degrees.

    Returns:
      Outputs and new `batch_stats`.
    """
    if rotations:
        count, image = len(image), jnp.concatenate([image, rotated(image)])
        if label is not None:
            label = jnp.concatenate([label, jnp.repeat(label, 3)])
        outputs, stats = forward(
            network, variables, image, train=train, label=label, key=key
        )
        upright = jax.tree.map(lambda x: x[:count], outputs)
        turned = jax.tree.map(lambda x: x[count:], outputs)
        return upright._replace(rotated=turned), stats
    if label is not None:

        def true_logits(image):
            outputs, stats = forward(network, variables, image, train=train, key=key)
            true = jnp.take_along_axis(outputs.logits, label[:, None], 1)
            return jnp.sum(true), (outputs, stats)

        gradient, (outputs, stats) = jax.grad(true_logits, has_aux=True)(image)
        return outputs._replace(input_gradient=gradient), stats
    if not train:
        return Outputs(*network.apply(variables, image, train=False)), None
    streams = None if key is None else {"dropout": key}
    outputs, updates = network.apply(
        variables, image, train=True, mutable=["batch_stats"], rngs=streams
    )
    # A network without batch norms has none.
    return Outputs(*outputs), updates.get("batch_stats", {})


def rotated(image: jax.Array) -> jax.Array:
    """Turns images counterclockwise by 90, 180 and 270 degrees.

    Args:
      image: [B, S, S, C].

    Returns:
      The three of the first image, those of the second, and so on, [3B, S, S, C].
    """
    turned = [jnp.rot90(image, quarters, axes=(1, 2)) for quarters in (1, 2, 3)]
    return jnp.stack(turned, axis=1).reshape(-1, *image.shape[1:])


def student_outputs(
    student: nn.Module,
    batch_stats: Any,
    image: jax.Array,
    params: Any,
    *,
    key: jax.Array | None = None,
    label: jax.Array | None = None,
    rotations: bool = False,
    classifier: bool = False,
) -> tuple[Outputs, Any]:
    """Applies the student with the statistics of the batch.

    Args:
      student: from `models.build`.
      batch_stats: its running statistics.
      image: [B, H, W, 3].
      params: its parameters.
      key: see `forward`.
      label: see `forward`.
      rotations: see `forward`.
      classifier: whether the outputs hold its classifier.

    Returns:
      Outputs and new `batch_stats`.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    outputs, stats = forward(
        student, variables, image, train=True, label=label, key=key, rotations=rotations
    )
    if classifier:
        outputs = outputs._replace(classifier=classifier_of(params))
    return outputs, stats


def teacher_outputs(
    teacher: nn.Module,
    variables: Mapping[str, Any],
    image: jax.Array,
    *,
    train: bool,
    label: jax.Array | None = None,
    rotations: bool = False,
    classifier: bool = False,
) -> Outputs:
    """Applies the teacher; drops its new running statistics and its gradient.

    Args:
      teacher: trained network.
      variables: its `params` and `batch_stats`.
      image: [B, H, W, 3].
      train: batch norms use the statistics of the batch.
      label: see `forward`.
      rotations: see `forward`.
      classifier: whether the outputs hold its classifier.
    """
    outputs, _ = forward(
        teacher, variables, image, train=train, label=label, rotations=rotations
    )
    if classifier:
        outputs = outputs._replace(classifier=classifier_of(variables["params"]))
    return jax.lax.stop_gradient(outputs)


def classifier_of(params: Mapping[str, Any]) -> Classifier | None:
    """Returns the linear layer `classifier` of a network; None if it has none."""
    layer = params.get("classifier", {})
    if layer.keys() != {"kernel", "bias"}:
        return None
    return Classifier(layer["kernel"], layer["bias"])
