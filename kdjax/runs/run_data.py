"""The data set of a trained network, as far as it can be found now."""

import pathlib
from typing import NamedTuple

import ml_collections

from kdjax.data import datasets
from kdjax.data.messages import some
from kdjax.data.split import Description, LazySplit
from kdjax.runs import inputs
from kdjax.runs.trained import TrainedModel

#: Data sets that lie in no folder of the user's.
WITHOUT_FOLDER = ("", "digits")


class RunData(NamedTuple):
    """The data set of a run.

    Attributes:
      config: the `data` part of the run's configuration, with what was overridden, for
        the streaming pipeline.
      description: of the data set; None if it is not there, or has other classes now.
      problem: why there is no description, in one line; else "".
      class_names: in the order of the labels; None if they are not known.
    """

    config: ml_collections.ConfigDict
    description: Description | None
    problem: str
    class_names: tuple[str, ...] | None

    def image_shape(self) -> tuple[int, int, int]:
        """Returns [H, W, 3].

        Raises:
          ValueError: if it is not known.
        """
        if self.description is not None:
            return self.description.image_shape
        if size := self.config.image_size:
            return (size, size, 3)
        raise ValueError(
            f"the size of the images is not known ({self.problem}): --data_dir says"
            " where the data set is, or --image_size how large its images are"
        )

    def load(self, split: str) -> LazySplit | None:
        """Opens a split, see `datasets.Data`; raises as `datasets.load`."""
        config = self.config.copy_and_resolve_references()
        if split == "test":
            # Parts of the training images, however few there are, do not matter.
            config.train_fraction, config.validation_fraction = 1.0, 0.0
        return getattr(datasets.load(config, self.description), split)


def find(
    workdir: pathlib.Path,
    run: TrainedModel,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
) -> RunData:
    """Looks for the data set of a run, without reading its images.

    Args:
      workdir: of the run.
      run: the trained network.
      data_dir: where the data set is now; None for where it was.
      image_size: in place of `data.image_size`; None for that of the run.

    Raises:
      ValueError: if the data set at `data_dir` cannot be used, or has other classes
        than the network.
      FileNotFoundError: if it is not prepared at `data_dir`.
    """
    config = run.data
    if data_dir is not None:
        if config.name in WITHOUT_FOLDER:
            raise ValueError(
                f"--data_dir={data_dir!r} but data.name={config.name!r} is not read"
                " from a folder"
            )
        config.data_dir = data_dir
    if image_size is not None:
        if image_size < 1:
            raise ValueError(f"--image_size={image_size} is less than 1")
        config.image_size = image_size
    # The images are read once, and perhaps only a few of them.
    config.pipeline = "streaming"
    names = inputs.class_names(workdir)
    if not config.name:
        return RunData(config, None, "the data set of the run is not known", names)
    try:
        description = datasets.describe(config)
        _check_classes(names, description, run.num_classes)
    except (ValueError, OSError) as error:
        if data_dir is not None:
            raise
        return RunData(config, None, " ".join(str(error).split()), names)
    return RunData(config, description, "", description.class_names)


def _check_classes(
    stored: tuple[str, ...] | None, description: Description, num_classes: int
) -> None:
    """Rejects a data set with other classes than those of the network."""
    found = description.class_names
    if len(found) != num_classes:
        raise ValueError(
            f"the network has {num_classes} classes, and the data set"
            f" {len(found)}: {some(found)}"
        )
    if stored and (difference := inputs.other_class(stored, found)):
        raise ValueError(
            f"the data set has other classes than the network: {difference}"
        )
