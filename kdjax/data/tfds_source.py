"""Reads a prepared TFDS set of images into memory, without TensorFlow."""

import io
import os
import shlex

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

# Registers its builder with TFDS.
from kdjax.data import decode, tiny_imagenet  # noqa: F401
from kdjax.data.split import Description, Split

_BLOCK = 1000  # Examples fetched at a time: one by one takes more than twice as long.


def describe(name: str, data_dir: str | None = None) -> Description:
    """Reads the description of a prepared set; arguments and errors as for `load`."""
    return _describe(_prepared(name, data_dir))


def load(name: str, data_dir: str | None = None) -> dict[str, Split]:
    """Reads the splits 'train' and 'test' of a prepared set, in the order on disk.

    A set without a split 'test' is tested on its split 'validation'.

    Args:
      name: a TFDS set with features `image`, all of one size, and `label`.
      data_dir: the folder that holds prepared sets; None for TFDS's own default,
        ~/tensorflow_datasets or the environment variable TFDS_DATA_DIR.

    Raises:
      FileNotFoundError: in one line, where it is not prepared; with the command that
        prepares it.
      ValueError: in one line, where there is no such set, or it has other splits or
        features, or is prepared in another file format.
    """
    builder = _prepared(name, data_dir)
    description = _describe(builder)
    return {
        "train": _read_split(builder, "train", description),
        "test": _read_split(builder, _test_split(builder), description),
    }


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


def _describe(builder: tfds.core.DatasetBuilder) -> Description:
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
    if height is None or width is None:
        raise ValueError(
            f"{name} holds images of several sizes, and nothing here resizes them: use"
            " data.name='folder' with data.image_size, or a set of one size"
        )
    return Description(features["label"].num_classes, (height, width, 3))


def _test_split(builder: tfds.core.DatasetBuilder) -> str:
    return "test" if "test" in builder.info.splits else "validation"


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


def _read_split(
    builder: tfds.core.DatasetBuilder, split: str, description: Description
) -> Split:
    """Decodes one split into arrays made beforehand."""
    # Without OpenCV, TFDS decodes with Pillow too, but complains about it in every run.
    source = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    num = len(source)
    image = np.empty((num, *description.image_shape), np.uint8)
    label = np.empty(num, np.int32)
    for start in range(0, num, _BLOCK):
        block = range(start, min(start + _BLOCK, num))
        for index, example in zip(block, source.__getitems__(block), strict=True):
            with Image.open(io.BytesIO(example["image"])) as encoded:
                image[index] = decode.as_rgb(encoded)
            label[index] = example["label"]
    # Some sets keep the labels of their test images to themselves.
    if num and label.min() < 0:
        raise ValueError(f"{builder.name}: its split {split} has images without labels")
    return Split(image, label)
