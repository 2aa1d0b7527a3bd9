"""Prepares a data set for training, once, on disk.

    python -m kdjax.data.prepare cifar100 --archive=cifar-100-binary.tar.gz
    python -m kdjax.data.prepare cifar100 --data_dir=DIR

The first form reads an archive downloaded before; the second downloads it, through the
stock builder of TFDS, which needs TensorFlow. Either way the set then lies in DIR as a
TFDS set in ArrayRecord format, for `kdjax.data.tfds_source`.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from kdjax.data import cifar100, tfds_source


def prepare(name: str, archive: str | None = None, data_dir: str | None = None) -> str:
    """Prepares a set, unless it is there already.

    Args:
      name: a TFDS set; only 'cifar100' can do without a download.
      archive: a published archive of the set; None to download it.
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
    elif name == "cifar100":
        _prepare_from_archive(archive, os.fspath(builder.data_dir_root))
    else:
        raise ValueError(f"--archive is known for cifar100 only, not for {name}")
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


def _prepare_from_archive(archive: str, data_dir: str) -> None:
    """Reads and checks the whole archive, and only then writes."""
    content = cifar100.read_archive(os.path.expanduser(archive))
    try:
        builder = cifar100.Cifar100(
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
    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise ValueError(
            f"downloading {builder.name} needs TensorFlow: give --archive=PATH"
            " (cifar100 only), or pip install tensorflow-cpu"
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
