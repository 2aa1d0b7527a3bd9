"""Checks that the batches of a training can be cut, and learned from."""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import ml_collections

from kdjax import networks
from kdjax.data import subsets
from kdjax.data.split import Description
from kdjax.distill import Method
from kdjax.distill.bases.relational import RelationalMethod


def check(
    config: ml_collections.ConfigDict,
    description: Description,
    methods: Mapping[str, Method],
    devices: int | None,
) -> None:
    """Rejects batches that do not fit the data, the devices or what is learned.

    Args:
      config: of the training.
      description: of the data set.
      methods: terms of the distillation loss, by name.
      devices: number of devices that share each batch; None if it is not known.

    Raises:
      ValueError: if the fractions of the data set leave too few images; if the devices
        cannot share a batch; if one image is alone in a batch, and a method compares it
        with others, or a batch norm finds one value of each channel.
    """
    from kdjax.data.pipeline.batch_plan import BatchPlan  # Imports both pipelines.

    images = subsets.num_train(config.data, description)
    if config.data.name == "folder" and config.data.bad_images == "skip":
        return  # How many are left is known once all are decoded.
    plan = BatchPlan(
        images, config.batch_size, devices or 1, config.data.drop_remainder, config.seed
    )
    _check_relations(config, methods, plan.size(0), devices or 1)
    sharing = 1 if config.batch_norm == "synchronized" else devices or 1
    for name, size in {"batch": plan.size(0), "last batch": plan.rest_size}.items():
        if size == sharing:
            _check_batch_norms(config, description, methods, f"{name} of {size}")


def _check_relations(
    config: ml_collections.ConfigDict,
    methods: Mapping[str, Method],
    size: int,
    devices: int,
) -> None:
    """Rejects batches of one image where a method compares the images of a batch."""
    for name, method in methods.items():
        if not isinstance(method, RelationalMethod):
            continue
        sharing = devices if method.scope == "per_device" else 1
        if size == sharing:
            raise ValueError(
                f"batch_size={config.batch_size} makes batches of {size}, but "
                f"methods.{name} compares the images of a batch"
                + f" on each of {sharing} devices"
                * (sharing > 1)
            )


def _check_batch_norms(
    config: ml_collections.ConfigDict,
    description: Description,
    methods: Mapping[str, Method],
    batch: str,
) -> None:
    """Rejects networks that would normalize one value, which leaves zero of it."""
    shape = description.image_shape
    given = config, description.num_classes, shape
    found = {f"model={config.model!r}": networks.student(*given)}
    if config.teacher.batch_norm == "batch" and any(
        method.needs_teacher for method in methods.values()
    ):
        found[f"teacher.model={config.teacher.model!r}"] = networks.teacher(*given)
    for name, network in found.items():
        norm = _norm_of_one_value(network, shape)
        if norm is not None:
            raise ValueError(
                f"batch_size={config.batch_size} makes a {batch}, which leaves the "
                f"batch norm {norm} of {name} one value of each channel"
                + "; data.drop_remainder=True leaves it out"
                * batch.startswith("last")
            )


def _norm_of_one_value(
    network: nn.Module, image_shape: tuple[int, int, int]
) -> str | None:
    """Returns a batch norm that one image gives maps of 1x1; None if none does."""
    found = []

    def look(call, args, kwargs, context):
        norm = isinstance(context.module, nn.BatchNorm)
        if norm and math.prod(args[0].shape[:-1]) == 1:
            found.append("/".join(context.module.path))
        return call(*args, **kwargs)

    image = jax.ShapeDtypeStruct((1, *image_shape), "float32")
    with nn.intercept_methods(look):
        jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)
    return found[0] if found else None
