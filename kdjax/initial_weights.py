"""Weights that a training starts from: those of an earlier run or of an import."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from kdjax import models, networks
from kdjax.distill import heads
from kdjax.runs import console, trained

#: Value of `init.classifier` that leaves out the earlier run's last layer.
NEW_CLASSIFIER = "new"


def load(
    config: ml_collections.ConfigDict,
    network: nn.Module,
    num_classes: int,
    image_shape: tuple[int, int, int],
) -> dict[str, Any] | None:
    """Loads the network that `init.checkpoint` names.

    Args:
      config: of the run.
      network: that is trained.
      num_classes: of the data set.
      image_shape: of the data set, [H, W, 3].

    Returns:
      Collections `params` and `batch_stats`, without the classifier if a new one is
      asked for; None if the training starts from random weights.

    Raises:
      ValueError: if the directory holds no finished run, or another network, one with
        another head, or one of another number of classes whose classifier is to be
        kept.
    """
    init = config.init
    if not init.checkpoint:
        return None
    field = f"init.checkpoint={init.checkpoint!r}"
    run = trained.load_finished(init.checkpoint, "init", step=init.step)
    if run.config["model"] != config.model:
        raise ValueError(
            f"{field} holds model={run.config['model']!r}, but model={config.model!r}"
        )
    own, wanted = (networks.bringing_heads(x) for x in (run.config, config))
    if own and own != wanted:
        raise ValueError(
            f"{field} ends in the head of methods={sorted(own)}, which this training "
            "does not give it"
        )
    left_out = set(heads.taken_from_teacher(wanted))
    if wanted and not own:
        left_out |= _brought(config, network, num_classes, image_shape)
    if init.classifier == NEW_CLASSIFIER:
        left_out.update(trained.LAST_LAYERS)
    if trained.CLASSIFIER not in left_out and run.num_classes != num_classes:
        raise ValueError(
            f"{field} has {run.num_classes} classes, but data.name="
            f"{config.data.name!r} has {num_classes}: init.classifier="
            f"{NEW_CLASSIFIER!r} replaces the last layer"
        )
    variables = {
        collection: {name: x for name, x in modules.items() if name not in left_out}
        for collection, modules in run.variables.items()
    }
    trained.check_shapes(field, network, variables, image_shape, left_out=left_out)
    for name in ("mean", "std"):
        if (before := tuple(run.data[name])) != (now := tuple(config.data[name])):
            console.warn(f"{field} was trained with data.{name}={before}, not {now}")
    return variables


def _brought(
    config: ml_collections.ConfigDict,
    network: nn.Module,
    num_classes: int,
    image_shape: tuple[int, int, int],
) -> set[str]:
    """Returns the modules that a network has of a head, by name."""
    image = jnp.zeros((1, *image_shape))
    with_head, without = (
        jax.eval_shape(lambda x=x: x.init(jax.random.key(0), image, train=False))
        for x in (network, models.build(config.model, num_classes))
    )
    return with_head["params"].keys() - without["params"].keys()


def replace(drawn: dict[str, Any], loaded: dict[str, Any] | None) -> dict[str, Any]:
    """Returns drawn variables, or loaded ones of the modules that were loaded."""
    loaded = loaded or {}
    return {name: {**x, **loaded.get(name, {})} for name, x in drawn.items()}
