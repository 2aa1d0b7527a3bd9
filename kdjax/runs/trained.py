"""Loads the network that a run trained from its work directory."""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import config as config_lib
from kdjax.runs import workdirs
from kdjax.runs.checkpoint import Checkpoints

#: File in the work directory of an imported network that says where it came from.
SOURCE = "source.json"


class TrainedModel(NamedTuple):
    """A trained network.

    Attributes:
      config: of the run, as in `config.json`.
      step: of its newest complete checkpoint.
      variables: collections `params` and `batch_stats`, NumPy arrays on the host.
    """

    config: dict[str, Any]
    step: int
    variables: dict[str, Any]

    @property
    def data(self) -> ml_collections.ConfigDict:
        """The `data` part of the configuration, with defaults for missing fields."""
        data = config_lib.default().data
        for name, value in self.config["data"].items():
            data[name] = tuple(value) if isinstance(value, list) else value
        return data


def load(workdir: pathlib.Path, field: str = "workdir") -> TrainedModel:
    """Reads the network in the newest complete checkpoint of a run; writes nothing.

    Args:
      workdir: the work directory.
      field: name of the flag or config field that holds it, for error messages.

    Raises:
      ValueError: if the directory holds no run, or no complete checkpoint.
    """
    where = f"{field}={str(workdir)!r}"
    workdir = workdirs.folder(workdir)
    config = workdirs.read_config(workdir)
    if config is None:
        raise ValueError(f"{where} is not the work directory of a run")
    checkpoints = Checkpoints(workdir)
    try:
        step = checkpoints.latest_step
        saved = step is not None and checkpoints.restore_as_saved()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not saved:
        raise ValueError(f"{where} holds no checkpoint yet: train the network first")
    variables = {
        collection: jax.device_get(saved[collection]["student"])
        for collection in ("params", "batch_stats")
    }
    return TrainedModel(config, checkpoints.latest_step, variables)
