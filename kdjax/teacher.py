"""The teacher: a network that an earlier run trained."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdjax import models, objective, run_directory
from kdjax.checkpoint import FOLDER, Checkpoints
from kdjax.data import augment
from kdjax.data.split import Split
from kdjax.distill import Outputs


class LoadedTeacher(NamedTuple):
    """A trained network and its variables, on the host."""

    network: nn.Module
    variables: dict[str, Any]


def load(
    config: ml_collections.ConfigDict,
    num_classes: int,
    image_shape: tuple[int, int, int],
    **kwargs: Any,
) -> LoadedTeacher:
    """Loads the newest checkpoint of the run that trained the teacher.

    Args:
      config: the `teacher` part of a configuration.
      num_classes: of the data set.
      image_shape: of the data set, [H, W, 3].
      **kwargs: passed to `models.build`.

    Raises:
      ValueError: if the directory holds no trained network, or another one: names the
        field, both values, or the variables that differ.
    """
    workdir = pathlib.Path(config.checkpoint)
    trained = run_directory.read_config(workdir)
    field = f"teacher.checkpoint={str(workdir)!r}"
    if trained is None:
        raise ValueError(f"{field} is not the work directory of a run")
    if trained["model"] != config.model:
        raise ValueError(
            f"{field} holds model={trained['model']!r}, but "
            f"teacher.model={config.model!r}"
        )
    # Opening checkpoints that are not there would create their folder.
    checkpoints = (workdir / FOLDER).is_dir() and Checkpoints(workdir)
    if not checkpoints or checkpoints.latest_step is None:
        raise ValueError(f"{field} holds no checkpoint yet: train the teacher first")
    saved = checkpoints.restore_as_saved()
    checkpoints.close()
    variables = {
        collection: jax.device_get(saved[collection]["student"])
        for collection in ("params", "batch_stats")
    }
    network = models.build(config.model, num_classes, **kwargs)
    _check_shapes(field, network, variables, image_shape)
    return LoadedTeacher(network, variables)


def _check_shapes(
    field: str,
    network: nn.Module,
    variables: dict[str, Any],
    image_shape: tuple[int, int, int],
) -> None:
    """Raises a ValueError that lists the variables with other names or shapes."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    wanted, found = (
        {
            "/".join(path): leaf.shape
            for path, leaf in flax.traverse_util.flatten_dict(dict(tree)).items()
        }
        for tree in (wanted, variables)
    )
    differ = [
        f"{name} {found.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if differ:
        raise ValueError(f"{field} does not fit the teacher: {'; '.join(differ)}")


def check_above_chance(accuracy: float, num_classes: int, num_examples: int) -> None:
    """Refuses a teacher that knows nothing.

    Args:
      accuracy: on the test split, a fraction.
      num_classes: chance is one in so many.
      num_examples: of the test split; sets how far above chance luck can lead.

    Raises:
      ValueError: if the accuracy is within three standard errors of chance.
    """
    chance = 1 / num_classes
    luck = 3 * (chance * (1 - chance) / num_examples) ** 0.5
    if accuracy <= chance + luck:
        raise ValueError(
            f"teacher.checkpoint: the teacher's test accuracy is {accuracy:.2%}, no "
            f"better than chance ({chance:.2%}): it is not trained for this data set"
        )


def outputs_on(
    teacher: LoadedTeacher,
    split: Split,
    config: ml_collections.ConfigDict,
    *,
    batch_size: int,
    train: bool,
) -> Iterator[Outputs]:
    """Walks over the images of a split in order, not augmented, on one device.

    Args:
      teacher: the network; statistics of a batch are those of the one device.
      split: the images.
      config: the `data` part of a configuration.
      batch_size: size of every batch; a smaller one at the end is left out, since its
        statistics would differ, unless it is the only one.
      train: batch norms use the statistics of the batch.

    Yields:
      The outputs on each batch.
    """
    network = teacher.network.clone(axis_name=None)

    @jax.jit
    def outputs(image):
        image = augment.normalise(image, mean=config.mean, std=config.std)
        return objective.forward(network, teacher.variables, image, train=train)[0]

    batch_size = min(batch_size, len(split.label))
    for start in range(0, len(split.label) - batch_size + 1, batch_size):
        yield outputs(np.asarray(split.image[start : start + batch_size]))
