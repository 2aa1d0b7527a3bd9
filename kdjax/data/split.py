"""What every data source hands on: its description, and the splits it holds."""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from kdjax.data.augment import crop_resize


class Description(NamedTuple):
    """What has to be known of a data set before its images are read.

    Attributes:
      num_classes: number of labels, K.
      image_shape: [H, W, 3].
      num_images: of training and test together.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    num_images: int


class Split(NamedTuple):
    """One split of a data set, whole, in memory.

    Attributes:
      image: uint8 [N, H, W, 3], red, green, blue, neither normalized nor augmented.
      label: int32 [N], class numbers from 0.
    """

    image: np.ndarray
    label: np.ndarray

    @property
    def num_examples(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image.shape[1:]

    def select(self, places: np.ndarray) -> "Split":
        """Returns some of the examples."""
        return Split(self.image[places], self.label[places])

    def pixels(self, places: np.ndarray) -> np.ndarray:
        """Returns the images of some examples, uint8 [B, H, W, 3]."""
        return self.image[places]


class ImageSource(Protocol):
    """Images that are decoded one at a time, by any thread or process."""

    def __len__(self) -> int: ...

    def read(self, place: int) -> tuple[Image.Image, int]:
        """Decodes an image to RGB; returns it and its class.

        Raises:
          ValueError: in one line that names it, if it cannot be decoded.
        """

    def labels(self) -> np.ndarray:
        """Returns all classes, int32 [N]; may have to read everything."""


@dataclasses.dataclass(frozen=True)
class LazySplit:
    """One split of a data set, whose images stay where they are stored.

    Attributes:
      images: more of them may be there than belong to the split.
      places: those that belong to it, [N].
      image_shape: what every image is brought to, [H, W, 3].
    """

    images: ImageSource
    places: Sequence[int]
    image_shape: tuple[int, int, int]

    @property
    def num_examples(self) -> int:
        return len(self.places)

    @functools.cached_property
    def label(self) -> np.ndarray:
        """Class of every example, int32 [N]; may take long at the first time."""
        return self.images.labels()[np.asarray(self.places)]

    def select(self, places: np.ndarray) -> "LazySplit":
        """Returns some of the examples."""
        chosen = np.asarray(self.places)[places]
        return dataclasses.replace(self, places=chosen)

    def read(self, place: int) -> tuple[Image.Image, int]:
        """Decodes an example, in its own size; returns it and its class."""
        return self.images.read(int(self.places[place]))

    def framed(self, image: Image.Image, part: float = 1.0) -> Image.Image:
        """Brings an image to the size of the split.

        Args:
          image: as it was read.
          part: of its shorter side, what is looked at.
        """
        height, width, _ = self.image_shape
        if part == 1 and image.size == (width, height):
            return image
        return crop_resize.center(image, height, part)

    def pixels(self, places: np.ndarray) -> np.ndarray:
        """Reads the images of some examples, uint8 [B, H, W, 3]."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            images = pool.map(lambda place: self.framed(self.read(place)[0]), places)
            return np.stack([np.asarray(image) for image in images])


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """A split in memory, seen as stored images."""

    split: Split

    def __len__(self) -> int:
        return self.split.num_examples

    def read(self, place: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.split.image[place]), int(self.split.label[place])

    def labels(self) -> np.ndarray:
        return self.split.label
