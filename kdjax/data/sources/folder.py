"""A folder of images: DIR/train/<class>/*.jpg and so on, and DIR/test or DIR/val.

The classes are the sorted names of the folders under `train`, labeled from 0. If there
are both `test` and `val`, `test` is used. Hidden files and folders are ignored.
"""

import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from kdjax.data.augment import crop_resize
from kdjax.data.sources.folder_files import (
    FolderSource,
    list_classes,
    list_splits,
    setting,
    some,
)
from kdjax.data.split import Description, Split


class Loaded(NamedTuple):
    """The splits of a folder.

    Attributes:
      splits: "train" and "test", in memory or as sources.
      skipped: number of files of each split that could not be decoded.
    """

    splits: dict[str, Split] | dict[str, FolderSource]
    skipped: dict[str, int]


def describe(data_dir: str, image_size: int = 0) -> Description:
    """Returns the metadata of a folder, from its listing and its first image.

    Args:
      data_dir: the folder.
      image_size: height and width of the images after cropping and resizing; 0 for the
        size of the first image that can be decoded.

    Raises:
      ValueError: in one line, if the folder does not have the layout of this module's
        docstring, or no image can be decoded.
    """
    num_classes = len(list_classes(data_dir))
    splits = list_splits(data_dir)
    train = splits["train"]
    num_images = len(train) + len(splits["test"])
    if image_size:
        return Description(num_classes, (image_size, image_size, 3), num_images)
    for index in range(len(train)):
        try:
            image, _ = train.read(index)
        except ValueError:
            continue  # Reported when the images are loaded.
        return Description(num_classes, (image.height, image.width, 3), num_images)
    raise ValueError(f"{setting(data_dir)}: none of the images can be decoded")


def load(data_dir: str, image_size: int = 0, bad_images: str = "error") -> Loaded:
    """Decodes all images of a folder.

    Args:
      data_dir: the folder.
      image_size: height and width of the images after cropping and resizing; 0 if they
        all have one size.
      bad_images: "error" raises for files that cannot be decoded; "skip" leaves them
        out and says so in one line on stderr.

    Raises:
      ValueError: in one line that names the first files that cannot be used.
    """
    shape = describe(data_dir, image_size).image_shape
    splits, bad = {}, {}
    for split, source in list_splits(data_dir).items():
        splits[split], bad[split] = _load_split(source, shape, image_size)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _report_bad(data_dir, bad_images, label, bad))


def open_sources(data_dir: str, bad_images: str = "error") -> Loaded:
    """Opens both splits; arguments and errors as for `load`.

    "skip" decodes every file once; with "error" a bad file raises when it is read.
    """
    splits, bad = list_splits(data_dir), {"train": {}, "test": {}}
    if bad_images == "skip":
        for split, source in splits.items():
            splits[split], bad[split] = _without_bad(source)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _report_bad(data_dir, bad_images, label, bad))


def _load_split(
    source: FolderSource, shape: tuple[int, int, int], image_size: int
) -> tuple[Split, dict[str, str]]:
    """Decodes a split; returns it, and the reason for each bad file by its name."""

    def resized(image: Image.Image) -> np.ndarray:
        return np.asarray(crop_resize.center_crop_resize(image, image_size))

    image = np.empty((len(source), *shape), np.uint8)
    good, bad = [], {}
    for index, found in enumerate(source.decode_all(resized)):
        if isinstance(found, str):
            bad[source.names[index]] = found
            continue
        if found.shape != shape:
            raise ValueError(
                f"{setting(source.root)}: {source.names[index]} has"
                f" {_size(found.shape)} pixels and others {_size(shape)}: set"
                " data.image_size"
            )
        image[len(good)] = found
        good.append(index)
    return Split(image[: len(good)], source.label[good]), bad


def _without_bad(
    source: FolderSource,
) -> tuple[FolderSource, dict[str, str]]:
    """Returns the files that can be decoded, and the reason for each other one."""
    good, bad = [], {}
    for index, reason in enumerate(source.decode_all(lambda _: None)):
        if reason is None:
            good.append(index)
        else:
            bad[source.names[index]] = reason
    return source.select(good), bad


def _report_bad(
    data_dir: str,
    bad_images: str,
    label: dict[str, np.ndarray],
    bad: dict[str, dict[str, str]],
) -> dict[str, int]:
    """Raises for bad files, or reports them on stderr, as `bad_images` says.

    Args:
      data_dir: the folder.
      bad_images: as for `load`.
      label: of the good images of each split.
      bad: reasons by name of the bad files of each split.

    Returns:
      The number of skipped files of each split.
    """
    lines = [f"{name} ({why})" for found in bad.values() for name, why in found.items()]
    if lines:
        total = len(lines) + sum(len(found) for found in label.values())
        files = f"{len(lines)} of {total} files cannot be used: {some(lines)}"
        if bad_images == "error":
            raise ValueError(
                f"{setting(data_dir)}: {files}; data.bad_images='skip' leaves them out"
            )
        print(
            f"kdjax: {setting(data_dir)}: skipped, {files}",
            file=sys.stderr,
        )
    num_classes = len(list_classes(data_dir))
    for split, least in (("train", num_classes), ("test", 1)):
        found = len(np.unique(label[split]))
        if found < least:
            raise ValueError(
                f"{setting(data_dir)}: the good images of {split} are of {found} "
                f"classes, expected {num_classes}"
            )
    return {split: len(found) for split, found in bad.items()}


def _size(shape: tuple[int, ...]) -> str:
    height, width, _ = shape
    return f"{width}x{height}"
