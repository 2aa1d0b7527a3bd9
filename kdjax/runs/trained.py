"""The network that a run trained, read from its work directory."""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import config as config_lib
from kdjax.runs import workdirs
from kdjax.runs.checkpoint import Checkpoints


class TrainedModel(NamedTuple):
    """A trained network.

    Attributes:
      config: of the run, as `config.json` has it.
      step: of its newest checkpoint.
      variables: collections `params` and `batch_stats`, on the host.
    """

    config: dict[str, Any]
    step: int
    variables: dict[str, Any]

    @property
    def data(self) -> ml_collections.ConfigDict:
        """Returns the `data` part of the configuration.

        Fields that are younger than the run have their defaults, as they had then.
        """
        data = config_lib.default().data
        for name, value in self.config["data"].items():
            data[name] = tuple(value) if isinstance(value, list) else value
        return data


def load(workdir: pathlib.Path, field: str = "workdir") -> TrainedModel:
    """Reads the network in the newest whole checkpoint of a run; changes nothing.

    Args:
      workdir: the work directory.
      field: what the user gave the directory as; named in errors.

    Raises:
      ValueError: if the directory holds no run, or no whole checkpoint.
    """
    where = f"{field}={str(workdir)!r}"
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
