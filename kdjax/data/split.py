"""Interfaces of data sources: a description, and splits in memory or lazily read."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kdjax.data import messages
from kdjax.data.augment import crop_resize

if TYPE_CHECKING:
    from PIL import Image


class Description(NamedTuple):
    """Metadata of a data set, available without reading its images.

    Attributes:
      num_classes: K.
      image_shape: [H, W, 3].
      num_images: in the training and test splits together.
      num_train_images: in the training split, before a part is held out of it.
      class_names: K names in the order of the labels.
      layout: of a folder of images, a `folder_layout.Layout`, so that its files are
        listed once; None for other data sets.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    num_images: int
    num_train_images: int
    class_names: tuple[str, ...]
    layout: Any = None


class Split(NamedTuple):
    """A split of a data set in memory.

    Attributes:
      image: RGB, neither normalized nor augmented, uint8 [N, H, W, 3].
      label: class of each image, from 0, int32 [N].
    """

    image: np.ndarray
    label: np.ndarray

    @property
    def num_examples(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image.shape[1:]

    def select(self, indices: np.ndarray) -> Split:
        """Returns a subset of the examples."""
        return Split(self.image[indices], self.label[indices])

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images of some examples, uint8 [B, H, W, 3]."""
        return self.image[indices]


class ImageSource(Protocol):
    """Stored images, decoded one at a time by any thread or process."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Decodes an image to RGB; returns it and its class.

        Raises:
          ValueError: in one line that names the image, if it cannot be decoded.
        """

    def labels(self) -> np.ndarray:
        """Returns all classes, int32 [N]; may have to read everything."""

    def where(self, index: int) -> str:
        """Says where an image is stored, for messages."""


@dataclasses.dataclass(frozen=True)
class LazySplit:
    """A split of a data set whose images are read when they are needed.

    Attributes:
      source: the images; it may hold more than those of the split.
      indices: of the split's images in the source, [N].
      image_shape: of every image after cropping and resizing, [H, W, 3].
      one_size: whether to reject images that are stored in another size. Those of a
        split that is not square are rejected anyhow: crops are square.
    """

    source: ImageSource
    indices: Sequence[int]
    image_shape: tuple[int, int, int]
    one_size: bool = False

    @property
    def num_examples(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def label(self) -> np.ndarray:
        """Class of every example, int32 [N]; the first access may be slow."""
        return self.source.labels()[np.asarray(self.indices)]

    def select(self, indices: np.ndarray) -> LazySplit:
        """Returns a subset of the examples."""
        chosen = np.asarray(self.indices)[indices]
        return dataclasses.replace(self, indices=chosen)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Decodes an example at its stored size; returns it and its class.

        Raises:
          ValueError: in one line, if it cannot be decoded or has a size that it must
            not have.
        """
        number = int(self.indices[index])
        image, label = self.source.read(number)
        height, width, _ = self.image_shape
        if (self.one_size or height != width) and image.size != (width, height):
            where = self.source.where(number)
            raise ValueError(messages.other_size(where, image.size, (width, height)))
        return image, label

    def center_crop_resize(
        self, image: Image.Image, fraction: float = 1.0
    ) -> Image.Image:
        """Crops and resizes an image to `image_shape`.

        Args:
          image: as it was read.
          fraction: side of the central crop over the image's shorter side.
        """
        height, width, _ = self.image_shape
        if fraction == 1 and image.size == (width, height):
            return image
        return crop_resize.center_crop_resize(image, height, fraction)

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Reads the images of some examples, uint8 [B, H, W, 3]."""

        def read(index: int) -> np.ndarray:
            image, _ = self.read(index)
            return np.asarray(self.center_crop_resize(image))

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(read, indices)))

    def in_memory(self) -> Split:
        """Reads all images."""
        return Split(self.pixels(np.arange(self.num_examples)), self.label)


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """A split in memory as an `ImageSource`."""

    split: Split

    def __len__(self) -> int:
        return self.split.num_examples

    def read(self, index: int) -> tuple[Image.Image, int]:
        from PIL import Image  # Only where images are decoded.

        return Image.fromarray(self.split.image[index]), int(self.split.label[index])

    def labels(self) -> np.ndarray:
        return self.split.label

    def where(self, index: int) -> str:
        return f"image {index}"
