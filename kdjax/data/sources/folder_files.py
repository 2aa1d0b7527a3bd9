"""The files and classes of a folder of images."""

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from PIL import Image

from kdjax.data.sources import decode

#: Extensions of image files, in any case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TESTS = ("test", "val")
_NAMED = 5  # Names in an error; the others are counted.
_BLOCK = 1024  # Images decoded ahead.
_Result = TypeVar("_Result")


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
                f"{setting(self.root)}: {self.names[index]} cannot be used ({error});"
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


def list_classes(data_dir: str) -> list[str]:
    """Returns the names of the classes in order.

    Raises:
      ValueError: in one line, if the folder has another layout.
    """
    return _list_classes(_find_root(data_dir))


def list_splits(data_dir: str) -> dict[str, FolderSource]:
    """Lists the files of the splits "train" and "test"; errors as `list_classes`."""
    root = _find_root(data_dir)
    return {
        "train": _list_files(root, "train"),
        "test": _list_files(root, _test_folder(root)),
    }


def setting(data_dir: str | pathlib.Path) -> str:
    """Returns the config field and its value, for errors."""
    return f"data.data_dir={str(data_dir)!r}"


def some(names: list[str]) -> str:
    """Joins the first few names and counts the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _find_root(data_dir: str) -> pathlib.Path:
    if not data_dir:
        raise ValueError(
            "data.data_dir is not set: data.name='folder' needs the folder that holds"
            " train/ and test/ or val/"
        )
    return pathlib.Path(data_dir).expanduser()


def _list_classes(root: pathlib.Path) -> list[str]:
    """Returns the classes in order; rejects folders without classes or test split."""
    _test_folder(root)
    classes = _folders(root, "train")
    if len(classes) < 2:
        raise ValueError(
            f"{setting(root)}: {root / 'train'} has {len(classes)} folders,"
            " expected one for each of at least 2 classes"
        )
    return classes


def _test_folder(root: pathlib.Path) -> str:
    """Returns the name of the folder of the test split."""
    present = [name for name in _TESTS if (root / name).is_dir()]
    if not present or not (root / "train").is_dir():
        raise ValueError(
            f"{setting(root)}: {root} does not hold the folders train, and test or val"
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
    classes = _list_classes(root)
    if unknown := sorted(set(_folders(root, folder)) - set(classes)):
        raise ValueError(
            f"{setting(root)}: {folder} has {len(unknown)} classes that train does not"
            f" have: {some(unknown)}"
        )
    names, label = [], []
    for number, name in enumerate(classes):
        if not (root / folder / name).is_dir():
            continue  # A class without test images.
        found = sorted(
            file for file in os.listdir(root / folder / name) if file[0] != "."
        )
        if not found and folder == "train":
            raise ValueError(f"{setting(root)}: {root / folder / name} is empty")
        names.extend(f"{folder}/{name}/{file}" for file in found)
        label.extend([number] * len(found))
    if not names:
        raise ValueError(f"{setting(root)}: {root / folder} has no images")
    return FolderSource(root, names, np.asarray(label, np.int32))
