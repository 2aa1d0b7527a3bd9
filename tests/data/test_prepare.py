import contextlib
import errno
import hashlib
import io
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import types

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

from kdjax.data import prepare
from kdjax.data.archives import cifar, cifar_builders
from kdjax.data.sources import tfds_source
from tests import commands

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = {"train": 6, "test": 4}


def make_table(num):
    """Makes binary records, uint8 [N, 3074], that begin with their own number."""
    table = np.random.default_rng(num).integers(0, 256, (num, 3074), np.uint8)
    table[:, 0] = np.arange(num)
    table[:, 1] = 99 - 10 * np.arange(num)
    table[:, 2] = np.arange(num)
    return table


def write_archive(path):
    members = {
        f"{split}.bin": make_table(num).tobytes() for split, num in COUNTS.items()
    }
    for kind, num in (("fine", 100), ("coarse", 20)):
        names = "".join(f"name_{k}\n" for k in range(num))
        members[f"{kind}_label_names.txt"] = names.encode()
    members = {f"cifar-100-binary/{name}": data for name, data in members.items()}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Writes a good archive and lets it, with its few images, pass for published."""
    for split, num in COUNTS.items():
        monkeypatch.setitem(cifar.NUM_RECORDS, split, num)
    path = write_archive(tmp_path / "good.tar.gz")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    published = cifar.CIFAR100._replace(md5=("that of the other archive", md5))
    monkeypatch.setattr(cifar, "CIFAR100", published)
    return path


def contents(folder):
    """Returns all that lies under a folder, files with what they hold."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refusal(capsys, *argv):
    """Runs the command line in vain; returns the one line it prints."""
    return commands.refused(prepare.main, capsys, "cifar100", *argv)


def test_the_prepared_data_set_can_be_loaded(archive, tmp_path, capfd):
    data_dir = tmp_path / "new" / "sets"
    assert (
        prepare.main(["cifar100", f"--archive={archive}", f"--data_dir={data_dir}"])
        == 0
    )
    assert capfd.readouterr() == (
        f"cifar100/3.0.2 is in {data_dir}/cifar100/3.0.2: 6 train and 4 test images\n",
        "",
    )
    # Nothing else: no downloads, nothing incomplete.
    assert [path.name for path in data_dir.iterdir()] == ["cifar100"]
    assert [path.name for path in (data_dir / "cifar100").iterdir()] == ["3.0.2"]

    splits = tfds_source.load("cifar100", str(data_dir))
    for name, num in COUNTS.items():
        image, label = splits[name]
        number = image[:, 0, 0, 0]
        np.testing.assert_array_equal(np.sort(number), np.arange(num))
        table = make_table(num)[number]
        np.testing.assert_array_equal(
            image.transpose(0, 3, 1, 2).reshape(num, 3072), table[:, 2:]
        )
        np.testing.assert_array_equal(label, table[:, 1])


def test_an_archive_with_another_checksum_is_read_with_a_note(
    archive, tmp_path, capsys, monkeypatch
):
    published = cifar.CIFAR100._replace(md5=("one", "other"))
    monkeypatch.setattr(cifar, "CIFAR100", published)
    argv = [f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}"]
    assert prepare.main(["cifar100", *argv]) == 0
    assert capsys.readouterr().err == (
        f"kdjax: {archive} does not have a published checksum: its images may differ,"
        " or be in another order\n"
    )


def test_a_prepared_data_set_is_not_touched(archive, tmp_path, capsys):
    data_dir = tmp_path / "sets"
    argv = ["cifar100", f"--archive={archive}", f"--data_dir={data_dir}"]
    assert prepare.main(argv) == 0
    before = contents(data_dir)
    said = capsys.readouterr().out
    assert prepare.main(argv) == 0
    assert prepare.main(["cifar100", f"--data_dir={data_dir}"]) == 0
    again = said.replace("\n", "; it was already prepared\n")
    assert capsys.readouterr() == (again * 2, "")
    assert contents(data_dir) == before


class Call:
    def __reduce__(self):
        return os.system, ("exit",)


def write_evil(path):
    with tarfile.open(path, "w:gz") as tar:
        for name in ("train", "test", "meta"):
            data = pickle.dumps(Call(), protocol=2)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


BAD_ARCHIVES = {
    "missing": (lambda path: None, "cannot be read: No such file or directory"),
    "no tar": (lambda path: path.write_bytes(b"hello"), "not a complete tar archive: "),
    "cut": (
        lambda path: os.truncate(write_archive(path), 9000),
        "not a complete tar archive: Compressed file ended before",
    ),
    "too few images": (
        write_archive,
        "cifar-100-binary/train.bin holds 18444 bytes, expected 153700000",
    ),
    "evil": (
        write_evil,
        "cifar-100-python/train is not a readable pickle: it asks for",
    ),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
def test_a_bad_archive_is_rejected_and_nothing_is_written(tmp_path, capsys, case):
    write, message = BAD_ARCHIVES[case]
    path, data_dir = tmp_path / "a.tar.gz", tmp_path / "sets"
    write(path)
    said = refusal(capsys, f"--archive={path}", f"--data_dir={data_dir}")
    assert said.startswith(f"{path}: {message}")
    assert not data_dir.exists()


def test_a_folder_that_cannot_be_written_is_reported(archive, tmp_path, capsys):
    data_dir = tmp_path / "file"
    data_dir.write_text("precious")
    for folder in (data_dir, data_dir / "below"):
        said = refusal(capsys, f"--archive={archive}", f"--data_dir={folder}")
        assert said.startswith(f"cannot write to {folder}: [Errno ")
    assert data_dir.read_text() == "precious"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("full")])
def test_an_interrupted_preparation_leaves_nothing(
    archive, tmp_path, capsys, monkeypatch, error
):
    complete = cifar_builders.Cifar100._generate_examples

    def interrupted(self, split_prefix, records):
        yield from complete(self, split_prefix, records)
        raise error

    monkeypatch.setattr(cifar_builders.Cifar100, "_generate_examples", interrupted)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "other").write_text("precious")
    said = refusal(capsys, f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}")
    assert said.startswith(f"cannot write to {tmp_path / 'sets'}: ")
    assert said.endswith("full")
    folder = pathlib.Path("cifar100")
    assert contents(tmp_path / "sets") == {
        pathlib.Path("other"): b"precious",
        folder: None,
    }


def test_an_existing_folder_of_other_files_is_not_touched(archive, tmp_path, capsys):
    folder = tmp_path / "sets" / "cifar100" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("precious")
    said = refusal(capsys, f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}")
    assert said == f"{folder} exists, but is not a prepared data set: remove it"
    assert (folder / "notes.txt").read_text() == "precious"


def test_another_file_format_is_rejected(archive, tmp_path, capsys):
    argv = [f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}"]
    assert prepare.main(["cifar100", *argv]) == 0
    capsys.readouterr()
    description = tmp_path / "sets" / "cifar100" / "3.0.2" / "dataset_info.json"
    text = description.read_text().replace('"array_record"', '"tfrecord"')
    description.write_text(text)
    assert "in the file format tfrecord, expected array_rec" in refusal(capsys, *argv)
    assert description.read_text() == text


def test_archives_of_other_data_sets_are_rejected(archive, tmp_path, capsys):
    argv = ["mnist", f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}"]
    assert prepare.main(argv) == 2
    message = (
        "prepare: --archive is only supported for cifar10, cifar100, tiny_imagenet,"
        " not for mnist\n"
    )
    assert capsys.readouterr() == ("", message)


def test_the_command_says_what_to_do_without_tensorflow(tmp_path):
    # Shadows TensorFlow where it is installed.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not here')")
    command = [
        "-m",
        "kdjax.data.prepare",
        "cifar100",
        f"--data_dir={tmp_path / 'sets'}",
    ]
    result = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "prepare: downloading cifar100 needs TensorFlow: give --archive=PATH,"
        " or pip install tensorflow-cpu\n"
    )
    assert not (tmp_path / "sets").exists()


def offline(self, url, **kwargs):
    raise requests.exceptions.ConnectionError("no route\nto host")


def answer(status):
    @contextlib.contextmanager
    def get(self, url, **kwargs):
        yield types.SimpleNamespace(
            url=url,
            headers={},
            status_code=status,
            iter_content=lambda **kwargs: [b"wrong"],
        )

    return get


@pytest.mark.parametrize(
    ("get", "reason"),
    [
        (offline, "no route to host"),
        (answer(404), "Failed to get url https://www.cs.toronto.edu/~kriz/"),
        (answer(200), "Artifact https://www.cs.toronto.edu/~kriz/"),
    ],
    ids=["offline", "not found", "another file"],
)
def test_a_failed_download_is_one_line(tmp_path, capsys, monkeypatch, get, reason):
    # As much of TensorFlow as TFDS uses before the download.
    tensorflow = types.SimpleNamespace(dtypes=types.SimpleNamespace(DType=type))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(requests.Session, "get", get)
    argv = ["cifar100", f"--data_dir={tmp_path / 'sets'}"]
    status, _, error = commands.run(prepare.main, capsys, *argv)
    assert status == 2
    assert error.startswith(f"prepare: cannot download cifar100: {reason}")
    assert error.count("\n") == 1
    assert not list((tmp_path / "sets" / "cifar100").iterdir())


def test_a_builder_that_fails_is_one_line(tmp_path, capsys, monkeypatch):
    def fail(self, **kwargs):
        raise KeyError("no\nsuch key")

    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    said = refusal(capsys, f"--data_dir={tmp_path}")
    assert said == r"TFDS cannot prepare cifar100: KeyError: 'no\nsuch key'"


def test_an_unknown_data_set_is_rejected(capsys):
    said = commands.refused(prepare.main, capsys, "cifar1000")
    assert said == "TFDS has no data set 'cifar1000'"
