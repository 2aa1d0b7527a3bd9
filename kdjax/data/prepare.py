"""Prepares a data set for training, once.

    python -m kdjax.data.prepare cifar100 --archive=cifar-100-binary.tar.gz
    python -m kdjax.data.prepare tiny_imagenet --archive=tiny-imagenet-200.zip
    python -m kdjax.data.prepare mnist --data_dir=DIR

With --archive the published archive is read from disk. Without it the data set is
downloaded and prepared by TFDS, which needs TensorFlow. Either way it is stored in DIR
as a TFDS data set in ArrayRecord format, and training reads it without TensorFlow.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from kdjax.cli import command_line, home
from kdjax.data import messages
from kdjax.data.archives import cifar, cifar_builders, tiny_imagenet
from kdjax.data.sources import tfds_source
from kdjax.runs import console

#: Data sets prepared from a published archive: how to read it, and the builder.
_FROM_ARCHIVE: dict[str, tuple[Callable, type[tfds.core.DatasetBuilder]]] = {
    "cifar10": (
        lambda path: _read_cifar(path, cifar.CIFAR10),
        cifar_builders.Cifar10,
    ),
    "cifar100": (
        lambda path: _read_cifar(path, cifar.CIFAR100),
        cifar_builders.Cifar100,
    ),
    "tiny_imagenet": (tiny_imagenet.read_archive, tiny_imagenet.TinyImagenet),
}

#: Data sets that TFDS cannot download, and where their archives are.
_ONLY_FROM_ARCHIVE = {
    "tiny_imagenet": "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
}


def prepare(name: str, archive: str | None = None, data_dir: str | None = None) -> str:
    """Prepares a data set, unless it is already prepared.

    Args:
      name: of the data set in TFDS, or "tiny_imagenet".
      archive: path of the published archive; None downloads the data set.
      data_dir: the folder of prepared data sets; None for TFDS's own default,
        ~/tensorflow_datasets or the environment variable TFDS_DATA_DIR.

    Returns:
      One line with the folder and the numbers of images.

    Raises:
      ValueError: in one line, if the data set cannot be prepared. Existing files in
        data_dir are not changed.
    """
    builder = tfds_source.find_builder(name, data_dir)
    if tfds_source.is_prepared(builder):
        return f"{_describe(builder)}; it was already prepared"
    if builder.data_path.exists():
        raise ValueError(
            f"{builder.data_dir} exists, but is not a prepared data set: remove it"
        )
    if archive is None:
        _download(builder)
    elif builder.name in _FROM_ARCHIVE:
        _prepare_from_archive(builder.name, archive, os.fspath(builder.data_dir_root))
    else:
        known = ", ".join(_FROM_ARCHIVE)
        raise ValueError(f"--archive is only supported for {known}, not for {name}")
    return _describe(tfds_source.find_builder(name, data_dir))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after an error of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.data.prepare",
        description="Prepares a data set for training, once.",
        epilog="example: python -m kdjax.data.prepare cifar100"
        " --archive=cifar-100-binary.tar.gz --data_dir=DIR",
    )
    parser.add_argument(
        "name",
        help=f"{', '.join(_FROM_ARCHIVE)} or any other image classification data set"
        " of TFDS, such as mnist or imagenet2012",
    )
    parser.add_argument(
        "--archive",
        help=f"published archive, for {', '.join(_FROM_ARCHIVE)}; without it TFDS"
        " downloads the data set, which needs TensorFlow",
    )
    parser.add_argument(
        "--data_dir",
        help="folder of prepared data sets, later given as --config.data.data_dir;"
        " default: TFDS_DATA_DIR or ~/tensorflow_datasets",
    )
    args = parser.parse_args(argv)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        print(prepare(args.name, args.archive, args.data_dir))
    except ValueError as error:
        console.print_error("prepare", error)
        return 2
    return 0


def _read_cifar(path: str, published: cifar.Published) -> cifar.Archive:
    """Reads a CIFAR archive; says so if it is not the published file."""
    archive = cifar.read_archive(path, published)
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 not in published.md5:
        messages.note(
            f"{path} does not have a published checksum: its images may differ, or be"
            " in another order"
        )
    return archive


def _prepare_from_archive(name: str, archive: str, data_dir: str) -> None:
    """Reads and checks the full archive before anything is written."""
    read_archive, make_builder = _FROM_ARCHIVE[name]
    content = read_archive(str(home.expanded(archive)))
    try:
        builder = make_builder(
            archive=content, data_dir=data_dir, file_format="array_record"
        )
        # TFDS always makes a download folder and prints that it downloads.
        with (
            tempfile.TemporaryDirectory() as unused,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder.download_and_prepare(download_dir=unused)
    except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord's writer.
        raise ValueError(f"cannot write to {data_dir}: {error}") from error


def _download(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads and prepares a data set by TFDS, which needs TensorFlow."""
    if builder.name in _ONLY_FROM_ARCHIVE:
        raise ValueError(
            f"{builder.name} is prepared from {_ONLY_FROM_ARCHIVE[builder.name]}:"
            " download it and give --archive=PATH"
        )
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        instead = "give --archive=PATH, or " * (builder.name in _FROM_ARCHIVE)
        raise ValueError(
            f"downloading {builder.name} needs TensorFlow: {instead}"
            "pip install tensorflow-cpu"
        ) from error
    try:
        builder.download_and_prepare(file_format="array_record")
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise ValueError(f"cannot download {builder.name}: {error}") from error
    except Exception as error:  # Whatever the code of a data set raises.
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"TFDS cannot prepare {builder.name}: {reason}") from error


def _describe(builder: tfds.core.DatasetBuilder) -> str:
    """Returns one line with the folder and the numbers of images."""
    counts = " and ".join(
        f"{split.num_examples} {name}" for name, split in builder.info.splits.items()
    )
    return f"{builder.info.full_name} is in {builder.data_dir}: {counts} images"


if __name__ == "__main__":
    command_line.run(main)
