"""A work directory: what it must hold before, while and after a run."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import ml_collections

from kdjax import config as config_lib
from kdjax import distill
from kdjax.runs import lock

CONFIG = "config.json"
RESULT = "result.json"
_PARTIAL = ".tmp"

#: Fields that say where things lie or how often to look, and not what is trained.
_MAY_DIFFER = (
    "data.data_dir",
    # Either pipeline has the same examples.
    "data.pipeline",
    "data.workers",
    "teacher.checkpoint",
    "checkpoint.every_steps",
    "checkpoint.keep_last",
    "checkpoint.keep_best",
    "checkpoint.allow_config_change",
)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Turns a configuration into what JSON gives back for it."""
    return json.loads(json.dumps(config.to_dict()))


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Reads the configuration of a work directory; None if it has none."""
    return _read_json(workdir / CONFIG)


def read_result(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Reads the result of a finished run; None if it is not finished."""
    return _read_json(workdir / RESULT)


def _read_json(path: pathlib.Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """Flattens a saved configuration; fields younger than it are as by default now.

    Args:
      saved: what `read_config` gave.

    Returns:
      Values by names like "optimizer.momentum". A method that is not known now keeps
      the hyperparameters it was saved with, and no others.
    """
    methods = {}
    for name, given in saved.get("methods", {}).items():
        try:
            known = distill.hyperparameters(name, **given)
            methods[name] = as_json(ml_collections.ConfigDict(known))
        except ValueError:
            methods[name] = given
    default = as_json(config_lib.default())
    return {
        **_flatten(default | {"methods": methods}),
        **_flatten(saved | {"methods": methods}),
    }


def check_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a work directory that belongs to another configuration.

    Raises:
      ValueError: names the directory and the fields that differ, with both values; or
        says that the directory holds something else than a run.
    """
    before = read_config(workdir) if workdir.is_dir() else None
    if before is None:
        check_empty(workdir)
        return
    if config.checkpoint.allow_config_change:
        return
    before, now = with_defaults(before), _flatten(as_json(config))
    differ = [
        f"{path} was {before.get(path)!r} and is {now.get(path)!r}"
        for path in sorted(before.keys() | now.keys())
        if path not in _MAY_DIFFER and before.get(path) != now.get(path)
    ]
    if differ:
        raise ValueError(
            f"workdir={workdir} belongs to another configuration: {'; '.join(differ)}"
        )


def check_empty(workdir: pathlib.Path) -> None:
    """Raises a ValueError if a work directory to be made is there and not empty."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir={workdir} is not a directory")
    if read_config(workdir) is not None:
        raise ValueError(f"workdir={workdir} holds a run already")
    # A run that was killed as it began leaves these.
    begun = {lock.NAME, pathlib.Path(CONFIG).with_suffix(_PARTIAL).name}
    if workdir.exists() and {path.name for path in workdir.iterdir()} - begun:
        raise ValueError(f"workdir={workdir} is not empty and holds no run")


def create(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the directory, if need be, and records the configuration in it."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, as_json(config))


def write_result(workdir: pathlib.Path, result: dict[str, Any]) -> None:
    """Records what a finished run measured."""
    write_json(workdir / RESULT, result)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file atomically: whole, or not at all."""
    temporary = path.with_suffix(_PARTIAL)
    with temporary.open("w") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        # Or a power failure could leave the name without the content.
        os.fsync(file.fileno())
    os.replace(temporary, path)


def provenance() -> dict[str, Any]:
    """Says what a run was made with: device kind, versions and git revision."""
    return {
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "versions": {
            "python": sys.version.split()[0],
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "git_revision": _git_revision(),
    }


def _git_revision() -> str:
    """Returns the revision of this code, marked "-dirty" with uncommitted changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    here = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
