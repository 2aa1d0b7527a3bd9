"""Imports a PyTorch checkpoint as the work directory of a trained network.

    python -m kdjax.interop.torch_import resnet32x4.pth --model=resnet32x4 \\
        --normalization=repdistiller --out=runs/teacher
    python -m kdjax.main --config=configs/overhaul.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/overhaul

The file is .safetensors or of torch.save and holds a state dict under any key, with
anything beside it; no code in it is executed. Weights that do not fit the network are
rejected. The work directory records how the network's images were normalized; the
student's may be normalized otherwise. docs/weights.md says more.
"""

import argparse
import hashlib
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from kdjax import models, recipes
from kdjax import step as step_lib
from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.config import checks, fields
from kdjax.data import datasets, flags, pipeline
from kdjax.data.normalization import PRESETS, Normalization
from kdjax.data.split import Description
from kdjax.evaluate import Evaluator
from kdjax.interop import torch_file, torch_layout, torch_match
from kdjax.runs import console, inputs, json_files, trained, workdirs
from kdjax.runs.checkpoint import Checkpoints

#: Data set of a network that was trained on none of those that kdjax reads.
_UNKNOWN = "none"

#: Fields `data.NAME` that the command has flags for.
_DATA = ("data_dir", "image_size", "eval_crop", "bad_images", "test_fraction")


def import_checkpoint(
    checkpoint: pathlib.Path,
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    *,
    evaluate: bool = False,
    key: str | None = None,
) -> dict[str, Any]:
    """Creates the work directory of a trained network from a PyTorch checkpoint.

    Args:
      checkpoint: a file for `torch_file.read`.
      workdir: directory to create.
      config: names the network, the normalization of its images and the data set, if
        that is known.
      evaluate: whether to evaluate the network on the test split and record that.
      key: place of the weights in the file, for `torch_match.find`.

    Returns:
      The recorded source of the network, and its numbers of `parameters` and `classes`.

    Raises:
      ValueError: if the checkpoint does not match the network and number of classes, or
        the directory is not empty. Nothing is written then.
      OSError: if a file cannot be read or written.
    """
    workdirs.check_empty(workdir)
    description = None
    if config.data.name:
        description = checks.check_network(config)
    else:
        checks.check_values(config)
        if evaluate:
            raise ValueError(f"data={_UNKNOWN} has no test split to evaluate on")
    file = torch_file.read(checkpoint)
    try:
        match = torch_match.find(config.model, file, key)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None
    _check_classes(checkpoint, match.num_classes, config, description)
    network = models.build(config.model, match.num_classes)
    variables = torch_layout.from_state_dict(network, match.state_dict)
    variables = jax.tree.map(lambda x: x.astype(np.float32), variables)
    variables.setdefault("batch_stats", {})
    source = {
        "file": checkpoint.name,
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "layout": match.layout,
        "key": str(match.place),
    }
    if evaluate:
        source["test_accuracy"] = _test_accuracy(
            network, variables, config, description
        )
    _write(workdir, config, source, variables, description)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return source | {"parameters": parameters, "classes": match.num_classes}


def _write(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    source: dict[str, Any],
    variables: dict[str, Any],
    description: Description | None,
) -> None:
    """Writes the work directory, which is renamed when it is complete."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    partial = workdir.with_name(workdir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    workdirs.create(partial, config)
    workdirs.write_json(partial / trained.SOURCE, source)
    if description is not None:
        inputs.write(partial, {"class_names": description.class_names})
    # As in a run, at step 0: kdjax has not trained it.
    state = {
        collection: {"student": variables[collection], "methods": {}}
        for collection in ("params", "batch_stats")
    }
    with Checkpoints(partial) as checkpoints:
        checkpoints.save(0, state, {}, source.get("test_accuracy"))
    partial.rename(workdir)


def _check_classes(
    checkpoint: pathlib.Path,
    found: int,
    config: ml_collections.ConfigDict,
    description: Description | None,
) -> None:
    """Rejects weights of another number of classes than the data set's."""
    if description is not None and found != (wanted := description.num_classes):
        raise ValueError(
            f"{checkpoint} has a classifier of {found} classes, and "
            f"data={config.data.name} has {wanted}: name the data set that it was "
            f"trained on, or data={_UNKNOWN}"
        )


def _test_accuracy(
    network, variables, config: ml_collections.ConfigDict, description: Description
) -> float:
    devices = jax.devices()
    split = pipeline.eval_batches(
        datasets.load(config.data, description).test,
        config.data,
        batch_size=config.batch_size,
        mesh=Mesh(np.asarray(devices), (step_lib.DEVICES,)),
    )
    return Evaluator(network, split, devices)(variables).metrics["accuracy"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.interop.torch_import",
        usage="%(prog)s FILE --model=NAME --out=FOLDER [--normalization=NAME] [...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=home.argument, help=".pth, .pt or .safetensors")
    add("--model", required=True, help="its name in kdjax: see python -m kdjax.models")
    add("--out", required=True, type=home.argument, help="work directory to create")
    add(
        "--data",
        default="cifar100",
        help=f"data set that it was trained on: {', '.join(datasets.NAMES)}; or "
        f"{_UNKNOWN}: the file tells the number of classes; default: cifar100",
    )
    flags.add(
        parser.add_argument_group("fields of the data", "default: of the recipe"), _DATA
    )
    normalization = parser.add_mutually_exclusive_group()
    normalization.add_argument(
        "--normalization",
        choices=sorted(PRESETS),
        help="normalization of its images, as in this code base; default: what "
        "torch_export wrote into the file",
    )
    normalization.add_argument(
        "--mean_std",
        type=float,
        nargs=6,
        metavar=("MEAN", "MEAN", "MEAN", "STD", "STD", "STD"),
        help="the same as numbers, for pixels 0 to 255: those of PyTorch times 255",
    )
    add("--evaluate", action="store_true", help="evaluate it on the test split")
    add(
        "--key",
        help="place of the weights in the file, such as state_dict.module.student, if "
        "they fit in several",
    )
    return parser


def _normalization(args: argparse.Namespace) -> Normalization:
    """Returns the constants that a flag names, or those in the file's metadata."""
    if args.normalization:
        return PRESETS[args.normalization]
    if args.mean_std:
        return Normalization(tuple(args.mean_std[:3]), tuple(args.mean_std[3:]))
    found = torch_file.metadata(args.checkpoint)
    if not {"mean", "std"} <= found.keys():
        raise ValueError(
            f"{args.checkpoint} does not say how its images were normalized: give "
            "--normalization or --mean_std"
        )
    text = f'{{"mean": {found["mean"]}, "std": {found["std"]}}}'
    try:
        stored = json_files.parse(text, {"mean": [float], "std": [float]})
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: its metadata: {error}") from None
    return Normalization(tuple(stored["mean"]), tuple(stored["std"]))


def _config(args: argparse.Namespace) -> ml_collections.ConfigDict:
    """Returns the config of a run that would have trained the network.

    Raises:
      ValueError: if neither the flags nor the file say how images are normalized.
    """
    config = (
        recipes.compose(data=args.data)
        if args.data in recipes.DATA
        else fields.default()
    )
    config.model = args.model
    config.data.name = "" if args.data == _UNKNOWN else args.data
    config.data.mean, config.data.std = _normalization(args)
    flags.apply(args, _DATA, config.data)
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 for a user's mistake."""
    args = _parser().parse_args(argv)
    try:
        config = _config(args)
        found = import_checkpoint(
            args.checkpoint,
            args.out,
            config,
            evaluate=args.evaluate,
            key=args.key,
        )
    except (ValueError, OSError) as error:
        console.print_error("torch_import", error)
        return 2
    accuracy = found.get("test_accuracy")
    print(
        f"{escaped(str(args.out))} holds a {args.model} of {found['parameters']:,} "
        f"parameters, from {escaped(str(args.checkpoint))} in layout "
        f"{found['layout']!r}"
        + f" at key {found['key']!r}" * bool(found["key"])
        + f", for {found['classes']} classes"
        + (f"; test accuracy {accuracy:.2%}" if accuracy is not None else "")
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
