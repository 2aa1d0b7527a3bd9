"""Reads a prepared TFDS set of images, without TensorFlow."""

import dataclasses
import io
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

# Registers its builder with TFDS.
from kdjax.data.archives import tiny_imagenet  # noqa: F401
from kdjax.data.augment import crop_resize
from kdjax.data.sources import decode
from kdjax.data.split import Description, Split

#: Sets whose split 'test' has no labels, by how their names begin.
_UNLABELED_TESTS = ("imagenet2012",)

_BLOCK = 1000  # RawBatch fetched at a time: one by one takes more than twice as long.


def describe(
    name: str, data_dir: str | None = None, image_size: int = 0
) -> Description:
    """Reads the description of a prepared set; arguments and errors as for `load`."""
    return _describe(_prepared(name, data_dir), image_size)


def load(
    name: str, data_dir: str | None = None, image_size: int = 0
) -> dict[str, Split]:
    """Decodes the splits 'train' and 'test' of a prepared set, in the order on disk.

    A set without a split 'test', or with one that lacks labels, is tested on its split
    'validation'.

    Args:
      name: a TFDS set with features `image` and `label`.
      data_dir: the folder that holds prepared sets; None for TFDS's own default,
        ~/tensorflow_datasets or the environment variable TFDS_DATA_DIR.
      image_size: height and width to bring the images to; 0 if they all have one size.

    Raises:
      FileNotFoundError: in one line, where it is not prepared; with the command that
        prepares it.
      ValueError: in one line, where there is no such set, or it has other splits or
        features, or is prepared in another file format.
    """
    shape = describe(name, data_dir, image_size).image_shape
    return {
        split: images.decoded(shape, image_size)
        for split, images in stored(name, data_dir).items()
    }


def stored(name: str, data_dir: str | None = None) -> dict[str, "TfdsImages"]:
    """Opens both splits without reading them; arguments and errors as for `load`."""
    builder = _prepared(name, data_dir)
    # Without OpenCV, TFDS decodes with Pillow too, but complains about it in every run.
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: TfdsImages(
            f"{builder.name}: its split {stands_for}",
            builder.as_data_source(stands_for, decoders=decoders),
        )
        for split, stands_for in (("train", "train"), ("test", _test_split(builder)))
    }


@dataclasses.dataclass(frozen=True)
class TfdsImages:
    """One split as it lies on disk, seen as stored images.

    Attributes:
      name: of set and split.
      source: the examples, by place; one or several at once.
    """

    name: str
    source: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, place: int) -> tuple[Image.Image, int]:
        return self._decoded(place, self.source[place])

    def labels(self) -> np.ndarray:
        label = np.empty(len(self), np.int32)
        for place, example in self._walk():
            label[place] = self._label(example)
        return label

    def decoded(self, image_shape: tuple[int, int, int], image_size: int) -> Split:
        """Decodes all into arrays made beforehand."""
        image = np.empty((len(self), *image_shape), np.uint8)
        label = np.empty(len(self), np.int32)
        for place, example in self._walk():
            decoded, label[place] = self._decoded(place, example)
            image[place] = crop_resize.center_crop_resize(decoded, image_size)
        return Split(image, label)

    def _walk(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for start in range(0, len(self), _BLOCK):
            block = range(start, min(start + _BLOCK, len(self)))
            yield from zip(block, self.source.__getitems__(block), strict=True)

    def _decoded(self, place: int, example: dict[str, Any]) -> tuple[Image.Image, int]:
        label = self._label(example)
        try:
            with Image.open(io.BytesIO(example["image"])) as encoded:
                encoded.load()
                return decode.as_rgb(encoded), label
        except MemoryError:
            raise
        except Exception as error:  # A damaged image raises nearly anything.
            raise ValueError(
                f"{self.name}: image {place} cannot be used:"
                f" {' '.join(str(error).split())}"
            ) from error

    def _label(self, example: dict[str, Any]) -> int:
        # Some sets keep the labels of their test images to themselves.
        if example["label"] < 0:
            raise ValueError(f"{self.name} has images without labels")
        return example["label"]


def _prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds a prepared set."""
    builder = find_builder(name, data_dir)
    if not is_prepared(builder):
        root = os.fspath(builder.data_dir_root)
        setting = "data.data_dir" + (f"={data_dir!r}" if data_dir else " is not set")
        archive = " --archive=PATH" if name == "tiny_imagenet" else ""
        raise FileNotFoundError(
            f"{setting}: {name} is not prepared in {root}; prepare it with:"
            f" python -m kdjax.data.prepare {name}{archive}"
            f" --data_dir={shlex.quote(root)}"
        )
    return builder


def _describe(builder: tfds.core.DatasetBuilder, image_size: int) -> Description:
    """Describes a set that can be trained on, and refuses others."""
    name, features = builder.name, builder.info.features
    splits = set(builder.info.splits)
    if "train" not in splits or not splits & {"test", "validation"}:
        found = " and ".join(builder.info.splits)
        raise ValueError(
            f"{name} has the splits {found}, expected train, and test or validation"
        )
    if not {"image", "label"} <= set(features):
        raise ValueError(f"{name} does not hold images, each with a label")
    if not isinstance(features["image"], tfds.features.Image) or (
        features["image"].np_dtype not in (np.uint8, np.uint16)
    ):
        raise ValueError(f"{name}: its feature image does not hold images")
    if not getattr(features["label"], "num_classes", None):
        raise ValueError(f"{name}: its feature label does not hold classes")
    height, width, _ = features["image"].shape
    if image_size:
        height = width = image_size
    if height is None or width is None:
        raise ValueError(
            f"{name} holds images of several sizes: set data.image_size, to which they"
            " are resized"
        )
    return Description(
        features["label"].num_classes,
        (height, width, 3),
        sum(
            builder.info.splits[split].num_examples
            for split in ("train", _test_split(builder))
        ),
    )


def _test_split(builder: tfds.core.DatasetBuilder) -> str:
    labeled = not builder.name.startswith(_UNLABELED_TESTS)
    return "test" if labeled and "test" in builder.info.splits else "validation"


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds the TFDS builder of a set, prepared or not.

    Raises:
      ValueError: in one line, where TFDS knows no such set, or where it is prepared
        in a file format without random access.
    """
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no data set {name!r}") from error
    # Of names that are none, of versions and configurations, and of missing packages.
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"TFDS cannot make data set {name!r}: {reason}") from error
    file_format = builder.info.file_format
    if is_prepared(builder) and file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{builder.data_dir} holds {name} in the file format {file_format.value},"
            " expected array_record: remove it, or choose another data.data_dir"
        )
    return builder


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Tells whether a set lies on disk: TFDS gives it its name when it is whole."""
    return bool(builder.info.splits)
