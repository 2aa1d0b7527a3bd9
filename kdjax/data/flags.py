"""Flags of commands that stand for fields `data.NAME` of a configuration."""

import argparse
from collections.abc import Sequence

import ml_collections

from kdjax.config.fields import FIELDS

_HELP = {
    "data_dir": "folder of images, or of prepared data sets; default: that of TFDS",
    "image_size": "height and width after cropping and resizing; 0 keeps the stored"
    " size",
    "eval_crop": "center crop at evaluation, as a fraction of the shorter side",
    "bad_images": "what to do with files of a folder that are no images",
    "test_fraction": "fraction of the images that is tested on, without a test split",
}


def add(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Adds the flags of some fields; None where they are not given."""
    for name in names:
        field = FIELDS[f"data.{name}"]
        parser.add_argument(
            f"--{name}",
            type=type(field.default),
            choices=field.choices,
            help=_HELP[name],
        )


def apply(
    args: argparse.Namespace, names: Sequence[str], data: ml_collections.ConfigDict
) -> None:
    """Sets the fields whose flags are given.

    Args:
      args: the parsed flags.
      names: as given to `add`.
      data: the `data` part of a configuration.

    Raises:
      ValueError: names the field, its value and what it may be.
    """
    for name in names:
        value = getattr(args, name)
        if value is None:
            continue
        if problem := FIELDS[f"data.{name}"].problem(value):
            raise ValueError(f"data.{name}={value!r} {problem}")
        data[name] = value
