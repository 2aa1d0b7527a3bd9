"""Reads a prepared TFDS set of images into memory, without TensorFlow."""

import io
import os
import shlex

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kdjax.data.split import Split

_SPLITS = ("train", "test")
_BLOCK = 1000  # Examples fetched at a time: one by one takes more than twice as long.


def load(name: str, data_dir: str | None = None) -> dict[str, Split]:
    """Reads the splits 'train' and 'test' of a prepared set, in the order on disk.

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
    builder = find_builder(name, data_dir)
    if not is_prepared(builder):
        root = os.fspath(builder.data_dir_root)
        setting = "data.data_dir" + (f"={data_dir!r}" if data_dir else " is not set")
        raise FileNotFoundError(
            f"{setting}: {name} is not prepared in {root}; prepare it with:"
            f" python -m kdjax.data.prepare {name} --data_dir={shlex.quote(root)}"
        )
    if not set(_SPLITS) <= set(builder.info.splits):
        found = " and ".join(builder.info.splits)
        raise ValueError(f"{name} has the splits {found}, expected train and test")
    features = builder.info.features
    if not {"image", "label"} <= set(features) or None in features["image"].shape:
        raise ValueError(f"{name} does not hold images of one size, each with a label")
    return {split: _read_split(builder, split) for split in _SPLITS}


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


def _read_split(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    """Decodes one split into arrays made beforehand."""
    shape = builder.info.features["image"].shape
    # Without OpenCV, TFDS decodes with Pillow too, but complains about it in every run.
    source = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    num = len(source)
    image = np.empty((num, *shape[:2], 3), np.uint8)
    label = np.empty(num, np.int32)
    for start in range(0, num, _BLOCK):
        block = range(start, min(start + _BLOCK, num))
        for index, example in zip(block, source.__getitems__(block), strict=True):
            with Image.open(io.BytesIO(example["image"])) as encoded:
                image[index] = encoded.convert("RGB")
            label[index] = example["label"]
    return Split(image, label)
