"""Loads the network that a run trained from its work directory."""

import pathlib
from collections.abc import Collection
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections

from kdjax import distill, networks
from kdjax.cli import home
from kdjax.config import fields
from kdjax.runs import checkpoint, workdirs
from kdjax.runs.checkpoint import Checkpoints
from kdjax.runs.inventory import LAST, Inventory
from kdjax.train_state import AVERAGE

#: File in the work directory of an imported network that says where it came from.
SOURCE = "source.json"

#: Name of every network's last layer in its variables.
CLASSIFIER = "classifier"

#: The same and that of a distillation token, which few networks have.
LAST_LAYERS = (CLASSIFIER, "distillation_classifier")


class TrainedModel(NamedTuple):
    """A trained network.

    Attributes:
      config: of the run, as in `config.json`.
      step: of its checkpoint, 0 of an imported network.
      variables: collections `params` and `batch_stats`, NumPy arrays on the host; of
        the moving average if the run has one.
    """

    config: dict[str, Any]
    step: int
    variables: dict[str, Any]

    @property
    def num_classes(self) -> int:
        """The size of the logits."""
        return len(self.variables["params"][CLASSIFIER]["bias"])

    def network(self, image_shape: tuple[int, int, int], **settings: Any) -> nn.Module:
        """Builds the network that the variables are of.

        Args:
          image_shape: of the images that it is applied to, [H, W, 3].
          **settings: `dtype` and `axis_name`, as for `models.build`.
        """
        return networks.student(self.config, self.num_classes, image_shape, **settings)

    @property
    def data(self) -> ml_collections.ConfigDict:
        """The `data` part of the configuration, with defaults for missing fields."""
        data = fields.default().data
        for name, value in self.config["data"].items():
            data[name] = tuple(value) if isinstance(value, list) else value
        return data


def load(
    workdir: pathlib.Path, field: str = "workdir", *, step: str = LAST
) -> TrainedModel:
    """Reads the network in a complete checkpoint of a run; writes nothing.

    Args:
      workdir: the work directory.
      field: name of the flag or config field that holds it, for error messages.
      step: "last", "best" or a number, see `inventory.Inventory.find`.

    Raises:
      ValueError: if the directory holds no run, or no such complete checkpoint.
    """
    where = f"{field}={str(workdir)!r}"
    workdir = home.expanded(workdir)
    config = workdirs.read_config(workdir)
    if config is None:
        raise ValueError(f"{where} is not the work directory of a run")
    checkpoints = Checkpoints(workdir)
    try:
        saved = checkpoints.latest_step is not None and (
            checkpoints.restore_as_saved(step)
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not saved:
        raise ValueError(f"{where} holds no checkpoint yet: train the network first")
    variables = saved["batch_stats"].get(AVERAGE) or {
        collection: saved[collection]["student"]
        for collection in ("params", "batch_stats")
    }
    return TrainedModel(config, int(saved.get("step", 0)), jax.device_get(variables))


def check_present(config: ml_collections.ConfigDict) -> None:
    """Checks that the networks a configuration starts from are there; reads no weights.

    Raises:
      ValueError: if the directory of the teacher, where a method needs one, or of the
        initial weights holds no run or no checkpoint.
    """
    methods = distill.build(config.methods)
    sections = ["teacher"] * any(method.needs_teacher for method in methods.values())
    for section in [*sections, "init"]:
        if not (path := config[section].checkpoint):
            continue
        where = f"{section}.checkpoint={path!r}"
        workdir = home.expanded(path)
        if workdirs.read_config(workdir) is None:
            raise ValueError(f"{where} is not the work directory of a run")
        if not Inventory(workdir / checkpoint.FOLDER).steps():
            raise ValueError(
                f"{where} holds no checkpoint yet: train the network first"
            )


def load_teacher(run: TrainedModel) -> TrainedModel | None:
    """Loads the network that taught a run; None if none did.

    Raises:
      ValueError: as `load`.
    """
    teacher = run.config["teacher"]
    if not teacher["checkpoint"]:
        return None
    return load(
        pathlib.Path(teacher["checkpoint"]),
        "teacher.checkpoint",
        step=teacher.get("step", LAST),
    )


def is_finished(workdir: pathlib.Path) -> bool:
    """Tells whether a work directory holds a network that nobody trains further."""
    return (workdir / SOURCE).exists() or workdirs.read_result(workdir) is not None


def load_finished(path: str, section: str, *, step: str) -> TrainedModel:
    """Loads a network that will not be trained further.

    Args:
      path: its work directory.
      section: part of the config whose fields `checkpoint` and `step` name it.
      step: see `load`. A number also names a checkpoint of an unfinished run.

    Raises:
      ValueError: as `load`, or if the run is not finished.
    """
    run = load(pathlib.Path(path), f"{section}.checkpoint", step=step)
    if not step.isdecimal() and not is_finished(home.expanded(path)):
        raise ValueError(
            f"{section}.checkpoint={path!r} is not finished, and its {step} checkpoint "
            f"may still change: {section}.step={run.step} takes the one of now"
        )
    return run


def refuse_imported(workdir: pathlib.Path) -> None:
    """Raises a ValueError if a work directory, to train in, holds an imported network.

    It has no optimizer's state to go on with.
    """
    if (workdir / SOURCE).exists():
        raise ValueError(
            f"workdir={workdir} holds an imported network: to train it further, choose "
            f"another workdir and set init.checkpoint={str(workdir)!r}"
        )


def check_shapes(
    field: str,
    network: nn.Module,
    variables: dict[str, Any],
    image_shape: tuple[int, int, int],
    *,
    left_out: Collection[str] = (),
) -> None:
    """Checks that variables are those of a network.

    Args:
      field: name and value of the config field that they come from.
      network: that they are for.
      variables: collections `params` and `batch_stats`.
      image_shape: [H, W, 3].
      left_out: modules of the network that the variables lack.

    Raises:
      ValueError: lists the variables with other names or shapes.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    wanted, found = (
        {
            "/".join(path): leaf.shape
            for path, leaf in flax.traverse_util.flatten_dict(dict(tree)).items()
            if path[1] not in left_out
        }
        for tree in (wanted, variables)
    )
    differ = [
        f"{name} {found.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if differ:
        raise ValueError(f"{field} does not fit the network: {'; '.join(differ)}")
