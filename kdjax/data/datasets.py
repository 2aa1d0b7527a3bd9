"""Data sets by name.

`data.name` is one of

- `digits`, which scikit-learn ships;
- `cifar10`, `cifar100` and `tiny_imagenet`, prepared by `kdjax.data.prepare`;
- `imagenet`, TFDS's imagenet2012, tested on its split `validation`;
- `tfds:NAME`, any TFDS data set that is prepared in ArrayRecord format and has images
  and labels; without a split `test` it is tested on its split `validation`, or on
  `data.test_fraction` of its split `train`;
- `folder`, a folder of images laid out as `kdjax.data.sources.folder` describes.

A data set that fits is decoded once and kept in device memory; any other one is read
from storage during training, see `pipeline_choice.choose`.
"""

import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

import ml_collections

from kdjax.data import class_names, pipeline_choice, subsets
from kdjax.data.split import ArraySource, Description, LazySplit, Split

#: Data sets that are described without being read.
_KNOWN = {
    "digits": Description(10, (8, 8, 3), 1_797, 1_000, class_names.DIGITS),
    "cifar10": Description(10, (32, 32, 3), 60_000, 50_000, class_names.CIFAR10),
    "cifar100": Description(100, (32, 32, 3), 60_000, 50_000, class_names.CIFAR100),
}
#: Data sets whose images are not resized.
OF_ONE_SIZE = tuple(_KNOWN)

_PREPARED = ("cifar10", "cifar100", "tiny_imagenet")
_IMAGENET = "imagenet"
_TFDS = "tfds:"

#: Values of `data.name`, in words.
NAMES = ("digits", *_PREPARED, _IMAGENET, "tfds:NAME", "folder")

#: Values of `data.bad_images`: what is done with images that cannot be decoded.
BAD_IMAGES = ("error", "skip")


class Data(NamedTuple):
    """The splits of a run.

    Attributes:
      train: the training images.
      test: the test images.
      validation: images held out from the training split, or None.
      skipped: number of files of "train" and "test" that could not be decoded.
      description: of the data set.
    """

    train: Split | LazySplit
    test: Split | LazySplit
    validation: Split | LazySplit | None
    skipped: Mapping[str, int]
    description: Description


def describe(config: ml_collections.ConfigDict) -> Description:
    """Returns the metadata of a data set without reading its images.

    Args:
      config: the `data` part of a configuration.

    Raises:
      ValueError: in one line, if there is no such data set or it cannot be used.
      FileNotFoundError: if it is not prepared; names the command that prepares it.
    """
    if config.name == "folder":
        return _source("folder").describe(
            config.data_dir, config.image_size, config.test_fraction
        )
    tfds_name = _tfds_name(config)
    if config.test_fraction and config.name in (*_KNOWN, _IMAGENET):
        raise ValueError(
            f"data.test_fraction={config.test_fraction} but data.name={config.name!r}"
            " has a test split"
        )
    if config.name in _KNOWN:
        if config.image_size:
            raise ValueError(
                f"data.image_size={config.image_size} but data.name={config.name!r}:"
                " its images are not resized"
            )
        return _KNOWN[config.name]
    if config.name == _IMAGENET and config.image_size:
        # Known before it is prepared.
        shape = (config.image_size, config.image_size, 3)
        names = _source("tfds_source").class_names(tfds_name, config.data_dir or None)
        return Description(1000, shape, 1_331_167, 1_281_167, names)
    return _source("tfds_source").describe(
        tfds_name, config.data_dir or None, config.image_size, config.test_fraction
    )


def fingerprint(
    config: ml_collections.ConfigDict, description: Description
) -> dict[str, str]:
    """Returns what tells a data set from another one, wherever the two lie.

    No image is decoded: the files of a folder are known by their names and sizes, a
    prepared data set by its version and number of examples.

    Args:
      config: the `data` part of a configuration.
      description: of the data set.

    Returns:
      Digests and counts, by the splits "train" and "test".

    Raises:
      As `describe`; also for files that are no images, unless they are skipped.
    """
    if config.name == "folder":
        return _source("folder").fingerprint(description.layout, config.bad_images)
    if config.name == "digits":
        return dict.fromkeys(("train", "test"), "scikit-learn's digits")
    return _source("tfds_source").fingerprint(
        _tfds_name(config), config.data_dir or None
    )


def prepared_folder(config: ml_collections.ConfigDict) -> str:
    """Returns the name of a prepared data set's folder in `data.data_dir`, or "".

    Args:
      config: the `data` part of a configuration.
    """
    if config.name not in (*_PREPARED, _IMAGENET) and not config.name.startswith(_TFDS):
        return ""
    return re.split("[/:]", _tfds_name(config))[0]


def load(
    config: ml_collections.ConfigDict, description: Description | None = None
) -> Data:
    """Loads or opens a data set; raises as `describe`.

    `test_fraction` is applied first, then `train_fraction`, then `validation_fraction`.
    All are stratified and the same in every run.

    Args:
      config: the `data` part of a configuration.
      description: what `describe` returned for it, if it was called before.
    """
    description = description or describe(config)
    names = description.class_names
    in_memory = pipeline_choice.choose(config, description) == "in_memory"
    part = in_memory and _reads_part(config)
    read = _load_in_memory if in_memory and not part else _open
    splits, skipped = read(config, description)
    train, test = splits["train"], splits.get("test")
    if test is None:
        train, test = subsets.hold_out(
            train, config.test_fraction, names, "test_fraction"
        )
    train = subsets.stratified(train, config.train_fraction, names)
    train, validation = subsets.hold_out(train, config.validation_fraction, names)
    if part:
        train, test = train.in_memory(), test.in_memory()
        validation = validation and validation.in_memory()
    skipped = {"train": 0, "test": 0} | skipped
    return Data(train, test, validation, skipped, description)


def _source(module: str) -> ModuleType:
    """Imports a data source on first use: TFDS and scikit-learn take seconds."""
    return importlib.import_module(f"kdjax.data.sources.{module}")


def _tfds_name(config: ml_collections.ConfigDict) -> str:
    """Returns the name of a data set in TFDS, or "" for the digits.

    Raises:
      ValueError: if there is no such data set.
    """
    if config.name == "digits":
        return ""
    if config.name == _IMAGENET:
        return "imagenet2012"
    name = config.name.removeprefix(_TFDS)
    if config.name not in _PREPARED and (name == config.name or not name):
        raise ValueError(f"data.name={config.name!r} is none of {', '.join(NAMES)}")
    return name


def _reads_part(config: ml_collections.ConfigDict) -> bool:
    """Tells whether no more images are read into memory than are chosen.

    Which are chosen depends on all, if bad ones are left out before. Prepared data sets
    are read faster as a whole.
    """
    complete = config.train_fraction == 1 or config.bad_images == "skip"
    return config.name == "folder" and not complete


def _load_in_memory(
    config: ml_collections.ConfigDict, description: Description
) -> tuple[dict[str, Split], dict[str, int]]:
    """Decodes everything; returns the splits and the number of skipped files."""
    if config.name == "folder":
        return _source("folder").load(
            config.data_dir,
            config.image_size,
            config.bad_images,
            config.test_fraction,
            description.layout,
        )
    if config.name == "digits":
        splits = _source("digits").load()
    else:
        splits = _source("tfds_source").load(
            _tfds_name(config),
            config.data_dir or None,
            config.image_size,
            config.test_fraction,
        )
    return splits, dict.fromkeys(splits, 0)


def _open(
    config: ml_collections.ConfigDict, description: Description
) -> tuple[dict[str, LazySplit], dict[str, int]]:
    """Opens everything; returns the splits and the number of skipped files."""
    skipped = {"train": 0, "test": 0}
    if config.name == "folder":
        sources, skipped = _source("folder").open_sources(
            config.data_dir, config.bad_images, config.test_fraction, description.layout
        )
    elif config.name == "digits":
        splits = _source("digits").load()
        sources = {name: ArraySource(split) for name, split in splits.items()}
    else:
        sources = _source("tfds_source").open_sources(
            _tfds_name(config), config.data_dir or None
        )
    # Crops of random size, or of a part of each image, are resized anyhow.
    one_size = not config.image_size and not pipeline_choice.streaming_fields(config)
    splits = {
        name: LazySplit(source, range(len(source)), description.image_shape, one_size)
        for name, source in sources.items()
    }
    return splits, skipped
