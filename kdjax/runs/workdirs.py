"""Reads and writes the work directory of a run."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from kdjax import distill
from kdjax.config import fields
from kdjax.config.fields import FIELDS
from kdjax.runs import console, json_files, lock

CONFIG = "config.json"
RESULT = "result.json"
_PARTIAL = ".tmp"

#: Ends the message of a run that is not resumed since something differs.
ALLOW_CHANGE = "checkpoint.allow_config_change=True resumes nevertheless"

_PACKAGE = "kdjax"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Converts a configuration to what reading it from JSON returns."""
    return json.loads(json.dumps(config.to_dict()))


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Reads the configuration of a work directory; None if it has none.

    Raises:
      ValueError: if it is damaged, as in `read_result`.
    """
    return json_files.read(workdir / CONFIG, json_files.CONFIG)


def read_result(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Reads the result of a finished run; None if it is not finished."""
    return json_files.read(workdir / RESULT, json_files.RESULT)


def with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """Flattens a saved configuration and adds fields that it lacks, with defaults.

    Args:
      saved: from `read_config`.

    Returns:
      Values by names like "optimizer.momentum". A method that no longer exists has the
      hyperparameters it was saved with and no others.
    """
    methods = {}
    for name, given in saved.get("methods", {}).items():
        try:
            known = distill.hyperparameters(name, **given)
            methods[name] = as_json(ml_collections.ConfigDict(known))
        except ValueError:
            methods[name] = given
    default = as_json(fields.default())
    return {
        **flatten(default | {"methods": methods}),
        **flatten(saved | {"methods": methods}),
    }


def check_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Checks that a work directory is new or belongs to a configuration.

    Raises:
      ValueError: names the directory and the fields that differ, with both values; or
        the directory is not empty and holds no run.
    """
    before = read_config(workdir) if workdir.is_dir() else None
    if before is None:
        check_empty(workdir)
        return
    if config.checkpoint.allow_config_change:
        return
    if differ := _differences(before, config):
        raise ValueError(
            f"workdir={workdir} belongs to another configuration: {differ}; "
            f"{ALLOW_CHANGE}"
        )


def _differences(saved: dict[str, Any], config: ml_collections.ConfigDict) -> str:
    """Names the fields that change what is trained, with both values; or ""."""
    before, now = with_defaults(saved), flatten(as_json(config))
    return "; ".join(
        f"{path} was {before.get(path)!r} and is {now.get(path)!r}"
        for path in sorted(before.keys() | now.keys())
        if not _may_differ(path) and before.get(path) != now.get(path)
    )


def goes_on(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> bool:
    """Tells whether a config has more epochs than a finished run was trained for.

    Raises:
      ValueError: if it has fewer, or as many and differs in another field: nothing
        would be trained, and the result is not that of the config.
    """
    if read_result(workdir) is None:
        return False
    saved = read_config(workdir)
    if config.epochs < saved["epochs"]:
        raise ValueError(
            f"epochs={config.epochs} is less than the {saved['epochs']} epochs that "
            f"workdir={workdir} was trained for"
        )
    if config.epochs == saved["epochs"] and (differ := _differences(saved, config)):
        raise ValueError(
            f"workdir={workdir} is finished, and only more epochs go on: {differ}"
        )
    return config.epochs > saved["epochs"]


def set_result_aside(workdir: pathlib.Path) -> None:
    """Renames the result of a finished run, if it is one, by its number of epochs."""
    if (workdir / RESULT).exists():
        epochs = read_config(workdir)["epochs"]
        os.replace(workdir / RESULT, workdir / f"result_of_{epochs}_epochs.json")


def _may_differ(path: str) -> bool:
    """Tells whether a run may be resumed with another value of a field."""
    return path in FIELDS and FIELDS[path].resume_may_differ


def check_empty(workdir: pathlib.Path) -> None:
    """Raises a ValueError unless a new work directory can be created there."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir={workdir} is not a directory")
    if read_config(workdir) is not None:
        raise ValueError(f"workdir={workdir} already holds a run")
    # Left by a run that was killed right after its start.
    leftovers = {
        lock.NAME,
        lock.HOLDER,
        pathlib.Path(CONFIG).with_suffix(_PARTIAL).name,
    }
    if workdir.exists() and {path.name for path in workdir.iterdir()} - leftovers:
        raise ValueError(f"workdir={workdir} is not empty and holds no run")


def check_no_run(workdir: pathlib.Path) -> None:
    """Raises a ValueError if the folder of several runs is that of a single one."""
    if workdir.is_dir() and read_config(workdir) is not None:
        raise ValueError(
            f"workdir={workdir} holds a single run: several need a folder of their own"
        )


def create(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Creates the directory if necessary and writes the configuration into it."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, as_json(config))


def write_result(workdir: pathlib.Path, result: dict[str, Any]) -> None:
    """Writes the result of a finished run."""
    write_json(workdir / RESULT, result)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    temporary = path.with_suffix(_PARTIAL)
    with console.naming(path), temporary.open("w") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        # Otherwise a power failure could leave the name without the content.
        os.fsync(file.fileno())
    os.replace(temporary, path)


def provenance() -> dict[str, Any]:
    """Returns what a run depends on: devices, versions and the revision of kdjax.

    `git_revision` is that of the checkout that kdjax is imported from, marked "-dirty"
    with uncommitted changes; of an installed package it is the version.
    """
    version = _version()
    return {
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "versions": {
            "python": sys.version.split()[0],
            _PACKAGE: version,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "git_revision": _git_revision() or f"{_PACKAGE} {version}",
    }


def warn_of_changes(
    folder: pathlib.Path, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Prints one line if a run is resumed with other devices or versions.

    Args:
      folder: of the checkpoint.
      before: what `provenance` returned when it was saved.
      now: what it returns now.
    """
    before, now = (
        {name: tree.get(name) for name in ("device_kind", "num_devices")}
        | dict(tree.get("versions", {}))
        for tree in (before, now)
    )
    changes = [
        f"{name} was {value} and is {now.get(name)}"
        for name, value in before.items()
        if value is not None and value != now.get(name)
    ]
    if changes:
        console.warn(
            f"{folder}: {'; '.join(changes)}: the run may not end with the numbers of "
            "an uninterrupted one"
        )


def _root() -> pathlib.Path | None:
    """Returns the checkout that kdjax is imported from; None if it is installed."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        return None
    project = tomllib.loads((root / "pyproject.toml").read_text()).get("project", {})
    return root if project.get("name") == _PACKAGE else None


def _version() -> str:
    if (root := _root()) is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        return project.get("version", "unknown")
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _git_revision() -> str | None:
    """Returns the revision of kdjax's own repository; None if it runs from no such."""
    root = _root()
    # A work tree has a file of this name. Without it git would describe a repository
    # that contains this folder.
    if root is None or not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries; names are like "optimizer.momentum"."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
