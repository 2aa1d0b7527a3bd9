"""A user's own images: DIR/train/<class>/*.jpg and so on, and DIR/test or DIR/val.

The classes are the names of the folders under `train`, sorted; a class's number is its
place among them. Where there are both `test` and `val`, `test` is the test. Files and
folders whose names begin with a dot are nobody's.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from kdjax.data.augment import crop_resize
from kdjax.data.sources import decode
from kdjax.data.split import Description, Split

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TESTS = ("test", "val")
_NAMED = 5  # Files that a line names; of the others it gives the number.
_Kept = TypeVar("_Kept")
_BLOCK = 1024  # Images that wait in memory for their place in the array.


@dataclasses.dataclass(frozen=True)
class FolderImages:
    """The files of one split, seen as stored images.

    Attributes:
      root: the folder that holds the splits.
      names: the files below it, sorted within each class, the classes in order; they
        may still turn out to be no images.
      label: number of each file's class, int32.
    """

    root: pathlib.Path
    names: list[str]
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def read(self, place: int) -> tuple[Image.Image, int]:
        try:
            return self._decoded(place), int(self.label[place])
        except ValueError as error:
            raise ValueError(
                f"{_setting(self.root)}: {self.names[place]} cannot be used ({error});"
                " data.bad_images='skip' leaves it out"
            ) from error

    def labels(self) -> np.ndarray:
        return self.label

    def select(self, places: list[int]) -> "FolderImages":
        """Returns some of the files."""
        chosen = [self.names[place] for place in places]
        return FolderImages(self.root, chosen, self.label[places])

    def read_all(self, keep: Callable[[Image.Image], _Kept]) -> Iterator[_Kept | str]:
        """Decodes all in order, by several threads.

        Args:
          keep: makes of an image what is wanted of it.

        Yields:
          That, or why a file cannot be decoded.
        """

        def decoded(place: int) -> _Kept | str:
            try:
                return keep(self._decoded(place))
            except ValueError as error:
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self), _BLOCK):
                yield from pool.map(
                    decoded, range(start, min(start + _BLOCK, len(self)))
                )

    def _decoded(self, place: int) -> Image.Image:
        path = self.root / self.names[place]
        if path.suffix.lower() not in EXTENSIONS or not path.is_file():
            raise ValueError(f"is no {', '.join(EXTENSIONS)} file")
        return decode.load(path)


class Loaded(NamedTuple):
    """What a folder holds.

    Attributes:
      splits: "train" and "test", in memory or stored.
      skipped: files left out of each split because they could not be decoded.
    """

    splits: dict[str, Split] | dict[str, FolderImages]
    skipped: dict[str, int]


def describe(data_dir: str, image_size: int = 0) -> Description:
    """Describes a folder by its listing and, without a size, its first good image.

    Raises:
      ValueError: in one line, if the folder is not laid out as the top of this file
        says, or no image can be decoded.
    """
    root = _root(data_dir)
    num_classes = len(_classes(root))
    train = _list(root, "train")
    num_images = len(train) + len(_list(root, _test(root)))
    if image_size:
        return Description(num_classes, (image_size, image_size, 3), num_images)
    for place in range(len(train)):
        try:
            image, _ = train.read(place)
        except ValueError:
            continue  # Refused or skipped when all are read.
        return Description(num_classes, (image.height, image.width, 3), num_images)
    raise ValueError(f"{_setting(data_dir)}: none of the images can be decoded")


def load(data_dir: str, image_size: int = 0, bad_images: str = "error") -> Loaded:
    """Decodes all images of a folder.

    Args:
      data_dir: the folder.
      image_size: height and width to bring them to; 0 if they all have one size.
      bad_images: "error" raises for files that cannot be decoded; "skip" leaves them
        out and says so in one line on stderr.

    Raises:
      ValueError: in one line, which names the first of the files that do not fit.
    """
    shape = describe(data_dir, image_size).image_shape
    splits, bad = {}, {}
    for split, images in _both(data_dir).items():
        splits[split], bad[split] = _in_memory(images, shape, image_size)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _judge(data_dir, bad_images, label, bad))


def stored(data_dir: str, bad_images: str = "error") -> Loaded:
    """Opens both splits; arguments and errors as for `load`.

    Only to find out what to skip is everything decoded, once; a file that is refused
    is found when its turn comes.
    """
    splits, bad = _both(data_dir), {"train": {}, "test": {}}
    if bad_images == "skip":
        for split, images in splits.items():
            splits[split], bad[split] = _without_bad(images)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _judge(data_dir, bad_images, label, bad))


def _both(data_dir: str) -> dict[str, FolderImages]:
    """Lists the files of training and test."""
    root = _root(data_dir)
    return {"train": _list(root, "train"), "test": _list(root, _test(root))}


def _in_memory(
    images: FolderImages, shape: tuple[int, int, int], image_size: int
) -> tuple[Split, dict[str, str]]:
    """Decodes a split; returns it, and by their names why files are missing."""

    def framed(image: Image.Image) -> np.ndarray:
        return np.asarray(crop_resize.center_crop_resize(image, image_size))

    image = np.empty((len(images), *shape), np.uint8)
    good, bad = [], {}
    for place, found in enumerate(images.read_all(framed)):
        if isinstance(found, str):
            bad[images.names[place]] = found
            continue
        if found.shape != shape:
            raise ValueError(
                f"{_setting(images.root)}: {images.names[place]} has"
                f" {_size(found.shape)} pixels and others {_size(shape)}: set"
                " data.image_size"
            )
        image[len(good)] = found
        good.append(place)
    return Split(image[: len(good)], images.label[good]), bad


def _without_bad(images: FolderImages) -> tuple[FolderImages, dict[str, str]]:
    """Decodes a split to see what can be; returns that, and why files are missing."""
    good, bad = [], {}
    for place, reason in enumerate(images.read_all(lambda _: None)):
        if reason is None:
            good.append(place)
        else:
            bad[images.names[place]] = reason
    return images.select(good), bad


def _judge(
    data_dir: str,
    bad_images: str,
    label: dict[str, np.ndarray],
    bad: dict[str, dict[str, str]],
) -> dict[str, int]:
    """Refuses files that cannot be decoded, or says what is skipped.

    Args:
      data_dir: the folder.
      bad_images: as for `load`.
      label: of the good images of each split.
      bad: the others by name, and why.

    Returns:
      How many are skipped of each split.
    """
    lines = [f"{name} ({why})" for found in bad.values() for name, why in found.items()]
    if lines:
        total = len(lines) + sum(len(found) for found in label.values())
        files = f"{len(lines)} of {total} files cannot be used: {_some(lines)}"
        if bad_images == "error":
            raise ValueError(
                f"{_setting(data_dir)}: {files}; data.bad_images='skip' leaves them out"
            )
        print(f"kdjax: {_setting(data_dir)}: skipped, {files}", file=sys.stderr)
    num_classes = len(_classes(_root(data_dir)))
    for split, least in (("train", num_classes), ("test", 1)):
        found = len(np.unique(label[split]))
        if found < least:
            raise ValueError(
                f"{_setting(data_dir)}: the good images of {split} are of {found} "
                f"classes, expected {num_classes}"
            )
    return {split: len(found) for split, found in bad.items()}


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


def _list(root: pathlib.Path, folder: str) -> FolderImages:
    """Lists the files of a split; they may still turn out to be no images."""
    classes = _classes(root)
    if unknown := sorted(set(_folders(root, folder)) - set(classes)):
        raise ValueError(
            f"{_setting(root)}: {folder} holds {len(unknown)} classes that train does"
            f" not: {_some(unknown)}"
        )
    names, label = [], []
    for number, name in enumerate(classes):
        if not (root / folder / name).is_dir():
            continue  # A class without test images.
        found = sorted(
            file for file in os.listdir(root / folder / name) if file[0] != "."
        )
        if not found and folder == "train":
            raise ValueError(f"{_setting(root)}: {root / folder / name} is empty")
        names.extend(f"{folder}/{name}/{file}" for file in found)
        label.extend([number] * len(found))
    if not names:
        raise ValueError(f"{_setting(root)}: {root / folder} holds no images")
    return FolderImages(root, names, np.asarray(label, np.int32))


def _setting(data_dir: str | pathlib.Path) -> str:
    return f"data.data_dir={str(data_dir)!r}"


def _some(names: list[str]) -> str:
    """Names the first few."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(shape: tuple[int, ...]) -> str:
    height, width, _ = shape
    return f"{width}x{height}"
