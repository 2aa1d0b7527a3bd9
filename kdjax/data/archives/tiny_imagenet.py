"""Reads the published TinyImageNet and prepares it for TFDS without TensorFlow.

The archive is `tiny-imagenet-200.zip` of http://cs231n.stanford.edu. It is read in
memory and never unpacked to disk. Its folder `tiny-imagenet-200` holds

- `wnids.txt`, the WordNet IDs of the classes, one a line, in the order of the labels;
- `train/<wnid>/images/*.JPEG`;
- `val/images/*.JPEG` and `val/val_annotations.txt`, whose lines begin with the name of
  an image and its class.

The images of `test/` have no published labels and are ignored: `val` becomes the split
"test" of the prepared data set. Archives with fewer classes can be read too.
"""

import io
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

_FOLDER = "tiny-imagenet-200"
_SIZE = (64, 64)
_TRAIN_IMAGE = re.compile(rf"{_FOLDER}/train/([^/]+)/images/[^/]+\.JPEG")
_VAL_IMAGES = f"{_FOLDER}/val/images"
_ANNOTATIONS = f"{_FOLDER}/val/val_annotations.txt"
_CLASSES = f"{_FOLDER}/wnids.txt"


class Example(NamedTuple):
    """One image.

    Attributes:
      name: of the file.
      image: the JPEG file, grayscale or RGB.
      label: class of the image, from 0.
    """

    name: str
    image: bytes
    label: int


class Archive(NamedTuple):
    """The content of the archive.

    Attributes:
      wnids: WordNet IDs of the classes, in the order of the labels.
      examples: of the splits "train" and "test".
    """

    wnids: list[str]
    examples: dict[str, list[Example]]


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Reads the published archive; decodes every image once to check it.

    Args:
      path: of the zip file.

    Raises:
      ValueError: in one line, if the file is missing, damaged or not TinyImageNet.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(
            f"{os.fspath(path)}: not a complete zip archive: {error}"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{os.fspath(path)}: cannot be read: {error.strerror or error}"
        ) from error
    # RuntimeError: the archive is encrypted.
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


class TinyImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of TinyImageNet, from an archive in memory."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, archive: Archive | None = None, **kwargs: Any):
        """Takes the archive, None to read a prepared data set; kwargs are TFDS's."""
        super().__init__(**kwargs)
        self._archive = archive

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(*_SIZE, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(),  # As many as the archive has.
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="TinyImageNet: 64x64 images of some classes of ImageNet.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # Nothing to download.
        self.info.features["label"].names = self._archive.wnids
        return {
            split: self._generate_examples(examples)
            for split, examples in self._archive.examples.items()
        }

    def _generate_examples(
        self, examples: list[Example]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, image, label in examples:
            # The JPEG file is stored as it is.
            yield name, {"id": name, "image": io.BytesIO(image), "label": label}


def _read(archive: zipfile.ZipFile) -> Archive:
    names = set(archive.namelist())
    for name in (_CLASSES, _ANNOTATIONS):
        if name not in names:
            raise ValueError(f"lacks {name}")
    wnids = archive.read(_CLASSES).decode().split()
    different = len(set(wnids))
    if not wnids or different != len(wnids):
        raise ValueError(
            f"{_CLASSES} names {len(wnids)} classes, {different} of them different"
        )
    number = {wnid: index for index, wnid in enumerate(wnids)}
    members = {"train": {}, "test": _annotated(archive, names)}
    for name in sorted(names):
        if match := _TRAIN_IMAGE.fullmatch(name):
            members["train"][name] = match[1]
    examples = {}
    for split, found in members.items():
        if unknown := sorted(set(found.values()) - set(wnids)):
            raise ValueError(f"holds images of {unknown[0]}, not in {_CLASSES}")
        examples[split] = [
            Example(pathlib.PurePosixPath(name).name, _image(archive, name), number[w])
            for name, w in found.items()
        ]
    if missing := sorted(set(wnids) - set(members["train"].values())):
        raise ValueError(f"holds no images of {missing[0]} to train on")
    if not examples["test"]:
        raise ValueError(f"holds no images under {_VAL_IMAGES}")
    return Archive(wnids, examples)


def _annotated(archive: zipfile.ZipFile, names: set[str]) -> dict[str, str]:
    """Returns the classes of the images of `val` by their names in the archive."""
    classes = {}
    for number, line in enumerate(archive.read(_ANNOTATIONS).decode().splitlines(), 1):
        fields = line.split()
        if len(fields) < 2:
            raise ValueError(
                f"{_ANNOTATIONS}: line {number} does not name an image and its class"
            )
        name = f"{_VAL_IMAGES}/{fields[0]}"
        if name in classes:
            raise ValueError(f"{_ANNOTATIONS} names {fields[0]} twice")
        classes[name] = fields[1]
    images = {name for name in names if re.fullmatch(rf"{_VAL_IMAGES}/[^/]+", name)}
    for name in sorted(images ^ classes.keys()):
        have, lack = "an image", "a class"
        if name in classes:
            have, lack = lack, have
        raise ValueError(f"{name} has {have}, but lacks {lack}")
    return classes


def _image(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a JPEG file; rejects other files and other sizes than 64x64."""
    content = archive.read(name)
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            image.load()
    except Exception as error:  # Pillow raises many types for damaged images.
        raise ValueError(f"{name} cannot be decoded") from error
    if image.size != _SIZE:
        raise ValueError(f"{name} has {image.width}x{image.height} pixels, not 64x64")
    return content
