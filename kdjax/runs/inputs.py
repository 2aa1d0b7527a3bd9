"""What a run reads besides its configuration: the data set and the teacher's weights.

A work directory stores them in `inputs.json`, so that a run is not resumed with other
labels, images or another teacher under the same names.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from kdjax.cli import home
from kdjax.data import datasets
from kdjax.data.split import Description
from kdjax.runs import json_files, workdirs

#: File in the work directory.
NAME = "inputs.json"


def of_data(
    config: ml_collections.ConfigDict, description: Description
) -> dict[str, Any]:
    """Returns the class names and the fingerprint of a data set.

    Args:
      config: the `data` part of a configuration.
      description: of the data set.
    """
    return {
        "class_names": list(description.class_names),
        "images": datasets.fingerprint(config, description),
    }


def of_teacher(variables: Any) -> dict[str, Any]:
    """Returns a digest of the teacher's weights.

    Args:
      variables: of the teacher; None without one.
    """
    if variables is None:
        return {"teacher": None}
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return {"teacher": digest.hexdigest()}


def check(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, now: dict[str, Any]
) -> None:
    """Checks that a resumed run reads what it read when it was started.

    Args:
      workdir: the work directory; a new one and an older run have nothing to compare.
      config: of the run; `checkpoint.allow_config_change` allows other inputs, too.
      now: what the run would read; compared by the keys that both have.

    Raises:
      ValueError: names the class, the split or the teacher that differs.
    """
    before = json_files.read(workdir / NAME, json_files.INPUTS)
    if before is None or config.checkpoint.allow_config_change:
        return
    for key in before:
        if key in now and before[key] != now[key]:
            raise ValueError(
                f"workdir={workdir} was started with other inputs: "
                f"{_differences(key, before[key], now[key], config)}; "
                f"{workdirs.ALLOW_CHANGE}"
            )


def class_names(workdir: pathlib.Path) -> tuple[str, ...] | None:
    """Returns the names of a trained network's classes; None if they are not known."""
    path = home.expanded(workdir) / NAME
    stored = json_files.read(path, json_files.INPUTS) or {}
    return tuple(stored.get("class_names", ())) or None


def other_class(before: Sequence[str], now: Sequence[str]) -> str | None:
    """Names the first class that differs; None if none does."""
    for label, (old, new) in enumerate(itertools.zip_longest(before, now)):
        if old != new:
            return f"class {label} was {old!r} and is {new!r}"
    return None


def _differences(
    key: str, before: Any, now: Any, config: ml_collections.ConfigDict
) -> str:
    """Says how a value differs."""
    if key == "teacher":
        return f"teacher.checkpoint={config.teacher.checkpoint!r} has other weights"
    if key == "class_names":
        return other_class(before, now)
    splits = sorted(before.keys() | now.keys())
    return "; ".join(
        f"the {split} images were {before.get(split)} and are {now.get(split)}"
        for split in splits
        if before.get(split) != now.get(split)
    )


def write(workdir: pathlib.Path, now: dict[str, Any]) -> None:
    """Stores what a run reads."""
    workdirs.write_json(workdir / NAME, now)
