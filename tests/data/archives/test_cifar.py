import gzip
import io
import os
import pickle
import re
import sys
import tarfile
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdjax.data.archives import cifar, cifar_builders

COUNTS = {"train": 7, "test": 3}
NAMES = {
    "fine": [f"fish_{k}" for k in range(100)],
    "coarse": [f"animal_{k}" for k in range(20)],
}


def make_table(split):
    """Makes records as published, uint8 [N, 3074], no two alike."""
    num = COUNTS[split]
    rng = np.random.default_rng(num)
    table = rng.integers(0, 256, (num, 3074), np.uint8)
    table[:, 0] = rng.integers(0, 20, num)
    table[:, 1] = rng.integers(0, 100, num)
    table[0, :2] = 19, 99
    return table


def expected_image(record):
    """Puts the planes of one record together the slow way."""
    image = np.zeros((32, 32, 3), np.uint8)
    for row in range(32):
        for column in range(32):
            for channel in range(3):
                offset = 2 + 1024 * channel + 32 * row + column
                image[row, column, channel] = record[offset]
    return image


def binary_members():
    members = {f"{split}.bin": make_table(split).tobytes() for split in COUNTS}
    for kind, names in NAMES.items():
        members[f"{kind}_label_names.txt"] = "".join(f"{n}\n" for n in names).encode()
    return {f"cifar-100-binary/{name}": data for name, data in members.items()}


def python_dicts():
    dicts = {}
    for split in COUNTS:
        table = make_table(split)
        dicts[split] = {
            b"filenames": [b"image_%d.png" % k for k in range(len(table))],
            b"batch_label": b"batch 1 of 1",
            b"fine_labels": table[:, 1].tolist(),
            b"coarse_labels": table[:, 0].tolist(),
            b"data": table[:, 2:],
        }
    dicts["meta"] = {
        b"fine_label_names": [name.encode() for name in NAMES["fine"]],
        b"coarse_label_names": [name.encode() for name in NAMES["coarse"]],
    }
    return dicts


class Python2Pickler(pickle._Pickler):
    """Writes strings the way Python 2 did: opcodes Python 3 reads but never writes."""

    def save_string(self, string):
        data = string if isinstance(string, bytes) else string.encode("latin1")
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(string)

    dispatch: ClassVar = {
        **pickle._Pickler.dispatch,
        bytes: save_string,
        str: save_string,
    }


def python2_dumps(value):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.", b"numpy.core.")


def python3_dumps(value):
    return pickle.dumps(value, protocol=2)


def python_members(dumps=python2_dumps, **changes):
    dicts = python_dicts() | changes
    return {f"cifar-100-python/{name}": dumps(value) for name, value in dicts.items()}


def write_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo(next(iter(members)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def check(archive):
    assert archive.class_names == {
        "label": NAMES["fine"],
        "coarse_label": NAMES["coarse"],
    }
    assert archive.records.keys() == COUNTS.keys()
    for split, records in archive.records.items():
        table = make_table(split)
        assert records.image.dtype == np.uint8
        np.testing.assert_array_equal(
            records.image, [expected_image(record) for record in table]
        )
        np.testing.assert_array_equal(records.labels["label"], table[:, 1])
        np.testing.assert_array_equal(records.labels["coarse_label"], table[:, 0])


def test_the_default_counts_are_the_published_ones():
    assert cifar.NUM_RECORDS == {"train": 50_000, "test": 10_000}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_the_binary_archive_is_recognized_by_its_content(tmp_path, mode):
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", binary_members(), mode)
    check(cifar.read_archive(path, cifar.CIFAR100, COUNTS))


@pytest.mark.parametrize("dumps", [python2_dumps, python3_dumps])
def test_the_python_archive_is_recognized_by_its_content(tmp_path, dumps):
    path = write_tar(tmp_path / "cifar-100-binary.tar.gz", python_members(dumps))
    check(cifar.read_archive(path, cifar.CIFAR100, COUNTS))


def test_the_pickles_of_the_tests_are_those_of_python_2():
    written = python_members()["cifar-100-python/train"]
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in written
    assert b"_codecs" not in written
    assert (
        pickle.loads(written, encoding="bytes").keys() == python_dicts()["train"].keys()
    )


def test_reads_pixels_pickled_in_fortran_order(tmp_path):
    dicts = python_dicts()
    dicts["train"][b"data"] = np.asfortranarray(dicts["train"][b"data"])
    path = write_tar(tmp_path / "a.tar.gz", python_members(**dicts))
    check(cifar.read_archive(path, cifar.CIFAR100, COUNTS))


def test_reads_members_named_with_a_leading_dot_and_ignores_others(tmp_path):
    members = {f"./{name}": data for name, data in binary_members().items()}
    members |= {"./cifar-100-binary/._train.bin": b"x", "./train.bin": b"y"}
    check(
        cifar.read_archive(write_tar(tmp_path / "a", members), cifar.CIFAR100, COUNTS)
    )


class ListArray:
    """Pickles as a uint8 array of the right shape, its bytes given as a list."""

    def __reduce__(self):
        function, args, state = np.zeros((7, 3072), np.uint8).__reduce__()
        return function, args, (*state[:-1], [0] * len(state[-1]))


def changed(name, key, value, dumps=python2_dumps):
    """Makes the members of a python archive with one field replaced."""
    dicts = python_dicts()
    dicts[name][key] = value
    return python_members(dumps, **dicts)


def with_label(column, value):
    table = make_table("test")
    table[2, column] = value
    return binary_members() | {"cifar-100-binary/test.bin": table.tobytes()}


def with_names(names):
    text = "".join(f"{name}\n" for name in names)
    return binary_members() | {"cifar-100-binary/fine_label_names.txt": text.encode()}


def without(members, *names):
    return {name: data for name, data in members.items() if name not in names}


BAD_MEMBERS = {
    "no member": (lambda: {"cifar-10-batches-bin/a.bin": b""}, "holds neither cifar-1"),
    "no test.bin": (
        lambda: without(binary_members(), "cifar-100-binary/test.bin"),
        "lacks cifar-100-binary/test.bin",
    ),
    "only train": (
        lambda: without(
            python_members(), "cifar-100-python/test", "cifar-100-python/meta"
        ),
        "lacks cifar-100-python/meta and cifar-100-python/test",
    ),
    "short train.bin": (
        lambda: binary_members() | {"cifar-100-binary/train.bin": bytes(7 * 3074 - 1)},
        "train.bin holds 21517 bytes, expected 21518 (7 records of 3074)",
    ),
    "coarse label 20": (
        lambda: with_label(0, 20),
        "test.bin: record 2 has coarse_label 20, expected 0..19",
    ),
    "99 names": (
        lambda: with_names([f"name_{k}" for k in range(99)]),
        "fine_label_names.txt holds 99 different names for label, expected 100",
    ),
    "two names the same": (
        lambda: with_names([f"name_{min(k, 98)}" for k in range(100)]),
        "fine_label_names.txt holds 99 different names for label, expected 100",
    ),
    "negative label": (
        lambda: changed("test", b"fine_labels", [0, -1, 0]),
        "cifar-100-python/test: record 1 has label -1, expected 0..99",
    ),
    "huge label": (
        lambda: changed("test", b"coarse_labels", [10**30, 1, 1]),
        "cifar-100-python/test: record 0 has coarse_label 1000",
    ),
    "labels not ints": (
        lambda: changed("train", b"fine_labels", [0.5] * 7),
        "cifar-100-python/train: fine_labels is not a list of ints",
    ),
    "too few labels": (
        lambda: changed("train", b"coarse_labels", [1] * 6),
        "cifar-100-python/train holds 6 coarse_labels, expected 7",
    ),
    "pixels not uint8": (
        lambda: changed("train", b"data", np.zeros((7, 3072), np.int8)),
        "cifar-100-python/train: data is not a uint8 array",
    ),
    "pixels as objects": (
        lambda: changed("train", b"data", np.full((7, 3072), None)),
        "cifar-100-python/train: data is not a uint8 array",
    ),
    "pixels as a list": (
        lambda: changed("train", b"data", ListArray(), python3_dumps),
        "cifar-100-python/train: data is not a uint8 array",
    ),
    "wrong shape": (
        lambda: changed("train", b"data", np.zeros((14, 1536), np.uint8)),
        "train: data has shape (14, 1536), expected (7, 3072)",
    ),
    "names missing": (
        lambda: changed("meta", b"fine_label_names", None),
        "cifar-100-python/meta does not have a list of names for label",
    ),
    "no dict": (
        lambda: python_members(train=[1, 2]),
        "cifar-100-python/train is not a dict",
    ),
    "cut pickle": (
        lambda: python_members(dumps=lambda value: python2_dumps(value)[:-9]),
        "cifar-100-python/train is not a readable pickle: ",
    ),
    "key that is none": (
        lambda: python_members(dumps=lambda value: b"}]K\x01s."),
        "cifar-100-python/train is not a readable pickle: unhashable type",
    ),
    "no pickle": (
        lambda: python_members(dumps=lambda value: b"\n\nhello"),
        "cifar-100-python/train is not a readable pickle: ",
    ),
}


def refusal(path):
    """Reads a bad archive; returns what the error says after the path."""
    one_line = rf"\A{re.escape(str(path))}: .+\Z"
    with pytest.raises(ValueError, match=one_line) as raised:
        cifar.read_archive(path, cifar.CIFAR100, COUNTS)
    return str(raised.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_bad_members_are_rejected(tmp_path, case):
    make_members, message = BAD_MEMBERS[case]
    path = write_tar(tmp_path / "a.tar.gz", make_members())
    assert message in refusal(path)


def test_a_missing_file_or_a_folder_is_rejected(tmp_path):
    assert refusal(tmp_path / "a.tar.gz") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>" * 99, gzip.compress(b"a")],
    # Not by the content: that of gzip holds the time.
    ids=["empty", "page", "gzip"],
)
def test_other_files_are_rejected(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    assert refusal(path).startswith("not a complete tar archive: ")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_is_rejected(tmp_path, mode):
    path = write_tar(tmp_path / "a.tar.gz", binary_members(), mode)
    size = path.stat().st_size
    for fraction in (0.7, 0.1, 0.0005):
        os.truncate(path, int(size * fraction))
        assert refusal(path).startswith("not a complete tar archive: ")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_corrupted_archive_is_rejected(tmp_path, mode):
    path = write_tar(tmp_path / "a.tar.gz", binary_members(), mode)
    content = path.read_bytes()
    for start in range(20, len(content) - 600, 2000):
        path.write_bytes(content[:start] + b"\xff" * 600 + content[start + 600 :])
        assert refusal(path)


def test_one_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "a.tar.gz"
    write_tar(tmp_path / "a.tar", binary_members(), "w")
    # Stored rather than compressed, so that only the checksum can tell.
    content = bytearray(gzip.compress((tmp_path / "a.tar").read_bytes(), 0))
    content[content.index(make_table("train")[3].tobytes()) + 100] ^= 1
    path.write_bytes(content)
    assert "CRC check failed" in refusal(path)


class Call:
    """Pickles as a call, which an ordinary unpickler makes while reading."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("member", ["train", "meta"])
def test_a_pickle_runs_no_code(tmp_path, member):
    trace = tmp_path / "trace"
    evil = python_dicts()[member] | {b"evil": Call(os.system, f"touch {trace}")}
    dumps = python3_dumps
    path = write_tar(tmp_path / "a.tar.gz", python_members(dumps, **{member: evil}))
    message = refusal(path)
    assert not trace.exists()
    assert message == (
        f"cifar-100-python/{member} is not a readable pickle: it asks for"
        f" '{os.system.__module__}.system', and only NumPy arrays are allowed"
    )
    # The same pickle does run where nothing stops it.
    pickle.loads(dumps(evil), encoding="bytes")
    assert trace.exists()


@pytest.mark.parametrize("function", [eval, np.load, os.remove])
def test_no_other_global_is_allowed(tmp_path, function):
    name = f"{function.__module__}.{function.__name__}"
    name = name.replace("builtins", "__builtin__")  # Its name in protocol 2.
    evil = {b"data": Call(function, "x")}
    path = write_tar(tmp_path / "a", python_members(python3_dumps, train=evil))
    assert f"it asks for '{name}', and" in refusal(path)


def test_the_builder_of_tfds_reads_the_prepared_data_set(tmp_path):
    tensorflow_was_loaded = "tensorflow" in sys.modules
    tfds.disable_progress_bar()
    path = write_tar(tmp_path / "a.tar.gz", binary_members())
    cifar_builders.Cifar100(
        archive=cifar.read_archive(path, cifar.CIFAR100, COUNTS),
        data_dir=tmp_path / "sets",
        file_format="array_record",
    ).download_and_prepare(download_dir=tmp_path / "downloads")

    builder = tfds.builder(
        "cifar100", data_dir=tmp_path / "sets", file_format="array_record"
    )
    assert type(builder) is tfds.image_classification.Cifar100
    assert builder.info.features["label"].names == NAMES["fine"]
    assert builder.info.features["coarse_label"].names == NAMES["coarse"]
    for split, num in COUNTS.items():
        table = make_table(split)
        examples = list(builder.as_data_source(split))
        assert sorted(example["id"].decode() for example in examples) == [
            f"{split}_{index:05d}" for index in range(num)
        ]
        for example in examples:
            record = table[int(example["id"].decode().removeprefix(f"{split}_"))]
            np.testing.assert_array_equal(example["image"], expected_image(record))
            assert example["label"] == record[1]
            assert example["coarse_label"] == record[0]
    assert ("tensorflow" in sys.modules) == tensorflow_was_loaded


def test_the_builder_of_tfds_stays_registered():
    assert tfds.builder_cls("cifar100") is tfds.image_classification.Cifar100
    assert issubclass(cifar_builders.Cifar100, tfds.image_classification.Cifar100)
    assert cifar_builders.Cifar100.name == "cifar100"
    assert cifar_builders.Cifar100.VERSION == tfds.image_classification.Cifar100.VERSION


NAMES_10 = [f"thing_{k}" for k in range(10)]
COUNTS_10 = {"train": 10, "test": 3}
FILES_10 = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def make_table_10():
    """Makes the records of all six files, uint8 [13, 3073], no two alike."""
    table = np.random.default_rng(10).integers(0, 256, (13, 3073), np.uint8)
    table[:, 0] = np.arange(13) % 10
    return table


def members_10(kind, table):
    """Makes the members of an archive of CIFAR-10: five files of two, and one of 3."""
    parts = dict(zip(FILES_10, np.split(table, [2, 4, 6, 8, 10]), strict=True))
    if kind == "binary":
        # As published, with an empty line at the end.
        names = "".join(f"{name}\n" for name in NAMES_10) + "\n"
        members = {f"{name}.bin": part.tobytes() for name, part in parts.items()}
        members["batches.meta.txt"] = names.encode()
        return {f"cifar-10-batches-bin/{name}": x for name, x in members.items()}
    dicts = {
        name: {b"labels": part[:, 0].tolist(), b"data": part[:, 1:]}
        for name, part in parts.items()
    }
    dicts["batches.meta"] = {b"label_names": [name.encode() for name in NAMES_10]}
    return {
        f"cifar-10-batches-py/{name}": python2_dumps(x) for name, x in dicts.items()
    }


def read_10(tmp_path, members):
    path = write_tar(tmp_path / "a.tar.gz", members)
    return cifar.read_archive(path, cifar.CIFAR10, COUNTS_10)


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_reads_cifar_10_in_the_order_of_its_files(tmp_path, kind):
    table = make_table_10()
    archive = read_10(tmp_path, members_10(kind, table))
    assert archive.class_names == {"label": NAMES_10}
    found = [archive.records[split] for split in ("train", "test")]
    for records, part in zip(found, np.split(table, [10]), strict=True):
        np.testing.assert_array_equal(records.labels["label"], part[:, 0])
        np.testing.assert_array_equal(
            records.image.transpose(0, 3, 1, 2).reshape(len(part), 3072), part[:, 1:]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda members: without(members, "cifar-10-batches-bin/data_batch_3.bin"),
            "lacks cifar-10-batches-bin/data_batch_3.bin",
        ),
        (
            lambda members: members | {"cifar-10-batches-bin/test_batch.bin": b"x"},
            "test_batch.bin holds 1 bytes, expected 9219 (3 records of 3073)",
        ),
        (lambda members: binary_members(), "holds neither cifar-10-batches-bin/ nor"),
    ],
)
def test_archives_of_other_data_sets_are_rejected(tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_10(tmp_path, change(members_10("binary", make_table_10())))


def test_the_builder_of_tfds_reads_the_prepared_cifar_10(tmp_path):
    tfds.disable_progress_bar()
    table = make_table_10()
    cifar_builders.Cifar10(
        archive=read_10(tmp_path, members_10("binary", table)),
        data_dir=tmp_path / "sets",
        file_format="array_record",
    ).download_and_prepare(download_dir=tmp_path / "downloads")
    builder = tfds.builder(
        "cifar10", data_dir=tmp_path / "sets", file_format="array_record"
    )
    assert type(builder) is tfds.image_classification.Cifar10
    assert builder.info.features["label"].names == NAMES_10
    for example in builder.as_data_source("train"):
        record = table[int(example["id"].decode().removeprefix("train_"))]
        np.testing.assert_array_equal(
            example["image"].transpose(2, 0, 1).ravel(), record[1:]
        )
        assert example["label"] == record[0]
