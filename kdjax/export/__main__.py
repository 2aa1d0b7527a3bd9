"""Writes the student of a run as a program that needs nothing of kdjax.

    python -m kdjax.export --workdir=runs/overhaul --format=stablehlo
    python -m kdjax.export --workdir=runs/overhaul --format=onnx --out=student.onnx

Takes the last checkpoint of a run that is finished or stopped, not of one under way.
The program takes uint8 images [B, H, W, 3] for any B (or --batch_size), normalizes them
as the run did and gives float32 logits [B, K]; it computes in float32, whatever the run
did.
StableHLO runs on CPU, CUDA and TPU with JAX and flatbuffers, in this version of JAX and
in those of the next six months:

    from jax import export
    program = export.deserialize(bytearray(open("student.stablehlo", "rb").read()))
    logits = program.call(image)

and ONNX, which is written by jax2onnx (the extra `onnx` of the project), with

    import onnxruntime
    session = onnxruntime.InferenceSession("student.onnx")
    (logits,) = session.run(["logits"], {"image": image})

Before a file gets its name it is run on test images, in batches of two sizes, and
refused unless the logits are those of the network in Flax. The teacher, if the run has
one, is written and measured in the same way beside the student, and not kept.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tabulate

from kdjax import models
from kdjax.data import datasets, normalization
from kdjax.export import fold, formats
from kdjax.models import cost
from kdjax.runs import trained, workdirs

#: Largest difference of logits from the network's, as a part of the largest logit.
TOLERANCE = 1e-4

_IMAGES = 64
_DASH = "\N{EM DASH}"


def write(
    run: trained.TrainedModel,
    image: np.ndarray,
    file: Path,
    *,
    form: str,
    folded: bool,
    batch_size: int | None,
) -> dict[str, str]:
    """Writes a trained network as a program; reads, checks and measures the file.

    Args:
      run: the network.
      image: what to check it on, uint8 [N, H, W, 3].
      file: overwritten if it exists.
      form: name of the format.
      folded: whether its batch norms are folded.
      batch_size: images that the program takes; None for any number.

    Returns:
      What is known of it, by the name of the row in the table.

    Raises:
      ValueError: if the format cannot hold the network, or the program in the file is
        not the network.
    """
    data, shape = run.data, image.shape[1:]
    network = models.build(run.config["model"], datasets.describe(data).num_classes)

    def normalize(image):
        return normalization.normalize(image, mean=data.mean, std=data.std)

    def in_flax(image):
        return network.apply(run.variables, normalize(image), train=False)[0]

    function = in_flax
    if folded:
        apply, variables, _ = fold.fold_batch_norms(network, run.variables, shape)

        def function(image):
            return apply(variables, normalize(image))

    # A whole number of batches, or one image and the others.
    first = image[: batch_size or 1]
    batches = np.split(image, range(len(first), len(image), batch_size or len(image)))
    try:
        file.write_bytes(formats.FORMATS[form].write(function, shape, batch_size))
        call = formats.FORMATS[form].load(file.read_bytes())
        logits = np.concatenate([call(batch) for batch in batches])
    except OSError:
        raise
    except Exception as error:  # Of others' code, which has no class for its errors.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "" if batch_size else "; --batch_size=1 may help"
        raise ValueError(
            f"{run.config['model']} cannot be written as {form}: {reason}{hint}"
        ) from error
    expected = np.asarray(jax.jit(in_flax)(image))
    difference = np.max(np.abs(logits - expected)) / np.max(np.abs(expected))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"on {len(image)} test images the {form} program of {run.config['model']} "
            f"differs from it by {difference:.1e} of the largest logit, more than "
            f"{TOLERANCE:.0e}: not written"
        )
    return {
        "network": run.config["model"],
        "file, bytes": f"{file.stat().st_size:,}",
        "parameters": f"{cost.parameters(run.variables):,}",
        "multiply-adds": f"{cost.multiply_adds(network, shape):,}",
        "latency, ms": "{1:.3f} [{0:.3f}, {2:.3f}]".format(
            *formats.milliseconds(call, first)
        ),
        "largest difference": f"{difference:.1e}",
    }


def export(flags: argparse.Namespace) -> str:
    """Writes what the flags say and returns what there is to print.

    Raises:
      ValueError: if there is nothing to write or nowhere to write it to, or if the
        program is not the student.
      OSError: if the data set is not prepared, or the file cannot be written.
    """
    out = flags.out or flags.workdir / f"student.{flags.format}"
    settings = {
        "form": flags.format,
        "folded": flags.fold_batch_norm == "true",
        "batch_size": (size := flags.batch_size),
    }
    # Before anything else, since it may not be installed.
    runtime = formats.FORMATS[flags.format].runtime()
    student = trained.load(flags.workdir)
    if size is not None and size < 1:
        raise ValueError(f"--batch_size={size} is less than 1")
    if out.is_dir():
        raise ValueError(f"--out={out} is a folder")
    if out.exists() and not flags.overwrite:
        raise ValueError(f"--out={out} exists: --overwrite replaces it")
    image = _test_images(student, _IMAGES + -_IMAGES % (size or 1))
    try:
        # Beside the file to be, which appears whole or not at all.
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=".export_")
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written: {error.strerror}") from error
    columns, notes = {}, ""
    with folder:
        file = Path(folder.name, out.name)
        written = write(student, image, file, **settings)
        os.replace(file, out)
        if checkpoint := student.config["teacher"]["checkpoint"]:
            try:
                teacher = trained.load(Path(checkpoint), "teacher.checkpoint")
                columns["teacher"] = write(teacher, image, file, **settings)
            except (ValueError, OSError) as error:
                notes = f"\nThe student is written, the teacher is not known: {error}"
    columns["student"] = written
    result = workdirs.read_result(flags.workdir)
    accuracy = {}
    if result and result["final_step"] == student.step:
        accuracy["student"] = result["final_test_accuracy"]
        accuracy["teacher"] = result["teacher_test_accuracy"]
    for name, column in columns.items():
        known = accuracy.get(name)
        column["test accuracy"] = _DASH if known is None else f"{known:.2%}"
    images = f"{size or 1} image{'s' if size and size > 1 else ''}"
    return (
        f"{out}: the student after step {student.step}, the last checkpoint of a run "
        f"that {'is finished' if result else 'has no result yet'}\n\n{_table(columns)}"
        f"\n\nBatch norms are {'folded' if settings['folded'] else 'kept'}. Latency is "
        f"the median of {formats.CALLS} calls with {images} [quartiles]\nby {runtime} "
        f"on {formats.processor()}. The largest difference of\nlogits from Flax's, on "
        f"{len(image)} test images, is a part of the largest logit; {TOLERANCE:.0e} is "
        f"allowed.{notes}"
    )


def _test_images(run: trained.TrainedModel, count: int) -> np.ndarray:
    """Returns the first test images of a run's data set, all over again if need be."""
    image = np.asarray(datasets.load(run.data).test.image[:count])
    return np.resize(image, (count, *image.shape[1:]))


def _table(columns: dict[str, dict[str, str]]) -> str:
    """Puts the columns side by side, a row for each thing that is known."""
    rows = [
        (row, *(column[row] for column in columns.values()))
        for row in columns["student"]
    ]
    align = ("left", *("right" for _ in columns))
    return tabulate.tabulate(
        rows, ("", *columns), disable_numparse=True, colalign=align
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports and prints; returns the exit status, 2 if no file was written."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="of the run")
    add("--format", choices=sorted(formats.FORMATS), required=True)
    add("--out", type=Path, help="file to write; default: WORKDIR/student.FORMAT")
    add(
        "--fold_batch_norm",
        choices=("true", "false"),
        default="true",
        help="into the convolutions before them, where there are any; default: true",
    )
    add("--batch_size", type=int, help="of the program; default: any")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    flags = parser.parse_args(arguments)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            print(export(flags))
    except (ValueError, OSError) as error:
        print("export:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
