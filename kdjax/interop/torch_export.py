"""Exports the network of a run as PyTorch weights.

    python -m kdjax.interop.torch_export --workdir=runs/overhaul --out=net.safetensors

The file holds the student, without the modules that distillation added. In PyTorch,
`safetensors.torch.load_file` reads it into a state dict with the names of public code
for this network. Normalize images there with the mean and standard deviation, for
pixels from 0 to 255, in the file's metadata.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Sequence

import safetensors.numpy

from kdjax import models, networks
from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.interop import torch_layout
from kdjax.runs import console, inputs, inventory, trained


def export(
    workdir: pathlib.Path,
    out: pathlib.Path,
    layout: str | None = None,
    *,
    step: str = inventory.LAST,
) -> str:
    """Writes the network in a checkpoint of a run to a safetensors file.

    Args:
      workdir: of the run.
      out: file to write, atomically; must not exist.
      layout: one of `torch_layout.layouts`; None for the network's first.
      step: of the checkpoint, "last", "best" or a number.

    Returns:
      One line on what was written.

    Raises:
      ValueError: if there is no such run or layout, or if the file exists.
      OSError: if it cannot be written.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"out={out} must end in .safetensors")
    if out.exists():
        raise ValueError(f"out={out} exists already")
    run = trained.load(workdir, step=step)
    if heads := sorted(networks.bringing_heads(run.config)):
        raise ValueError(
            f"workdir={str(workdir)!r}: no PyTorch code has a {run.config['model']} "
            f"with the head of methods={heads}; kdjax.export writes it as StableHLO or "
            "ONNX"
        )
    network = models.build(run.config["model"], run.num_classes)
    layout = layout or torch_layout.layouts(network)[0]
    state_dict = torch_layout.to_state_dict(network, run.variables, layout)
    metadata = {
        "model": run.config["model"],
        "layout": layout,
        "step": str(run.step),
        "mean": json.dumps(run.data.mean),
        "std": json.dumps(run.data.std),
    }
    if (names := inputs.class_names(workdir)) is not None:
        metadata["class_names"] = json.dumps(names)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    safetensors.numpy.save_file(state_dict, partial, metadata)
    os.replace(partial, out)
    return (
        f"{escaped(str(out))} holds the {run.config['model']} of step {run.step}, in "
        f"layout {layout!r}, {out.stat().st_size:,} bytes"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.interop.torch_export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--workdir", required=True, type=home.argument, help="work directory of the run"
    )
    add("--out", required=True, type=home.argument, help="file.safetensors to write")
    add("--step", default=inventory.LAST, help="last, best or a number; default: last")
    add("--layout", help="naming of the modules; default: the network's first")
    args = parser.parse_args(argv)
    try:
        print(export(args.workdir, args.out, args.layout, step=args.step))
    except (ValueError, OSError) as error:
        console.print_error("torch_export", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
