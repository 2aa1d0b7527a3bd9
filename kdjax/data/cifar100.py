"""CIFAR-100 as published, and a TFDS builder that prepares it without TensorFlow.

Two of the archives of https://www.cs.toronto.edu/~kriz/cifar.html are read, in
memory, nothing of them ever being unpacked to disk or run:

- cifar-100-binary.tar.gz: `train.bin` and `test.bin`, each a row of records of 3074
  bytes: coarse label, fine label, then 32x32 pixels as a red, a green and a blue
  plane; `fine_label_names.txt` and `coarse_label_names.txt`, one name a line.
- cifar-100-python.tar.gz: `train` and `test`, each a Python 2 pickle of a dict with
  `data` (uint8 [N, 3072], the same planes), `fine_labels` and `coarse_labels`
  (lists of N ints); `meta`, the names as two lists.
"""

import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kdjax.data import array_pickle

NUM_RECORDS = {"train": 50_000, "test": 10_000}
_NUM_CLASSES = {"label": 100, "coarse_label": 20}
_NUM_PIXEL_BYTES = 3 * 32 * 32
_NUM_RECORD_BYTES = 2 + _NUM_PIXEL_BYTES

# tarfile's own errors, and those of the decompressors that it lets through.
_DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)

_BINARY_MEMBERS = {
    "cifar-100-binary/train.bin",
    "cifar-100-binary/test.bin",
    "cifar-100-binary/fine_label_names.txt",
    "cifar-100-binary/coarse_label_names.txt",
}
_PYTHON_MEMBERS = {
    "cifar-100-python/train",
    "cifar-100-python/test",
    "cifar-100-python/meta",
}


class Records(NamedTuple):
    """One split as published, in the published order.

    Attributes:
      image: uint8 [N, 32, 32, 3].
      label: integers [N], the fine class, 0..99.
      coarse_label: integers [N], the superclass, 0..19.
    """

    image: np.ndarray
    label: np.ndarray
    coarse_label: np.ndarray


class Archive(NamedTuple):
    """All that a published archive holds.

    Attributes:
      records: 'train' and 'test'.
      class_names: the names of the classes of 'label' and of 'coarse_label'.
    """

    records: dict[str, Records]
    class_names: dict[str, list[str]]


def read_archive(
    path: str | os.PathLike[str], num_records: Mapping[str, int] = NUM_RECORDS
) -> Archive:
    """Reads a published archive of either kind, told apart by what it holds.

    Args:
      path: a tar archive, plain or compressed.
      num_records: how many images 'train' and 'test' must hold.

    Raises:
      ValueError: in one line, where the file is missing, damaged or not CIFAR-100.
    """
    try:
        members = _read_members(path)
        if members.keys() >= _BINARY_MEMBERS:
            return _parse_binary(members, num_records)
        if members.keys() >= _PYTHON_MEMBERS:
            return _parse_python(members, num_records)
        for expected in (_BINARY_MEMBERS, _PYTHON_MEMBERS):
            if not members.keys().isdisjoint(expected):
                missing = " and ".join(sorted(expected - members.keys()))
                raise ValueError(f"lacks {missing}")
        raise ValueError("holds neither cifar-100-binary/ nor cifar-100-python/")
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


class Cifar100(tfds.image_classification.Cifar100, skip_registration=True):
    """Prepares CIFAR-100 from an archive read beforehand, without TensorFlow.

    Name, version, features, keys and hence the order of the examples are those of the
    stock builder, which it extends: what it writes, the stock builder reads. It stays
    out of TFDS's registry, so `tfds.builder('cifar100')` goes on meaning the stock one.
    """

    def __init__(self, *, archive: Archive, **kwargs: Any):
        """Binds the archive; the other arguments are those of any TFDS builder."""
        super().__init__(**kwargs)
        self._archive = archive

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing to download.
        for feature, names in self._archive.class_names.items():
            self.info.features[feature].names = names
        return {
            split: self._generate_examples(f"{split}_", records)
            for split, records in self._archive.records.items()
        }

    def _generate_examples(
        self, split_prefix: str, records: Records
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = zip(*records, strict=True)
        for index, (image, label, coarse_label) in enumerate(columns):
            example = {
                "id": f"{split_prefix}{index:05d}",
                # TFDS encodes an array with TensorFlow, but this with Pillow.
                "image": Image.fromarray(image),
                "label": int(label),
                "coarse_label": int(coarse_label),
            }
            yield index, example


def _read_members(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Returns the contents of the members of interest by 'folder/name'."""
    members = {}
    try:
        with tarfile.open(path) as tar:
            for info in tar:
                name = pathlib.PurePosixPath(info.name).as_posix()  # Drops a leading ./
                if info.isfile() and name in _BINARY_MEMBERS | _PYTHON_MEMBERS:
                    members[name] = tar.extractfile(info).read()
            # The tar ends before the compressed file does, whose last bytes are the
            # checksum: it is only compared when they are read.
            while tar.fileobj.read(1 << 20):
                pass
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"not a whole tar archive: {reason}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    return members


def _parse_binary(members: dict[str, bytes], num_records: Mapping[str, int]) -> Archive:
    """Takes the members of the binary archive apart."""
    records, class_names = {}, {}
    for split, num in num_records.items():
        name = f"cifar-100-binary/{split}.bin"
        found, expected = len(members[name]), num * _NUM_RECORD_BYTES
        if found != expected:
            raise ValueError(
                f"{name} holds {found} bytes, expected {expected}"
                f" ({num} records of {_NUM_RECORD_BYTES})"
            )
        table = np.frombuffer(members[name], np.uint8).reshape(num, _NUM_RECORD_BYTES)
        records[split] = _records(name, table[:, 2:], table[:, 1], table[:, 0])
    for feature, kind in (("label", "fine"), ("coarse_label", "coarse")):
        name = f"cifar-100-binary/{kind}_label_names.txt"
        class_names[feature] = _names(name, members[name].split(), feature)
    return Archive(records, class_names)


def _parse_python(members: dict[str, bytes], num_records: Mapping[str, int]) -> Archive:
    """Takes the members of the python archive apart."""
    records, class_names = {}, {}
    for split, num in num_records.items():
        name = f"cifar-100-python/{split}"
        # Popped: the pixels take 150 MB wherever they stand.
        content = array_pickle.read_dict(name, members.pop(name))
        planes = array_pickle.uint8_array(
            f"{name}: data", content.pop(b"data", None), (num, _NUM_PIXEL_BYTES)
        )
        label = _label_list(name, content, b"fine_labels", num)
        coarse_label = _label_list(name, content, b"coarse_labels", num)
        records[split] = _records(name, planes, label, coarse_label)
    name = "cifar-100-python/meta"
    meta = array_pickle.read_dict(name, members[name])
    for feature, kind in (("label", b"fine"), ("coarse_label", b"coarse")):
        names = meta.get(kind + b"_label_names")
        class_names[feature] = _names(name, names, feature)
    return Archive(records, class_names)


def _records(
    name: str, planes: np.ndarray, label: np.ndarray, coarse_label: np.ndarray
) -> Records:
    """Puts planes [N, 3072] and labels [N] together, the labels checked."""
    for feature, values in (("label", label), ("coarse_label", coarse_label)):
        limit = _NUM_CLASSES[feature]
        wrong = np.flatnonzero((values < 0) | (values >= limit))
        if wrong.size:
            raise ValueError(
                f"{name}: record {wrong[0]} has {feature} {values[wrong[0]]},"
                f" expected 0..{limit - 1}"
            )
    image = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    # Copies, so that nothing keeps the archive's own bytes alive.
    return Records(np.ascontiguousarray(image), label.copy(), coarse_label.copy())


def _names(name: str, names: Any, feature: str) -> list[str]:
    """Returns class names as text, refused where they are not one for each class."""
    if not isinstance(names, list) or not all(isinstance(n, bytes) for n in names):
        raise ValueError(f"{name} holds no list of names for {feature}")
    found, expected = len(set(names)), _NUM_CLASSES[feature]
    if found != expected or len(names) != expected:
        raise ValueError(
            f"{name} holds {found} different names for {feature}, expected {expected}"
        )
    return [n.decode() for n in names]


def _label_list(name: str, content: dict[Any, Any], key: bytes, num: int) -> np.ndarray:
    """Returns a pickled list of num ints as int64 [num]."""
    labels = content.get(key)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{name}: {key.decode()} is no list of ints")
    if len(labels) != num:
        raise ValueError(f"{name} holds {len(labels)} {key.decode()}, expected {num}")
    return np.array(labels)
