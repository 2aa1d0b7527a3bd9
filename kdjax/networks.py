"""The networks that a configuration names, with the heads that methods bring.

Whatever applies the network of a run builds it here, from the run's configuration
alone: what trains, evaluates, exports, or learns from it.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from kdjax import distill, models
from kdjax.cli import home
from kdjax.distill import Method, heads
from kdjax.runs import workdirs

ImageShape = tuple[int, int, int]


def student(
    config: Mapping[str, Any],
    num_classes: int,
    image_shape: ImageShape,
    *,
    rates: Mapping[str, float] | None = None,
    **settings: Any,
) -> nn.Module:
    """Builds the network that a configuration trains.

    Args:
      config: of the run, also as read from its work directory.
      num_classes: size of the logits.
      image_shape: of the images that it is applied to, [H, W, 3].
      rates: what it drops in training, see `models.Family`.
      **settings: `dtype` and `axis_name`, as for `models.build`.

    Raises:
      ValueError: if there is no such network, or it cannot be given the head.
    """
    network = models.build(config["model"], num_classes, **(rates or {}), **settings)
    methods = bringing_heads(config, **settings)
    # By its name: the work directory may be gone.
    taught = models.build(config["teacher"]["model"], num_classes) if methods else None
    return heads.with_head(network, methods, image_shape, taught)


def teacher(
    config: Mapping[str, Any],
    num_classes: int,
    image_shape: ImageShape,
    **settings: Any,
) -> nn.Module:
    """Builds the network that teaches, with the head that its own training gave it.

    Before that training is there, it is the network without a head.

    Args:
      config: of the run that it teaches.
      num_classes: size of its logits.
      image_shape: of the images that it is applied to, [H, W, 3].
      **settings: `dtype` and `axis_name`, as for `models.build`.

    Raises:
      ValueError: if there is no such network, or a method brings a head for which it
        must have none.
    """
    name, checkpoint = config["teacher"]["model"], config["teacher"]["checkpoint"]
    trained = workdirs.read_config(home.expanded(checkpoint)) if checkpoint else None
    if trained is None or trained["model"] != name:
        return models.build(name, num_classes, **settings)
    own = sorted(bringing_heads(trained))
    if own and (wanting := sorted(bringing_heads(config))):
        raise ValueError(
            f"teacher.checkpoint={checkpoint!r} got a head from methods={own}, and "
            f"methods={wanting} need a teacher without: train {name!r} alone"
        )
    return student(trained, num_classes, image_shape, **settings)


def bringing_heads(config: Mapping[str, Any], **settings: Any) -> dict[str, Method]:
    """Builds the methods of a configuration that bring a head, by name.

    Args:
      config: of a run. What is no method any more is passed over, and so is one in a
        file that is not imported.
      **settings: `dtype` and `axis_name` of the network.
    """
    chosen = {}
    for name, given in config.get("methods", {}).items():
        method = distill.METHODS.get(given.get("method", name))
        if method is not None and method.brings_head:
            # Tuples are lists in JSON.
            chosen[name] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in given.items()
            }
    internal = {"dtype": "dtype", "axis_name": "batch_norm_axis"}
    return distill.build(chosen, **{internal[k]: v for k, v in settings.items()})
