"""Image files in folders, decoded when they are needed."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from PIL import Image

from kdjax.data.messages import setting
from kdjax.data.sources import decode

_BLOCK = 1024  # Images decoded ahead.
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The files of one split as an `ImageSource`.

    Attributes:
      root: the folder of the splits.
      names: of the files relative to `root`, sorted by class and name.
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
                f"{self.where(index)} cannot be used ({error});"
                " data.bad_images='skip' leaves it out"
            ) from error

    def labels(self) -> np.ndarray:
        return self.label

    def where(self, index: int) -> str:
        return f"{setting(self.root)}: {self.names[index]}"

    def digest(self, folder: str) -> str:
        """Returns a digest of the files' sizes and names below a folder in `root`."""
        files = []
        for name in self.names:
            size = (self.root / name).stat().st_size
            below = name.removeprefix(folder).lstrip("/")
            files.append((unicodedata.normalize("NFC", below), size))
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def problems(self) -> dict[str, str]:
        """Returns files whose first bytes are those of no image, and the reasons."""

        def block(start: int) -> list[tuple[str, str]]:
            names = self.names[start : start + _BLOCK]
            return [(name, decode.problem(f"{self.root}/{name}")) for name in names]

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(block, range(0, len(self), _BLOCK))
            return {
                name: problem for part in found for name, problem in part if problem
            }

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
        return decode.load(self.root / self.names[index])
