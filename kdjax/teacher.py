"""The teacher: a network that an earlier run trained."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdjax import models
from kdjax.data import normalization
from kdjax.data.normalization import Normalization
from kdjax.data.split import LazySplit, Split
from kdjax.distill import Outputs
from kdjax.evaluate import Evaluation
from kdjax.forward import forward
from kdjax.runs import console, inputs, trained

#: Level of the test whether a teacher is better than chance.
_LEVEL = 0.01


class LoadedTeacher(NamedTuple):
    """A trained network and its variables.

    Attributes:
      network: takes images normalized as the student's are, whatever its own were
        normalized with.
      local: the same for use on one device: statistics of a batch are never averaged
        over devices.
      variables: collections `params` and `batch_stats`.
      evaluation: on the split that is evaluated on during training, once measured;
        None of a teacher for other classes.
    """

    network: nn.Module
    local: nn.Module
    variables: dict[str, Any]
    evaluation: Evaluation | None = None

    @property
    def prediction(self) -> np.ndarray | None:
        """The classes that it predicts on that split, [N]; None if not measured."""
        return self.evaluation and self.evaluation.prediction


class Renormalized(nn.Module):
    """A network that was trained on images normalized with other constants.

    Its variables are those of the network within.

    Attributes:
      network: takes images normalized with its own constants.
      scale: of each color; with `shift` it turns the given images into those.
      shift: of each color.
    """

    network: nn.Module
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def setup(self) -> None:
        nn.share_scope(self, self.network)

    def __call__(self, image: jax.Array, train: bool) -> Any:
        """Applies the network to [B, H, W, 3] images."""
        scale, shift = (
            jnp.asarray(constants, image.dtype)[None, None, None]
            for constants in (self.scale, self.shift)
        )
        return self.network(image * scale + shift, train)


class WithoutLogits(nn.Module):
    """A network whose logits are of other classes than the data's: it gives none.

    Its variables are those of the network within.

    Attributes:
      whole: gives logits and features. Not called `network`, since two modules that
        share a scope cannot have a submodule of one name.
    """

    whole: nn.Module

    def setup(self) -> None:
        nn.share_scope(self, self.whole)

    def __call__(self, image: jax.Array, train: bool) -> tuple[None, models.Features]:
        """Returns the network's features of [B, H, W, 3] images."""
        _, features = self.whole(image, train)
        return None, features._replace(heads=())


def load(
    config: ml_collections.ConfigDict,
    num_classes: int,
    image_shape: tuple[int, int, int],
    *,
    normalization: Normalization,
    class_names: Sequence[str] | None = None,
    axis_name: str | None = None,
    **kwargs: Any,
) -> LoadedTeacher:
    """Loads a checkpoint of the run that trained the teacher.

    Args:
      config: the `teacher` part of a configuration.
      num_classes: of the data set.
      image_shape: of the data set, [H, W, 3].
      normalization: of the images that the teacher will be given.
      class_names: of the data set, in the order of the labels; None does not compare
        them with the teacher's.
      axis_name: device axis of synchronized batch norms, or None.
      **kwargs: passed to `TrainedModel.network`.

    Raises:
      ValueError: if the directory holds no trained network, or another one: names the
        field, both values, or the variables that differ.
    """
    field = f"teacher.checkpoint={config.checkpoint!r}"
    run = trained.load_finished(config.checkpoint, "teacher", step=config.step)
    if run.config["model"] != config.model:
        raise ValueError(
            f"{field} holds model={run.config['model']!r}, but "
            f"teacher.model={config.model!r}"
        )
    other = config.classes == "other"
    if run.num_classes != num_classes and not other:
        raise ValueError(
            f"{field} has {run.num_classes} classes, but the data set has "
            f"{num_classes}: train it on these first, with init.checkpoint="
            f"{config.checkpoint!r} and init.classifier='new', or choose methods that "
            "do not read its logits and set teacher.classes='other'"
        )
    if class_names is not None and config.classes == "same":
        _check_class_names(field, config.checkpoint, class_names)
    trained_with = Normalization(
        *(tuple(run.config["data"][name]) for name in ("mean", "std"))
    )

    def build(axis_name: str | None) -> nn.Module:
        network = run.network(image_shape, axis_name=axis_name, **kwargs)
        network = _renormalized(network, given=normalization, wanted=trained_with)
        return WithoutLogits(network) if other else network

    network = build(axis_name)
    trained.check_shapes(field, network, run.variables, image_shape)
    return LoadedTeacher(network, build(None), run.variables)


def _check_class_names(field: str, workdir: str, class_names: Sequence[str]) -> None:
    """Rejects a teacher of classes with other names, or in another order."""
    known = inputs.class_names(pathlib.Path(workdir))
    if known and (difference := inputs.other_class(known, class_names)):
        raise ValueError(
            f"{field} was trained for other classes than those of the data set: "
            f"{difference}; teacher.classes='any' does not compare their names"
        )


def _renormalized(
    network: nn.Module, *, given: Normalization, wanted: Normalization
) -> nn.Module:
    """Returns the network for images normalized with other constants than it wants."""
    if wanted == given:
        return network
    mean, std = (np.asarray(constants, np.float64) for constants in given)
    wanted_mean, wanted_std = (np.asarray(c, np.float64) for c in wanted)
    return Renormalized(
        network, tuple(std / wanted_std), tuple((mean - wanted_mean) / wanted_std)
    )


def check_above_chance(evaluation: Evaluation, split: str) -> None:
    """Rejects a teacher that is no better than answering the most frequent class.

    Decides by a binomial test of the number of right answers. If there are so few
    images that not even a perfect teacher would pass, prints a warning instead.

    Args:
      evaluation: of the teacher.
      split: name of the evaluated split.

    Raises:
      ValueError: if answering the most frequent class would give as many right answers
        in more than `_LEVEL` of all splits.
    """
    from scipy import special  # Slow to import.

    count = len(evaluation.label)
    right = int(np.sum(evaluation.prediction == evaluation.label))
    chance = np.bincount(evaluation.label).max() / count
    if chance**count > _LEVEL:
        console.warn(
            f"{count} {split} images, {chance:.0%} of them of one class, are too few "
            "to tell whether the teacher is better than chance"
        )
    # The probability of as many right answers or more.
    elif special.bdtrc(right - 1, count, chance) > _LEVEL:
        raise ValueError(
            f"teacher.checkpoint: the teacher's {split} accuracy is "
            f"{right / count:.2%}, no better than chance ({chance:.2%} of the images "
            "are of one class): it is not trained for this data set"
        )


def outputs_on(
    teacher: LoadedTeacher,
    split: Split | LazySplit,
    config: ml_collections.ConfigDict,
    *,
    batch_size: int,
    train: bool,
) -> Iterator[Outputs]:
    """Applies the teacher to the images of a split in order, on one device.

    The images are not augmented.

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

    @jax.jit
    def outputs(variables, image):
        image = normalization.normalize(image, mean=config.mean, std=config.std)
        return forward(teacher.local, variables, image, train=train)[0]

    variables = jax.device_put(teacher.variables, jax.local_devices()[0])
    batch_size = min(batch_size, split.num_examples)
    for start in range(0, split.num_examples - batch_size + 1, batch_size):
        image = split.pixels(np.arange(start, start + batch_size))
        yield outputs(variables, image)
