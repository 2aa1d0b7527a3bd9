"""Reads prepared TFDS data sets of images, without TensorFlow."""

import contextlib
import dataclasses
import io
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kdjax.cli import home
from kdjax.data.archives import tiny_imagenet
from kdjax.data.augment import crop_resize
from kdjax.data.sources import decode
from kdjax.data.split import Description, Split

#: Data sets whose split "test" has no labels, by the beginning of their names.
_UNLABELED_TESTS = ("imagenet2012",)

_BLOCK = 1000  # Examples fetched at once; one by one takes more than twice as long.


def describe(
    name: str,
    data_dir: str | None = None,
    image_size: int = 0,
    test_fraction: float = 0.0,
) -> Description:
    """Returns the metadata of a prepared data set; arguments and errors as `load`."""
    return _describe(_find_prepared(name, data_dir), image_size, test_fraction)


def class_names(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Returns the classes of a data set that may not be prepared yet."""
    return tuple(find_builder(name, data_dir).info.features["label"].names)


def fingerprint(name: str, data_dir: str | None = None) -> dict[str, str]:
    """Returns version and number of examples of each split; errors as for `load`."""
    builder = _find_prepared(name, data_dir)
    return {
        split: f"{builder.info.full_name}, {count} examples"
        for split, count in _counts(builder).items()
    }


def load(
    name: str,
    data_dir: str | None = None,
    image_size: int = 0,
    test_fraction: float = 0.0,
) -> dict[str, Split]:
    """Decodes the splits "train" and "test" of a prepared data set, in stored order.

    Where there is no split "test", or it has no labels, "validation" stands in for it.

    Args:
      name: a TFDS data set with features `image` and `label`.
      data_dir: the folder of prepared data sets; None for TFDS's own default,
        ~/tensorflow_datasets or the environment variable TFDS_DATA_DIR.
      image_size: height and width of the images after cropping and resizing; 0 if they
        all have one size.
      test_fraction: not 0 if there is no such split; the result is then "train" alone.

    Raises:
      FileNotFoundError: in one line, if the data set is not prepared; names the command
        that prepares it.
      ValueError: in one line, if there is no such data set, or it has other splits or
        features, or it is prepared in another file format, or it is damaged.
    """
    shape = describe(name, data_dir, image_size, test_fraction).image_shape
    return {
        split: source.decode_all(shape, image_size)
        for split, source in open_sources(name, data_dir).items()
    }


def open_sources(name: str, data_dir: str | None = None) -> dict[str, "TfdsSource"]:
    """Opens the splits without reading them; arguments and errors as for `load`."""
    builder = _find_prepared(name, data_dir)
    # Without OpenCV, TFDS decodes with Pillow too, but warns about it in every run.
    decoders = {"image": tfds.decode.SkipDecoding()}
    sources = {}
    for split, tfds_split in _splits(builder).items():
        name = f"{builder.name}: its split {tfds_split}"
        with _reading(name):
            examples = builder.as_data_source(tfds_split, decoders=decoders)
        sources[split] = TfdsSource(name, examples)
    return sources


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """One prepared split as an `ImageSource`.

    Attributes:
      name: of the data set and the split, for errors.
      examples: with encoded images; also several at once by `__getitems__`.
    """

    name: str
    examples: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, index: int) -> tuple[Image.Image, int]:
        with _reading(self.name):
            example = self.examples[index]
        return self._decode(index, example)

    def labels(self) -> np.ndarray:
        label = np.empty(len(self), np.int32)
        for index, example in self._enumerate():
            label[index] = self._label(example)
        return label

    def where(self, index: int) -> str:
        return f"{self.name}: image {index}"

    def decode_all(self, image_shape: tuple[int, int, int], image_size: int) -> Split:
        """Decodes the split into preallocated arrays."""
        image = np.empty((len(self), *image_shape), np.uint8)
        label = np.empty(len(self), np.int32)
        for index, example in self._enumerate():
            decoded, label[index] = self._decode(index, example)
            resized = crop_resize.center_crop_resize(decoded, image_size)
            if resized.size != image_shape[1::-1]:  # Rotated, as its EXIF data say.
                raise ValueError(f"{self.where(index)} is rotated: set data.image_size")
            image[index] = resized
        return Split(image, label)

    def _enumerate(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for start in range(0, len(self), _BLOCK):
            block = range(start, min(start + _BLOCK, len(self)))
            with _reading(self.name):
                examples = self.examples.__getitems__(block)
            yield from zip(block, examples, strict=True)

    def _decode(self, index: int, example: dict[str, Any]) -> tuple[Image.Image, int]:
        label = self._label(example)
        try:
            return decode.load(io.BytesIO(example["image"])), label
        except ValueError as error:
            raise ValueError(
                f"{self.name}: image {index} cannot be used: {error}"
            ) from error

    def _label(self, example: dict[str, Any]) -> int:
        # Some data sets withhold the labels of their test images.
        if example["label"] < 0:
            raise ValueError(f"{self.name} has images without labels")
        return example["label"]


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns errors of the files of a split into one line."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # RuntimeError: ArrayRecord's reader.
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{name} cannot be read: {reason}; remove the data set and prepare it again"
        ) from error


def find_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds the TFDS builder of a data set, prepared or not.

    Raises:
      ValueError: in one line, if TFDS has no such data set or version, or its code
        fails, or if it is prepared in a file format without random access.
    """
    if data_dir is not None:
        data_dir = str(home.expanded(data_dir))
    try:
        if name == "tiny_imagenet":  # TFDS does not have it.
            builder = tiny_imagenet.TinyImagenet(data_dir=data_dir)
        else:
            builder = tfds.builder(name, data_dir=data_dir)
        file_format = builder.info.file_format
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS has no data set {name!r}") from error
    # Malformed names; unknown versions and configurations; missing packages; damaged
    # descriptions; and whatever the code of a data set raises.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        reason = re.sub(r"^Failed to construct dataset .*?}\": ", "", reason)
        raise ValueError(f"TFDS cannot make data set {name!r}: {reason}") from error
    if is_prepared(builder) and file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{builder.data_dir} holds {name} in the file format {file_format.value},"
            " expected array_record: remove it, or choose another data.data_dir"
        )
    return builder


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Tells whether a data set is prepared; incomplete ones have no splits in TFDS."""
    return bool(builder.info.splits)


def _find_prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds the builder of a prepared data set; errors as for `load`."""
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


def _describe(
    builder: tfds.core.DatasetBuilder, image_size: int, test_fraction: float
) -> Description:
    """Returns the metadata of a data set; rejects those that cannot be trained on."""
    name, features = builder.name, builder.info.features
    splits = _splits(builder)
    if "train" not in builder.info.splits or not (test_fraction or "test" in splits):
        found = " and ".join(builder.info.splits)
        raise ValueError(
            f"{name} has the splits {found}, expected train, and test or validation;"
            " data.test_fraction=0.2 would test on a fifth of train"
        )
    if test_fraction and "test" in splits:
        raise ValueError(
            f"data.test_fraction={test_fraction} but {name} has a test split:"
            f" {splits['test']}"
        )
    if not {"image", "label"} <= set(features):
        raise ValueError(f"{name} does not have the features image and label")
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
            f"{name} has images of different sizes: set data.image_size to resize them"
        )
    return Description(
        features["label"].num_classes,
        (height, width, 3),
        sum(_counts(builder).values()),
        _counts(builder)["train"],
        tuple(features["label"].names),
    )


def _counts(builder: tfds.core.DatasetBuilder) -> dict[str, int]:
    """Returns the number of examples of each split."""
    return {
        split: builder.info.splits[tfds_split].num_examples
        for split, tfds_split in _splits(builder).items()
    }


def _splits(builder: tfds.core.DatasetBuilder) -> dict[str, str]:
    """Returns the names in TFDS of the splits "train" and, if there is one, "test"."""
    labeled = not builder.name.startswith(_UNLABELED_TESTS)
    tests = ("test", "validation") if labeled else ("validation",)
    for split in tests:
        if split in builder.info.splits:
            return {"train": "train", "test": split}
    return {"train": "train"}
