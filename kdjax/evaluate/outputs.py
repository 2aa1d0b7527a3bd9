"""What a trained network answers to all images of a split."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from kdjax import distill
from kdjax import step as step_lib
from kdjax.data import pipeline
from kdjax.data.split import LazySplit
from kdjax.forward import forward
from kdjax.runs.trained import TrainedModel, check_shapes


def compute(
    run: TrainedModel,
    split: LazySplit,
    config: ml_collections.ConfigDict,
    *,
    batch_size: int,
    name: str,
    read: Callable[[distill.Outputs], jax.Array],
    what: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Applies a network to every image once, in float32, with running statistics.

    Args:
      run: the network; the images are normalized as its own were.
      split: the images.
      config: the `data` part of a configuration: how they are cropped.
      batch_size: number of images at once; the result does not depend on it.
      name: of the network, for messages.
      read: takes what is wanted, [B, D], from the outputs.
      what: that is, for messages.

    Returns:
      What was read, [N, D], and the class of each image, [N].

    Raises:
      ValueError: if the network does not fit images of this size, if an image cannot be
        decoded, or if what was read is not finite.
    """
    network = run.network(split.image_shape)
    check_shapes(name, network, run.variables, split.image_shape)
    config = config.copy_and_resolve_references()
    config.mean, config.std = run.data.mean, run.data.std
    devices = jax.local_devices()
    batches = pipeline.eval_batches(
        split,
        config,
        batch_size=batch_size + -batch_size % len(devices),
        mesh=Mesh(np.asarray(devices), (step_lib.DEVICES,)),
    )

    def apply(variables, replicated, sharded):
        batch = batches.make_batch(replicated, sharded)
        outputs, _ = forward(network, variables, batch.image, train=False)
        return read(outputs).astype(jnp.float32), batch.label

    step = step_lib.data_parallel(apply, devices, in_axes=(None, None, 0), out_axes=0)
    variables = jax.device_put(run.variables, step_lib.replicated(devices))
    parts = [jax.device_get(step(variables, *batch)) for batch in batches]
    found, label = (
        np.concatenate([part.reshape(-1, *part.shape[2:]) for part in column])
        for column in zip(*parts, strict=True)
    )
    found, label = found[: split.num_examples], label[: split.num_examples]
    if bad := np.count_nonzero(~np.isfinite(found).all(axis=1)):
        raise ValueError(
            f"{name}: the {what} of {bad} of {len(found)} images are not finite"
        )
    return found, label
