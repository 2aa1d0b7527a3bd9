"""Reads the published CIFAR-10 and CIFAR-100.

Four of the archives of https://www.cs.toronto.edu/~kriz/cifar.html can be read. They
are read in memory; nothing is unpacked to disk, and no code in them is run.

- cifar-10-binary.tar.gz and cifar-100-binary.tar.gz: records of 3073 or 3074 bytes, the
  labels (coarse and fine for CIFAR-100), then 32x32 pixels as a red, a green and a blue
  plane; and text files with the names of the classes, one a line.
- cifar-10-python.tar.gz and cifar-100-python.tar.gz: Python 2 pickles of dicts with
  `data` (uint8 [N, 3072], the same planes) and labels (lists of N ints); and a pickle
  with lists of the names.

CIFAR-10 has five files of training images and one of test images, CIFAR-100 one each.
"""

import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

import numpy as np

from kdjax.data.archives import array_pickle

#: Number of images in each split, for both data sets.
NUM_RECORDS = {"train": 50_000, "test": 10_000}
_NUM_PIXEL_BYTES = 3 * 32 * 32

# Errors of tarfile, and of the decompressors below it.
_DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)


class Labels(NamedTuple):
    """One kind of label and where it is in the archives.

    Attributes:
      feature: its name in TFDS.
      num_classes: labels are from 0 to num_classes - 1.
      key: in the pickled dicts of images.
      names_file: with the names of the classes, in the binary archive.
      names_key: in the pickled dict of names.
    """

    feature: str
    num_classes: int
    key: bytes
    names_file: str
    names_key: bytes


class Published(NamedTuple):
    """The layout of the archives of one data set.

    Attributes:
      binary: folder in the binary archive.
      python: folder in the python archive.
      files: of each split, in order; with `.bin` appended in the binary archive.
      meta: the pickle of the names.
      labels: in their order in a binary record.
      md5: checksums of the binary and the python archive.
    """

    binary: str
    python: str
    files: dict[str, tuple[str, ...]]
    meta: str
    labels: tuple[Labels, ...]
    md5: tuple[str, str]

    @property
    def members(self) -> tuple[set[str], set[str]]:
        """Returns the files of the binary and of the python archive."""
        files = [file for files in self.files.values() for file in files]
        names = {labels.names_file for labels in self.labels}
        return (
            {f"{self.binary}/{name}" for name in {f"{f}.bin" for f in files} | names},
            {f"{self.python}/{name}" for name in {*files, self.meta}},
        )


CIFAR10 = Published(
    binary="cifar-10-batches-bin",
    python="cifar-10-batches-py",
    files={
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
    meta="batches.meta",
    labels=(Labels("label", 10, b"labels", "batches.meta.txt", b"label_names"),),
    md5=("c32a1d4ab5d03f1284b67883e8d87530", "c58f30108f718f92721af3b95e74349a"),
)
CIFAR100 = Published(
    binary="cifar-100-binary",
    python="cifar-100-python",
    files={"train": ("train",), "test": ("test",)},
    meta="meta",
    labels=tuple(
        Labels(
            feature,
            num_classes,
            f"{kind}_labels".encode(),
            f"{kind}_label_names.txt",
            f"{kind}_label_names".encode(),
        )
        for feature, num_classes, kind in (
            ("coarse_label", 20, "coarse"),
            ("label", 100, "fine"),
        )
    ),
    md5=("03b5dce01913d631647c71ecec9e9cb8", "eb9058c3a382ffc7106e4002c42a8d85"),
)


class Records(NamedTuple):
    """One split in the published order.

    Attributes:
      image: uint8 [N, 32, 32, 3].
      labels: integers [N] by feature; CIFAR-100 has `label`, the fine class, and
        `coarse_label`, the superclass.
    """

    image: np.ndarray
    labels: dict[str, np.ndarray]


class Archive(NamedTuple):
    """The content of a published archive.

    Attributes:
      records: of the splits "train" and "test".
      class_names: names of the classes, by feature.
    """

    records: dict[str, Records]
    class_names: dict[str, list[str]]


def read_archive(
    path: str | os.PathLike[str],
    published: Published,
    num_records: Mapping[str, int] = NUM_RECORDS,
) -> Archive:
    """Reads a published archive, binary or python.

    Args:
      path: of a tar archive, compressed or not.
      published: the expected data set.
      num_records: the expected number of images in "train" and "test".

    Raises:
      ValueError: in one line, if the file is missing, damaged or another data set.
    """
    binary, python = published.members
    try:
        members = _read_members(path, binary | python)
        if members.keys() >= binary:
            return _parse_binary(members, published, num_records)
        if members.keys() >= python:
            return _parse_python(members, published, num_records)
        for expected in (binary, python):
            if not members.keys().isdisjoint(expected):
                missing = " and ".join(sorted(expected - members.keys()))
                raise ValueError(f"lacks {missing}")
        raise ValueError(f"holds neither {published.binary}/ nor {published.python}/")
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def _read_members(path: str | os.PathLike[str], wanted: Set[str]) -> dict[str, bytes]:
    """Returns the content of the wanted members by 'folder/name'."""
    members = {}
    try:
        with tarfile.open(path) as tar:
            for info in tar:
                name = pathlib.PurePosixPath(info.name).as_posix()  # Drops a leading ./
                if info.isfile() and name in wanted:
                    members[name] = tar.extractfile(info).read()
            # The tar ends before the compressed file, whose checksum comes last and is
            # only verified when it is read.
            while tar.fileobj.read(1 << 20):
                pass
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"not a complete tar archive: {reason}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    return members


def _parse_binary(
    members: dict[str, bytes], published: Published, num_records: Mapping[str, int]
) -> Archive:
    """Parses the members of the binary archive."""
    columns = len(published.labels)
    size = columns + _NUM_PIXEL_BYTES
    records = {}
    for split, files in published.files.items():
        num, parts = num_records[split] // len(files), []
        for file in files:
            name = f"{published.binary}/{file}.bin"
            found, expected = len(members[name]), num * size
            if found != expected:
                raise ValueError(
                    f"{name} holds {found} bytes, expected {expected}"
                    f" ({num} records of {size})"
                )
            table = np.frombuffer(members[name], np.uint8).reshape(num, size)
            labels = table[:, :columns].T
            parts.append(_records(name, published, table[:, columns:], labels))
        records[split] = _concatenate(parts)
    class_names = {}
    for labels in published.labels:
        name = f"{published.binary}/{labels.names_file}"
        class_names[labels.feature] = _names(name, members[name].split(), labels)
    return Archive(records, class_names)


def _parse_python(
    members: dict[str, bytes], published: Published, num_records: Mapping[str, int]
) -> Archive:
    """Parses the members of the python archive."""
    records = {}
    for split, files in published.files.items():
        num, parts = num_records[split] // len(files), []
        for file in files:
            name = f"{published.python}/{file}"
            # Popped, since the pixels take 150 MB in each representation.
            content = array_pickle.read_dict(name, members.pop(name))
            planes = array_pickle.uint8_array(
                f"{name}: data", content.pop(b"data", None), (num, _NUM_PIXEL_BYTES)
            )
            labels = [_label_list(name, content, x.key, num) for x in published.labels]
            parts.append(_records(name, published, planes, labels))
        records[split] = _concatenate(parts)
    name = f"{published.python}/{published.meta}"
    meta = array_pickle.read_dict(name, members[name])
    class_names = {
        labels.feature: _names(name, meta.get(labels.names_key), labels)
        for labels in published.labels
    }
    return Archive(records, class_names)


def _records(
    name: str, published: Published, planes: np.ndarray, columns: Iterable[np.ndarray]
) -> Records:
    """Makes records of planes [N, 3072] and columns of labels; checks the labels."""
    found = {}
    for labels, values in zip(published.labels, columns, strict=True):
        wrong = np.flatnonzero((values < 0) | (values >= labels.num_classes))
        if wrong.size:
            raise ValueError(
                f"{name}: record {wrong[0]} has {labels.feature} {values[wrong[0]]},"
                f" expected 0..{labels.num_classes - 1}"
            )
        # Copied so that the bytes of the archive are freed.
        found[labels.feature] = values.copy()
    image = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Records(np.ascontiguousarray(image), found)


def _concatenate(parts: list[Records]) -> Records:
    """Concatenates the files of one split."""
    if len(parts) == 1:
        return parts[0]
    return Records(
        np.concatenate([part.image for part in parts]),
        {
            feature: np.concatenate([part.labels[feature] for part in parts])
            for feature in parts[0].labels
        },
    )


def _names(name: str, names: Any, labels: Labels) -> list[str]:
    """Returns class names as text; checks that there is one for each class."""
    feature, expected = labels.feature, labels.num_classes
    if not isinstance(names, list) or not all(isinstance(n, bytes) for n in names):
        raise ValueError(f"{name} does not have a list of names for {feature}")
    found = len(set(names))
    if found != expected or len(names) != expected:
        raise ValueError(
            f"{name} holds {found} different names for {feature}, expected {expected}"
        )
    return [n.decode() for n in names]


def _label_list(name: str, content: dict[Any, Any], key: bytes, num: int) -> np.ndarray:
    """Returns a pickled list of num ints as int64 [num]."""
    labels = content.get(key)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{name}: {key.decode()} is not a list of ints")
    if len(labels) != num:
        raise ValueError(f"{name} holds {len(labels)} {key.decode()}, expected {num}")
    return np.array(labels)
