"""Data sets by name, and the part of one that a configuration asks for.

`data.name` is one of

- `digits`, which scikit-learn ships;
- `cifar10`, `cifar100` and `tiny_imagenet`, prepared by `kdjax.data.prepare`;
- `imagenet`, TFDS's imagenet2012, whose split `validation` is the test;
- `tfds:NAME`, any set of TFDS that is prepared in ArrayRecord format; where it has no
  split `test`, its split `validation` is the test;
- `folder`, a user's own images, laid out as `kdjax.data.sources.folder` says.

What fits is decoded once and lies on the devices; the rest stays where it is stored and
is read while training: `pipeline` decides.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import ml_collections
import numpy as np
from sklearn import model_selection

from kdjax.data import augment
from kdjax.data.sources import digits, folder, tfds_source
from kdjax.data.split import ArraySource, Description, LazySplit, Split

#: Sets that are described without being read.
_KNOWN = {
    "digits": Description(10, (8, 8, 3), 1_797),
    "cifar10": Description(10, (32, 32, 3), 60_000),
    "cifar100": Description(100, (32, 32, 3), 60_000),
}
_PREPARED = ("cifar10", "cifar100", "tiny_imagenet")
_IMAGENET = "imagenet"
_TFDS = "tfds:"

#: Where the images of a data set are while training, by the name in `data.pipeline`.
PIPELINES = ("auto", "in_memory", "streaming")

#: Most bytes of pixels that lie on every device by default. Beside them it holds the
#: networks and what they compute.
_DEVICE_BYTES = 4 * 2**30

#: What `data.name` may be, in words.
NAMES = ("digits", *_PREPARED, _IMAGENET, "tfds:NAME", "folder")

#: What may be done with images that cannot be decoded.
BAD_IMAGES = ("error", "skip")


_AnySplit = TypeVar("_AnySplit", Split, LazySplit)


class Data(NamedTuple):
    """What a configuration trains and is measured on.

    Attributes:
      train: what is left of the training split.
      test: the whole test split.
      validation: the part set aside from the training split, if there is one.
      skipped: files left out of "train" and "test" because they could not be decoded.
    """

    train: Split | LazySplit
    test: Split | LazySplit
    validation: Split | LazySplit | None
    skipped: Mapping[str, int]


def describe(config: ml_collections.ConfigDict) -> Description:
    """Tells how many classes and what images the data set has, without reading it.

    Args:
      config: the `data` part of a configuration.

    Raises:
      ValueError: in one line, if there is no such data set or it cannot be used.
      FileNotFoundError: if it is not prepared; names the command that prepares it.
    """
    if config.name == "folder":
        return folder.describe(config.data_dir, config.image_size)
    tfds_name = _tfds_name(config)
    if config.name in _KNOWN:
        if config.image_size:
            raise ValueError(
                f"data.image_size={config.image_size} but data.name={config.name!r}:"
                " its images are not resized"
            )
        return _KNOWN[config.name]
    if config.name == _IMAGENET and config.image_size:
        # Known before it is prepared.
        return Description(1000, (config.image_size, config.image_size, 3), 1_331_167)
    return tfds_source.describe(tfds_name, config.data_dir or None, config.image_size)


def pipeline(config: ml_collections.ConfigDict, description: Description) -> str:
    """Decides where the images are while training: "in_memory" or "streaming".

    Args:
      config: the `data` part of a configuration.
      description: of the data set.

    Raises:
      ValueError: if what is asked for can only be had on the other pipeline.
    """
    height, width, _ = description.image_shape
    for field, asked in (
        ("crop", config.crop == augment.RANDOM_RESIZED),
        ("eval_crop", config.eval_crop != 1),
    ):
        if not asked:
            continue
        if config.pipeline == "in_memory":
            raise ValueError(
                f"data.pipeline='in_memory' but data.{field}={config[field]!r}: only"
                " data.pipeline='streaming' crops and resizes each image"
            )
        if height != width:
            raise ValueError(
                f"data.{field}={config[field]!r} makes square images, and these have"
                f" {width}x{height} pixels: set data.image_size"
            )
    if config.pipeline != "auto":
        return config.pipeline
    only_host = config.crop == augment.RANDOM_RESIZED or config.eval_crop != 1
    pixels = description.num_images * height * width * 3
    return "streaming" if only_host or pixels > _DEVICE_BYTES else "in_memory"


def load(config: ml_collections.ConfigDict) -> Data:
    """Loads or opens what `config.data` asks for; arguments and errors as `describe`.

    The validation part is set aside after `train_fraction` has been taken, each class
    in proportion and the same in every run.
    """
    description = describe(config)
    num_classes = description.num_classes
    if pipeline(config, description) == "in_memory":
        splits, skipped = _in_memory(config)
    else:
        splits, skipped = _stored(config, description.image_shape)
    train = stratified(splits["train"], config.train_fraction, num_classes)
    train, validation = set_aside(train, config.validation_fraction, num_classes)
    return Data(train, splits["test"], validation, skipped)


def _in_memory(
    config: ml_collections.ConfigDict,
) -> tuple[dict[str, Split], dict[str, int]]:
    """Decodes everything; returns the splits and what was skipped of each."""
    if config.name == "folder":
        return folder.load(config.data_dir, config.image_size, config.bad_images)
    if config.name == "digits":
        splits = digits.load()
    else:
        splits = tfds_source.load(
            _tfds_name(config), config.data_dir or None, config.image_size
        )
    return splits, dict.fromkeys(splits, 0)


def _stored(
    config: ml_collections.ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[dict[str, LazySplit], dict[str, int]]:
    """Opens everything; returns the splits and what is skipped of each."""
    skipped = {"train": 0, "test": 0}
    if config.name == "folder":
        images, skipped = folder.stored(config.data_dir, config.bad_images)
    elif config.name == "digits":
        images = {name: ArraySource(split) for name, split in digits.load().items()}
    else:
        images = tfds_source.stored(_tfds_name(config), config.data_dir or None)
    splits = {
        name: LazySplit(found, range(len(found)), image_shape)
        for name, found in images.items()
    }
    return splits, skipped


def _tfds_name(config: ml_collections.ConfigDict) -> str:
    """Returns what TFDS calls a set; nothing for those it does not know.

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


def stratified(split: _AnySplit, fraction: float, num_classes: int) -> _AnySplit:
    """Keeps a fraction of a split, the same in every run, each class in proportion.

    Args:
      split: the whole.
      fraction: in (0, 1].
      num_classes: at least one image of each must stay.

    Raises:
      ValueError: if the fraction, or what it leaves out, is fewer images than classes.
    """
    if fraction == 1:
        return split
    kept, _ = _divide(split, "train_fraction", fraction, num_classes)
    return kept


def set_aside(
    split: _AnySplit, fraction: float, num_classes: int
) -> tuple[_AnySplit, _AnySplit | None]:
    """Divides a training split into what is trained on and a part to validate on.

    Args:
      split: the whole.
      fraction: of the part, in [0, 1).
      num_classes: each part must have as many images.

    Returns:
      What is left, and the part; None for a fraction of 0.

    Raises:
      ValueError: if a part is left with fewer images than classes.
    """
    if not fraction:
        return split, None
    part, left = _divide(split, "validation_fraction", fraction, num_classes)
    return left, part


def _divide(
    split: _AnySplit, field: str, fraction: float, num_classes: int
) -> tuple[_AnySplit, _AnySplit]:
    """Divides a split into a fraction of it and the others, both in its order."""
    total = len(split.label)
    chosen = round(fraction * total)
    if min(chosen, total - chosen) < num_classes:
        raise ValueError(
            f"data.{field}={fraction} divides {total} images into {chosen} and "
            f"{total - chosen}, fewer than the {num_classes} classes"
        )
    _, counts = np.unique(split.label, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"data.{field}={fraction}: a class of one training image cannot be divided"
        )
    indices = model_selection.train_test_split(
        np.arange(total), train_size=chosen, stratify=split.label, random_state=0
    )
    return tuple(split.select(np.sort(places)) for places in indices)
