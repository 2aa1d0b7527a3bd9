"""A user's own images: DIR/train/<class>/*.jpg and so on, and DIR/test or DIR/val.

The classes are the names of the folders under `train`, sorted; a class's number is its
place among them. Where there are both `test` and `val`, `test` is the test. Files and
folders whose names begin with a dot are nobody's.
"""

import concurrent.futures
import os
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from kdjax.data import decode
from kdjax.data.split import Description, Split

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TESTS = ("test", "val")
_NAMED = 5  # Files that a line names; of the others it gives the number.
_BLOCK = 1024  # Images that wait in memory for their place in the array.


class Listed(NamedTuple):
    """The files of one split.

    Attributes:
      paths: the files, sorted within each class, the classes in order.
      label: number of each file's class.
    """

    paths: list[pathlib.Path]
    label: list[int]


class Loaded(NamedTuple):
    """What a folder holds.

    Attributes:
      splits: "train" and "test".
      skipped: files left out of each split because they could not be decoded.
    """

    splits: dict[str, Split]
    skipped: dict[str, int]


def describe(data_dir: str, image_size: int = 0) -> Description:
    """Describes a folder by its listing and, without a size, its first good image.

    Raises:
      ValueError: in one line, if the folder is not laid out as the top of this file
        says, or no image can be decoded.
    """
    root = _root(data_dir)
    num_classes = len(_classes(root))
    if image_size:
        return Description(num_classes, (image_size, image_size, 3))
    for path in _list(root, "train").paths:
        try:
            return Description(num_classes, decode.read(path).shape)
        except ValueError:
            continue  # Refused or skipped when all are read.
    raise ValueError(f"{_setting(data_dir)}: none of the images can be decoded")


def load(data_dir: str, image_size: int = 0, bad_images: str = "refuse") -> Loaded:
    """Decodes all images of a folder.

    Args:
      data_dir: the folder.
      image_size: height and width to bring them to; 0 if they all have one size.
      bad_images: "refuse" the folder for files that cannot be decoded, or "skip" them,
        which is said in one line on stderr.

    Raises:
      ValueError: in one line, which names the first of the files that do not fit.
    """
    description = describe(data_dir, image_size)
    root = _root(data_dir)
    splits, skipped, bad = {}, {}, []
    for split, folder in (("train", "train"), ("test", _test(root))):
        listed = _list(root, folder)
        splits[split], reasons = _decode(data_dir, listed, description, image_size)
        skipped[split] = len(reasons)
        bad += [
            f"{path.relative_to(root)} ({why})" for path, why in sorted(reasons.items())
        ]
    if bad:
        total = len(bad) + sum(len(split.label) for split in splits.values())
        files = f"{len(bad)} of {total} files cannot be used: {_some(bad)}"
        if bad_images == "refuse":
            raise ValueError(
                f"{_setting(data_dir)}: {files}; data.bad_images='skip' leaves them out"
            )
        print(f"kdjax: {_setting(data_dir)}: skipped, {files}", file=sys.stderr)
    for split, least in (("train", description.num_classes), ("test", 1)):
        found = len(np.unique(splits[split].label))
        if found < least:
            raise ValueError(
                f"{_setting(data_dir)}: the good images of {split} are of {found} "
                f"classes, expected {description.num_classes}"
            )
    return Loaded(splits, skipped)


def _decode(
    data_dir: str, listed: Listed, description: Description, image_size: int
) -> tuple[Split, dict[pathlib.Path, str]]:
    """Decodes a split, by several threads; returns it, and why files are missing."""

    def read(path: pathlib.Path) -> np.ndarray | str:
        if path.suffix.lower() not in EXTENSIONS or not path.is_file():
            return f"is no {', '.join(EXTENSIONS)} file"
        try:
            return decode.read(path, image_size)
        except ValueError as error:
            return str(error)

    shape = description.image_shape
    image = np.empty((len(listed.paths), *shape), np.uint8)
    good, reasons = [], {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(listed.paths), _BLOCK):
            block = listed.paths[start : start + _BLOCK]
            for index, found in enumerate(pool.map(read, block), start):
                path = listed.paths[index]
                if isinstance(found, str):
                    reasons[path] = found
                    continue
                if found.shape != shape:
                    raise ValueError(
                        f"{_setting(data_dir)}: {path.relative_to(_root(data_dir))} has"
                        f" {_size(found.shape)} pixels and others {_size(shape)}: set"
                        " data.image_size"
                    )
                image[len(good)] = found
                good.append(index)
    label = np.asarray(listed.label, np.int32)[good]
    return Split(image[: len(good)], label), reasons


def _root(data_dir: str) -> pathlib.Path:
    if not data_dir:
        raise ValueError(
            "data.data_dir is not set: data.name='folder' needs the folder that holds"
            " train/ and test/ or val/"
        )
    return pathlib.Path(data_dir).expanduser()


def _classes(root: pathlib.Path) -> list[str]:
    """Returns the classes in order; refuses none, and a folder without a test."""
    _test(root)
    classes = _folders(root, "train")
    if len(classes) < 2:
        raise ValueError(
            f"{_setting(root)}: {root / 'train'} holds {len(classes)} folders,"
            " expected one for each of at least 2 classes"
        )
    return classes


def _test(root: pathlib.Path) -> str:
    """Returns the name of the folder to test on."""
    present = [name for name in _TESTS if (root / name).is_dir()]
    if not present or not (root / "train").is_dir():
        raise ValueError(
            f"{_setting(root)}: {root} does not hold the folders train, and test or val"
        )
    return present[0]


def _folders(root: pathlib.Path, split: str) -> list[str]:
    return sorted(
        path.name
        for path in (root / split).iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def _list(root: pathlib.Path, folder: str) -> Listed:
    """Lists the files of a split; they may still turn out to be no images."""
    classes = _classes(root)
    if unknown := sorted(set(_folders(root, folder)) - set(classes)):
        raise ValueError(
            f"{_setting(root)}: {folder} holds {len(unknown)} classes that train does"
            f" not: {_some(unknown)}"
        )
    listed = Listed([], [])
    for number, name in enumerate(classes):
        if not (root / folder / name).is_dir():
            continue  # A class without test images.
        found = sorted(
            path
            for path in (root / folder / name).iterdir()
            if not path.name.startswith(".")
        )
        if not found and folder == "train":
            raise ValueError(f"{_setting(root)}: {root / folder / name} is empty")
        listed.paths.extend(found)
        listed.label.extend([number] * len(found))
    if not listed.paths:
        raise ValueError(f"{_setting(root)}: {root / folder} holds no images")
    return listed


def _setting(data_dir: str | pathlib.Path) -> str:
    return f"data.data_dir={str(data_dir)!r}"


def _some(names: list[str]) -> str:
    """Names the first few."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(shape: tuple[int, ...]) -> str:
    height, width, _ = shape
    return f"{width}x{height}"
