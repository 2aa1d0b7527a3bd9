"""Prepares a data set for training, once, on disk.

    python -m kdjax.data.prepare cifar100 --archive=cifar-100-binary.tar.gz
    python -m kdjax.data.prepare tiny_imagenet --archive=tiny-imagenet-200.zip
    python -m kdjax.data.prepare cifar100 --data_dir=DIR

The first two read an archive downloaded before; the third downloads any set of TFDS,
through its stock builder, which needs TensorFlow. Either way the set then lies in DIR
as a TFDS set in ArrayRecord format, for `kdjax.data.sources.tfds_source`.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from kdjax.data.archives import cifar, cifar_builders, tiny_imagenet
from kdjax.data.sources import tfds_source

#: The sets that can do without a download: how to read their published archives, and
#: what prepares them from it.
_FROM_ARCHIVE: dict[str, tuple[Callable, type[tfds.core.DatasetBuilder]]] = {
    "cifar10": (
        lambda path: cifar.read_archive(path, cifar.CIFAR10),
        cifar_builders.Cifar10,
    ),
    "cifar100": (
        lambda path: cifar.read_archive(path, cifar.CIFAR100),
        cifar_builders.Cifar100,
    ),
    "tiny_imagenet": (tiny_imagenet.read_archive, tiny_imagenet.TinyImagenet),
}

#: Sets that TFDS cannot download, and where they are.
_ONLY_FROM_ARCHIVE = {
    "tiny_imagenet": "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
}


def prepare(name: str, archive: str | None = None, data_dir: str | None = None) -> str:
    """Prepares a set, unless it is there already.

    Args:
      name: a TFDS set.
      archive: a published archive of the set, where it is known how to read it; None
        to download the set.
      data_dir: the folder that holds prepared sets; None for TFDS's own default,
        ~/tensorflow_datasets or the environment variable TFDS_DATA_DIR.

    Returns:
      One line that says what lies where.

    Raises:
      ValueError: in one line, where the set cannot be prepared. What was in data_dir
        before is as it was.
    """
    builder = tfds_source.find_builder(name, data_dir)
    if tfds_source.is_prepared(builder):
        return f"{_describe(builder)}; it was there before and is left as it is"
    if builder.data_path.exists():
        raise ValueError(f"{builder.data_dir} is there, but no prepared set: remove it")
    if archive is None:
        _download(builder)
    elif builder.name in _FROM_ARCHIVE:
        _prepare_from_archive(builder.name, archive, os.fspath(builder.data_dir_root))
    else:
        known = ", ".join(_FROM_ARCHIVE)
        raise ValueError(f"--archive is known for {known} only, not for {name}")
    return _describe(tfds_source.find_builder(name, data_dir))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, 2 where the user erred."""
    parser = argparse.ArgumentParser(
        prog="prepare", description="Prepares a data set for training, once, on disk."
    )
    parser.add_argument("name", help="the data set, for instance cifar100")
    parser.add_argument("--archive", help="published archive to read; else downloaded")
    parser.add_argument("--data_dir", help="where prepared sets lie; else TFDS's own")
    args = parser.parse_args(argv)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        print(prepare(args.name, args.archive, args.data_dir))
    except ValueError as error:
        print("prepare:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _prepare_from_archive(name: str, archive: str, data_dir: str) -> None:
    """Reads and checks the whole archive, and only then writes."""
    read_archive, make_builder = _FROM_ARCHIVE[name]
    content = read_archive(os.path.expanduser(archive))
    try:
        builder = make_builder(
            archive=content, data_dir=data_dir, file_format="array_record"
        )
        # TFDS always makes a download folder, and always says that it downloads.
        with (
            tempfile.TemporaryDirectory() as unused,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            builder.download_and_prepare(download_dir=unused)
    except (OSError, RuntimeError) as error:  # The latter from ArrayRecord's writer.
        raise ValueError(f"cannot write to {data_dir}: {error}") from error


def _download(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads and prepares a set the stock way, which opens files by TensorFlow."""
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


def _describe(builder: tfds.core.DatasetBuilder) -> str:
    """Says in one line what lies where."""
    counts = " and ".join(
        f"{split.num_examples} {name}" for name, split in builder.info.splits.items()
    )
    return f"{builder.info.full_name} lies in {builder.data_dir}: {counts} images"


if __name__ == "__main__":
    sys.exit(main())
