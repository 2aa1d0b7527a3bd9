"""The logits of a trained network on all images of a split."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

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
) -> tuple[np.ndarray, np.ndarray]:
    """Applies a network to every image once, in float32.

    Args:
      run: the network; the images are normalized as its own were.
      split: the images.
      config: the `data` part of a configuration: how they are cropped.
      batch_size: number of images at once; the result does not depend on it.
      name: of the network, for messages.

    Returns:
      Logits [N, K], and the class of each image, [N].

    Raises:
      ValueError: if the network does not fit images of this size, if an image cannot be
        decoded, or if logits are not finite.
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

    def predict(variables, replicated, sharded):
        batch = batches.make_batch(replicated, sharded)
        outputs, _ = forward(network, variables, batch.image, train=False)
        return outputs.logits.astype(jnp.float32), batch.label

    step = step_lib.data_parallel(predict, devices, in_axes=(None, None, 0), out_axes=0)
    variables = jax.device_put(run.variables, step_lib.replicated(devices))
    found = [jax.device_get(step(variables, *batch)) for batch in batches]
    logits, label = (
        np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])
        for parts in zip(*found, strict=True)
    )
    logits, label = logits[: split.num_examples], label[: split.num_examples]
    if bad := np.count_nonzero(~np.isfinite(logits).all(axis=1)):
        raise ValueError(
            f"{name}: the logits of {bad} of {len(logits)} images are not finite"
        )
    return logits, label
