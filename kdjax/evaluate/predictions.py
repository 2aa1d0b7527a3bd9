"""Predictions as comma-separated values, one line an image."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import special

from kdjax.evaluate.images import Images

#: Names of the columns.
COLUMNS = ("image", "true", "predicted", "probability")


def check_file(file: Path, *, overwrite: bool) -> None:
    """Checks that a file may be written.

    Raises:
      ValueError: names the flag and what is wrong.
    """
    if file.is_dir():
        raise ValueError(f"--predictions={file} is a folder")
    if not file.parent.is_dir():
        raise ValueError(f"--predictions={file}: {file.parent} is not a folder")
    if file.exists() and not overwrite:
        raise ValueError(f"--predictions={file} exists: --overwrite replaces it")


def lines(images: Images, logits: np.ndarray, label: np.ndarray) -> list[Sequence[str]]:
    """Returns the columns' names, and the cells of each image.

    Args:
      images: their classes are left empty if they are not labeled.
      logits: [N, K].
      label: [N].
    """
    names, probability = images.class_names, special.softmax(logits, axis=1)
    prediction = probability.argmax(axis=1)
    return [
        COLUMNS,
        *(
            (
                name,
                names[true] if images.labeled else "",
                names[predicted],
                f"{probability[at, predicted]:.6f}",
            )
            for at, (name, true, predicted) in enumerate(
                zip(images.names(), label, prediction, strict=True)
            )
        ),
    ]


def as_text(cells: list[Sequence[str]]) -> str:
    """Formats lines, without the end of the last one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue().removesuffix("\n")


def write(cells: list[Sequence[str]], file: Path) -> None:
    """Writes lines to a file, which appears when it is complete."""
    partial = file.with_name(file.name + ".partial")
    try:
        # File names may hold bytes that are no letters.
        partial.write_text(as_text(cells) + "\n", "utf-8", "surrogateescape")
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
