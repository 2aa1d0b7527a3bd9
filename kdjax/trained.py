"""The network that a run trained, read from its work directory."""

import pathlib
from typing import Any, NamedTuple

import jax

from kdjax import run_directory
from kdjax.checkpoint import FOLDER, Checkpoints


class Trained(NamedTuple):
    """A trained network.

    Attributes:
      config: of the run, as `config.json` has it.
      step: of its newest checkpoint.
      variables: collections `params` and `batch_stats`, on the host.
    """

    config: dict[str, Any]
    step: int
    variables: dict[str, Any]


def load(workdir: pathlib.Path, field: str = "workdir") -> Trained:
    """Reads the network in the newest checkpoint of a run.

    Args:
      workdir: the work directory.
      field: what the user gave the directory as; named in errors.

    Raises:
      ValueError: if the directory holds no run, or no checkpoint yet.
    """
    where = f"{field}={str(workdir)!r}"
    config = run_directory.read_config(workdir)
    if config is None:
        raise ValueError(f"{where} is not the work directory of a run")
    # Opening checkpoints that are not there would create their folder.
    checkpoints = (workdir / FOLDER).is_dir() and Checkpoints(workdir)
    if not checkpoints or (step := checkpoints.latest_step) is None:
        raise ValueError(f"{where} holds no checkpoint yet: train the network first")
    with checkpoints:
        saved = checkpoints.restore_as_saved()
    variables = {
        collection: jax.device_get(saved[collection]["student"])
        for collection in ("params", "batch_stats")
    }
    return Trained(config, step, variables)
