"""Weights that a training starts from: those of an earlier run or of an import."""

from typing import Any

import flax.linen as nn
import ml_collections

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
      ValueError: if the directory holds no finished run, or another network, or one of
        another number of classes whose classifier is to be kept.
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
    left_out = (trained.CLASSIFIER,) if init.classifier == NEW_CLASSIFIER else ()
    if not left_out and run.num_classes != num_classes:
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


def replace(drawn: dict[str, Any], loaded: dict[str, Any] | None) -> dict[str, Any]:
    """Returns drawn variables, or loaded ones of the modules that were loaded."""
    loaded = loaded or {}
    return {name: {**x, **loaded.get(name, {})} for name, x in drawn.items()}
