"""A folder of images: DIR/train/<class>/*.jpg and so on, and DIR/test or DIR/val.

The classes are the sorted names of the folders under `train`, labeled from 0. If there
are both `test` and `val`, `test` is used. Hidden files and folders are ignored.
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

#: Extensions of image files, in any case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TESTS = ("test", "val")
_NAMED = 5  # Files named in an error; the others are counted.
_Result = TypeVar("_Result")
_BLOCK = 1024  # Images decoded ahead.


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The files of one split as an `ImageSource`.

    Attributes:
      root: the folder of the splits.
      names: of the files relative to `root`, sorted by class and name; not all of them
        need be images.
      label: class of each file, int32 [N].
    """

    root: pathlib.Path
    names: list[str]
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> tuple[Image.Image, int]:
        try:
            return self._decode(index), int(self.label[index])
        except ValueError as error:
            raise ValueError(
                f"{_setting(self.root)}: {self.names[index]} cannot be used ({error});"
                " data.bad_images='skip' leaves it out"
            ) from error

    def labels(self) -> np.ndarray:
        return self.label

    def select(self, indices: list[int]) -> "FolderSource":
        """Returns a subset of the files."""
        chosen = [self.names[index] for index in indices]
        return FolderSource(self.root, chosen, self.label[indices])

    def decode_all(
        self, transform: Callable[[Image.Image], _Result]
    ) -> Iterator[_Result | str]:
        """Decodes all files in order with a pool of threads.

        Args:
          transform: applied to each image.

        Yields:
          The transformed image, or the reason why a file cannot be decoded.
        """

        def decode_one(index: int) -> _Result | str:
            try:
                return transform(self._decode(index))
            except ValueError as error:
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self), _BLOCK):
                yield from pool.map(
                    decode_one, range(start, min(start + _BLOCK, len(self)))
                )

    def _decode(self, index: int) -> Image.Image:
        path = self.root / self.names[index]
        if path.suffix.lower() not in EXTENSIONS or not path.is_file():
            raise ValueError(f"is not a {', '.join(EXTENSIONS)} file")
        return decode.load(path)


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
    root = _root(data_dir)
    num_classes = len(_classes(root))
    train = _list_files(root, "train")
    num_images = len(train) + len(_list_files(root, _test_folder(root)))
    if image_size:
        return Description(num_classes, (image_size, image_size, 3), num_images)
    for index in range(len(train)):
        try:
            image, _ = train.read(index)
        except ValueError:
            continue  # Reported when the images are loaded.
        return Description(num_classes, (image.height, image.width, 3), num_images)
    raise ValueError(f"{_setting(data_dir)}: none of the images can be decoded")


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
    for split, source in _list_splits(data_dir).items():
        splits[split], bad[split] = _load_split(source, shape, image_size)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _report_bad(data_dir, bad_images, label, bad))


def open_sources(data_dir: str, bad_images: str = "error") -> Loaded:
    """Opens both splits; arguments and errors as for `load`.

    "skip" decodes every file once; with "error" a bad file raises when it is read.
    """
    splits, bad = _list_splits(data_dir), {"train": {}, "test": {}}
    if bad_images == "skip":
        for split, source in splits.items():
            splits[split], bad[split] = _without_bad(source)
    label = {split: found.label for split, found in splits.items()}
    return Loaded(splits, _report_bad(data_dir, bad_images, label, bad))


def _list_splits(data_dir: str) -> dict[str, FolderSource]:
    """Lists the files of the training and test splits."""
    root = _root(data_dir)
    return {
        "train": _list_files(root, "train"),
        "test": _list_files(root, _test_folder(root)),
    }


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
                f"{_setting(source.root)}: {source.names[index]} has"
                f" {_size(found.shape)} pixels and others {_size(shape)}: set"
                " data.image_size"
            )
        image[len(good)] = found
        good.append(index)
    return Split(image[: len(good)], source.label[good]), bad


def _without_bad(source: FolderSource) -> tuple[FolderSource, dict[str, str]]:
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
    """Returns the classes in order; rejects folders without classes or test split."""
    _test_folder(root)
    classes = _folders(root, "train")
    if len(classes) < 2:
        raise ValueError(
            f"{_setting(root)}: {root / 'train'} has {len(classes)} folders,"
            " expected one for each of at least 2 classes"
        )
    return classes


def _test_folder(root: pathlib.Path) -> str:
    """Returns the name of the folder of the test split."""
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


def _list_files(root: pathlib.Path, folder: str) -> FolderSource:
    """Lists the files of a split, images or not."""
    classes = _classes(root)
    if unknown := sorted(set(_folders(root, folder)) - set(classes)):
        raise ValueError(
            f"{_setting(root)}: {folder} has {len(unknown)} classes that train does not"
            f" have: {_some(unknown)}"
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
        raise ValueError(f"{_setting(root)}: {root / folder} has no images")
    return FolderSource(root, names, np.asarray(label, np.int32))


def _setting(data_dir: str | pathlib.Path) -> str:
    return f"data.data_dir={str(data_dir)!r}"


def _some(names: list[str]) -> str:
    """Joins the first few names and counts the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(shape: tuple[int, ...]) -> str:
    height, width, _ = shape
    return f"{width}x{height}"
