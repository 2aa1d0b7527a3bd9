"""Which images a trained network is evaluated on."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from kdjax.cli import home
from kdjax.data import datasets
from kdjax.data.messages import counted
from kdjax.data.split import LazySplit
from kdjax.runs import run_data, trained
from kdjax.runs.run_data import RunData

#: Splits of a data set.
SPLITS = ("test", "train", "validation")


class Images(NamedTuple):
    """Images to evaluate on.

    Attributes:
      split: the images; their labels are -1 if they have none.
      data: the data set of the run.
      class_names: in the order of the labels.
      labeled: whether their classes are known.
      what: says which they are.
    """

    split: LazySplit
    data: RunData
    class_names: tuple[str, ...]
    labeled: bool
    what: str

    def names(self) -> Sequence[str]:
        """Returns the images' file names, or their numbers where there are none."""
        names = getattr(self.split.source, "names", None)
        if names is None:
            return list(map(str, range(self.split.num_examples)))
        return [names[index] for index in self.split.indices]


def find(
    workdir: pathlib.Path,
    run: trained.TrainedModel,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    unlabeled: str | None = None,
    image_size: int | None = None,
    bad_images: str | None = None,
) -> Images:
    """Opens the images; they are decoded when they are read.

    Args:
      workdir: of the run.
      run: the network.
      split: of the run's data set; "test" if it is None.
      data_dir: a folder FOLDER/<class>/*.jpg, or where the run's data set is now.
      unlabeled: a file or a folder of images without classes, instead of the data set.
      image_size: in place of `data.image_size`.
      bad_images: in place of `data.bad_images`.

    Raises:
      ValueError: in one line, if the images cannot be used or have other classes.
      FileNotFoundError: if there are none.
    """
    if unlabeled is not None and (split or data_dir):
        raise ValueError("--images excludes --data_dir and --split")
    if unlabeled is not None and not home.expanded(unlabeled).exists():
        raise FileNotFoundError(f"--images={unlabeled!r} does not exist")
    in_folder = _has_classes(run, data_dir)
    data = run_data.find(
        workdir,
        run,
        data_dir=None if in_folder else data_dir,
        image_size=image_size,
    )
    if bad_images is not None:
        data.config.bad_images = bad_images
    if in_folder:
        if split:
            raise ValueError(
                f"--split={split} but --data_dir={data_dir!r} holds folders of classes,"
                " no splits"
            )
        return _of_classes(data, run, data_dir)
    if unlabeled is not None:
        return _of_files(data, run, unlabeled)
    return _of_run(data, split or "test")


def _has_classes(run: trained.TrainedModel, data_dir: str | None) -> bool:
    """Tells whether a folder holds folders of classes, and not the run's data set."""
    # With a test fraction, the data set itself may look like that.
    if data_dir is None or run.data.test_fraction:
        return False
    from kdjax.data.sources import folder_layout  # Needs Pillow.

    folder = home.expanded(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"--data_dir={data_dir!r} is not a folder")
    found = set(folder_layout.class_folders(folder))
    if run.data.name == "folder":
        return not found & {"train", *folder_layout.TESTS}
    return bool(found) and datasets.prepared_folder(run.data) not in found


def _of_run(data: RunData, split: str) -> Images:
    config = data.config
    if data.description is None:
        raise ValueError(
            f"{data.problem}: --data_dir says where the data set is now, or a folder"
            " FOLDER/<class>/*.jpg of other images"
        )
    found = data.load(split)
    if found is None:
        raise ValueError(
            f"--split={split} but data.validation_fraction={config.validation_fraction}"
            ": the run held out no validation images"
        )
    name = config.data_dir if config.name == "folder" else config.name
    what = f"{counted(found.num_examples, f'{split} image')} of {name}"
    return Images(found, data, data.class_names, True, what)


def _of_classes(data: RunData, run: trained.TrainedModel, folder: str) -> Images:
    from kdjax.data.sources import folder as source  # Needs Pillow.
    from kdjax.data.sources import folder_layout

    note, names = "", data.class_names
    if names is None:
        names = folder_layout.class_folders(home.expanded(folder))
        note = "; the network's class names are not known: it has those in sorted order"
        if len(names) != run.num_classes:
            raise ValueError(
                f"the network has {run.num_classes} classes of unknown names"
                f" ({data.problem}), and --data_dir={folder!r} has {len(names)} folders"
            )
    opened = source.open_labeled(folder, names, data.config.bad_images)
    split = LazySplit(opened, range(len(opened)), data.image_shape())
    what = f"{counted(len(opened), 'image')} in {folder}{note}"
    return Images(split, data, names, True, what)


def _of_files(data: RunData, run: trained.TrainedModel, path: str) -> Images:
    from kdjax.data.sources import folder as source  # Needs Pillow.

    opened = source.open_unlabeled(path, data.config.bad_images)
    split = LazySplit(opened, range(len(opened)), data.image_shape())
    names = data.class_names or tuple(map(str, range(run.num_classes)))
    what = f"{counted(len(opened), 'image')} in {path}"
    return Images(split, data, names, False, what)
