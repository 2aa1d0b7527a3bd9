"""Writes the student of a run as a program that runs without kdjax.

    python -m kdjax.export --workdir=runs/overhaul --format=stablehlo
    python -m kdjax.export --workdir=runs/overhaul --format=onnx --out=student.onnx

exports the newest checkpoint of a run that is finished or stopped; --step=best takes
the one of the highest accuracy, --step=N that of a step. The program maps
uint8 images [B, H, W, 3], for any B unless --batch_size is given, to float32 logits
[B, K]. It normalizes the images as the run did and computes in float32, whatever the
run's dtype.

StableHLO runs on CPU, CUDA and TPU and needs JAX and flatbuffers. A file expires: the
versions of JAX of the six months after the one that wrote it read it, and of the three
weeks before.

    from jax import export
    program = export.deserialize(bytearray(open("student.stablehlo", "rb").read()))
    logits = program.call(image)

ONNX is written by jax2onnx (the extra `onnx` of kdjax) and runs with

    import onnxruntime
    session = onnxruntime.InferenceSession("student.onnx")
    (logits,) = session.run(["logits"], {"image": image})

The file is run on test images, in batches of two sizes, and kept only if its logits
match those of the network in Flax. If the run has a teacher, it is exported and
measured in the same way, for comparison, and not kept.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tabulate

from kdjax import models
from kdjax.data import datasets, normalization
from kdjax.export import fold, formats, latency
from kdjax.models import cost
from kdjax.runs import inventory, trained, workdirs

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
    """Writes a trained network as a program, then checks and measures the file.

    Args:
      run: the network.
      image: test images to check it on, uint8 [N, H, W, 3].
      file: overwritten if it exists.
      form: name of the format.
      folded: whether to fold batch norms.
      batch_size: number of images the program takes; None for any number.

    Returns:
      Table rows: name -> value.

    Raises:
      ValueError: if the network cannot be written in the format, or the logits of the
        program in the file differ from the network's.
    """
    shape = image.shape[1:]
    network = models.build(run.config["model"], datasets.describe(run.data).num_classes)
    in_flax, in_program = _functions(run, network, shape, folded)
    # Batches of equal size, or one image and the others.
    first = image[: batch_size or 1]
    batches = np.split(image, range(len(first), len(image), batch_size or len(image)))
    try:
        file.write_bytes(formats.FORMATS[form].write(in_program, shape, batch_size))
        call = formats.FORMATS[form].load(file.read_bytes())
        logits = np.concatenate([call(batch) for batch in batches])
    except OSError:
        raise
    except Exception as error:  # The exporters raise arbitrary exceptions.
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
    milliseconds = latency.milliseconds(call, first)
    return {
        "network": run.config["model"],
        "file, bytes": f"{file.stat().st_size:,}",
        "parameters": f"{cost.parameters(run.variables):,}",
        "multiply-adds": f"{cost.multiply_adds(network, shape):,}",
        "latency, ms": "{1:.3f} [{0:.3f}, {2:.3f}]".format(*milliseconds),
        "largest difference": f"{difference:.1e}",
    }


def _functions(
    run: trained.TrainedModel, network: Any, shape: tuple[int, ...], folded: bool
) -> tuple[Callable, Callable]:
    """Returns image -> logits as Flax computes it and as the program will."""

    def normalize(image):
        return normalization.normalize(image, mean=run.data.mean, std=run.data.std)

    def in_flax(image):
        return network.apply(run.variables, normalize(image), train=False)[0]

    if not folded:
        return in_flax, in_flax
    apply, variables, _ = fold.fold_batch_norms(network, run.variables, shape)
    return in_flax, lambda image: apply(variables, normalize(image))


def export(flags: argparse.Namespace) -> str:
    """Exports as the flags say; returns the text to print.

    Raises:
      ValueError: if there is no trained network or the file cannot be created, or if
        the program's logits differ from the network's.
      OSError: if the data set is not prepared, or the file cannot be written.
    """
    settings = {
        "form": flags.format,
        "folded": flags.fold_batch_norm == "true",
        "batch_size": flags.batch_size,
    }
    # First, since it may not be installed.
    runtime = formats.FORMATS[flags.format].runtime()
    student = trained.load(flags.workdir, step=flags.step)
    out = _checked_out(flags)
    image = _test_images(student, _IMAGES + -_IMAGES % (flags.batch_size or 1))
    columns, notes = {}, [formats.FORMATS[flags.format].note]
    with _folder_beside(out) as folder:
        file = Path(folder, out.name)
        written = write(student, image, file, **settings)
        os.replace(file, out)
        teacher = student.config["teacher"]
        if teacher["checkpoint"]:
            try:
                teacher = trained.load(
                    Path(teacher["checkpoint"]),
                    "teacher.checkpoint",
                    step=teacher.get("step", inventory.LAST),
                )
                columns["teacher"] = write(teacher, image, file, **settings)
            except (ValueError, OSError) as error:
                notes += [
                    f"The student is written; the teacher was not exported: {error}"
                ]
    columns["student"] = written
    result = workdirs.read_result(flags.workdir)
    _add_accuracy(columns, result, student.step)
    which = "a" if flags.step.isdecimal() else f"the {flags.step}"
    size = flags.batch_size or 1
    images = f"{size} image{'s' if size > 1 else ''}"
    return "\n".join(
        [
            f"{out}: the student after step {student.step}, {which} checkpoint of a "
            f"run that {'is finished' if result else 'has no result yet'}\n",
            f"{_table(columns)}\n",
            f"Batch norms are {'folded' if settings['folded'] else 'kept'}. Latency is "
            f"the median of {latency.CALLS} calls with {images} [quartiles]",
            f"by {runtime} on {latency.processor()}. The largest difference of",
            f"logits from Flax's, on {len(image)} test images, is relative to the "
            f"largest logit; {TOLERANCE:.0e} is allowed.",
            *filter(None, notes),
        ]
    )


def _checked_out(flags: argparse.Namespace) -> Path:
    """Returns the file to write; raises ValueError if a flag forbids it."""
    out = flags.out or flags.workdir / f"student.{flags.format}"
    if flags.batch_size is not None and flags.batch_size < 1:
        raise ValueError(f"--batch_size={flags.batch_size} is less than 1")
    if out.is_dir():
        raise ValueError(f"--out={out} is a folder")
    if out.exists() and not flags.overwrite:
        raise ValueError(f"--out={out} exists: --overwrite replaces it")
    return out


def _folder_beside(out: Path) -> tempfile.TemporaryDirectory:
    """Returns a folder from which a file can be renamed to `out` atomically."""
    try:
        return tempfile.TemporaryDirectory(dir=out.parent, prefix=".export_")
    except OSError as error:
        raise ValueError(f"--out={out} cannot be written: {error.strerror}") from error


def _add_accuracy(
    columns: dict[str, dict[str, str]], result: dict[str, Any] | None, step: int
) -> None:
    """Adds the test accuracy of the result to the columns, if it is of that step."""
    known = result if result and result["final_step"] == step else {}
    fields = {"teacher": "teacher_test_accuracy", "student": "final_test_accuracy"}
    for name, column in columns.items():
        accuracy = known.get(fields[name])
        column["test accuracy"] = _DASH if accuracy is None else f"{accuracy:.2%}"


def _test_images(run: trained.TrainedModel, count: int) -> np.ndarray:
    """Returns test images of a run's data set, repeated if there are fewer."""
    test = datasets.load(run.data).test
    image = test.pixels(np.arange(min(count, test.num_examples)))
    return np.resize(image, (count, *image.shape[1:]))


def _table(columns: dict[str, dict[str, str]]) -> str:
    """Formats the columns side by side."""
    rows = [
        (row, *(column[row] for column in columns.values()))
        for row in columns["student"]
    ]
    align = ("left", *("right" for _ in columns))
    return tabulate.tabulate(
        rows, ("", *columns), disable_numparse=True, colalign=align
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 if no file was written."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="work directory of the run")
    add("--step", default=inventory.LAST, help="last, best or a number; default: last")
    add("--format", choices=sorted(formats.FORMATS), required=True, help="of the file")
    add("--out", type=Path, help="file to write; default: WORKDIR/student.FORMAT")
    add(
        "--fold_batch_norm",
        choices=("true", "false"),
        default="true",
        help="fold batch norms into the preceding convolutions; default: true",
    )
    add(
        "--batch_size",
        type=int,
        help="number of images the program takes; default: any",
    )
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
