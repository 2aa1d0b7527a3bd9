"""Writes the student of a run as a program that runs without kdjax.

    python -m kdjax.export --workdir=runs/overhaul --format=stablehlo
    python -m kdjax.export --workdir=runs/overhaul --format=onnx --out=student.onnx

exports the newest checkpoint of a run that is finished or stopped; --step=best takes
the one of the highest accuracy, --step=N that of a step. The program maps images, any
number of them unless --batch_size is given, to float32 logits [B, K]. It computes in
float32, whatever the run's dtype. --input says what the images are:

- uint8_nhwc: pixels 0..255, uint8 [B, H, W, 3]; the program normalizes them;
- float32_nchw: normalized images, float32 [B, 3, H, W], as those of PyTorch. The mean
  and the standard deviation to normalize them with are those in config.json and in the
  metadata of an ONNX file, in units of pixels 0..255.

StableHLO runs on CPU, CUDA and TPU and needs JAX and flatbuffers. A file expires: the
versions of JAX of the six months after the one that wrote it read it, and of the three
weeks before. It holds no metadata.

    from jax import export
    program = export.deserialize(bytearray(open("student.stablehlo", "rb").read()))
    logits = program.call(image)

ONNX is written by jax2onnx (the extra `onnx` of kdjax) and runs with

    import onnxruntime
    session = onnxruntime.InferenceSession("student.onnx")
    (logits,) = session.run(["logits"], {"image": image})

Its metadata, session.get_modelmeta().custom_metadata_map, holds the names of the
network and of --input, and as JSON `mean`, `std` and, in the order of the logits,
`class_names`.

The file is run on test images, in batches of two sizes, and kept only if its logits
match those of the network in Flax. If the data set is not there, and --data_dir does
not say where it is, random images are used. If the run has a teacher, it is exported
and measured in the same way, for comparison, and not kept.
"""

import argparse
import os
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tabulate

from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.data.messages import counted, some
from kdjax.export import checked, formats, latency
from kdjax.export.checked import Sample, Settings
from kdjax.export.program import INPUTS
from kdjax.runs import console, inventory, run_data, trained, workdirs
from kdjax.runs.run_data import RunData

#: Test images that the file is checked on, and more up to a multiple of a batch.
_IMAGES = 64
_DASH = "\N{EM DASH}"


def export(flags: argparse.Namespace) -> str:
    """Exports as the flags say; returns the text to print.

    Raises:
      ValueError: if there is no trained network or the file cannot be created, or if
        the program's logits differ from the network's.
      OSError: if there is no data set at --data_dir, or the file cannot be written.
    """
    settings = Settings(
        flags.format, flags.input, flags.fold_batch_norm == "true", flags.batch_size
    )
    # First, since it may not be installed.
    runtime = formats.FORMATS[flags.format].runtime()
    student = trained.load(flags.workdir, step=flags.step)
    out = _checked_out(flags)
    data = run_data.find(
        flags.workdir, student, data_dir=flags.data_dir, image_size=flags.image_size
    )
    count = _IMAGES + -_IMAGES % (flags.batch_size or 1)
    sample, problem = _sample(data, count, required=flags.data_dir is not None)
    columns, notes = {}, [formats.FORMATS[flags.format].note, problem]
    with _folder_beside(out) as folder:
        file = Path(folder, out.name)
        written = checked.write(student, sample, file, settings, data.class_names)
        os.replace(file, out)
        try:
            if teacher := trained.load_teacher(student):
                columns["teacher"] = checked.write(teacher, sample, file, settings)
        except (ValueError, OSError) as error:
            notes += [f"The student is written; the teacher was not exported: {error}"]
    columns["student"] = written
    result = workdirs.read_result(flags.workdir)
    _add_accuracy(columns, result, student.step)
    which = "a" if flags.step.isdecimal() else f"the {flags.step}"
    head = (
        f"{escaped(str(out))}: the student after step {student.step}, {which} "
        f"checkpoint of a run that {'is finished' if result else 'has no result yet'}"
        f"\n\n{_table(columns)}"
    )
    height, width, _ = sample.image.shape[1:]
    takes = f"It takes images of {width}x{height}"
    if data.class_names is not None:
        takes += f"; its classes, in order, are {some(data.class_names)}"
    conditions = _conditions(settings, sample, runtime)
    below = (textwrap.fill(text, 80) for text in (f"{takes}.", conditions))
    return "\n".join([head, "", *below, *filter(None, notes)])


def _conditions(settings: Settings, sample: Sample, runtime: str) -> str:
    """Says how the programs were written and measured."""
    images = counted(settings.batch_size or 1, "image")
    return (
        f"Batch norms are {'folded' if settings.folded else 'kept'}. Latency is "
        f"the median of {latency.CALLS} calls with {images} [quartiles] "
        f"by {runtime} on {latency.processor()}. The largest difference of "
        f"logits from Flax's, on {sample}, is relative to the "
        f"largest logit; {checked.TOLERANCE:.0e} is allowed."
    )


def _sample(data: RunData, count: int, *, required: bool) -> tuple[Sample, str]:
    """Returns images to check a program on, and why they are no test images, or "".

    Args:
      data: the data set of the run.
      count: number of images; repeated if there are fewer test images.
      required: whether an error is raised if the test images cannot be read.
    """
    problem = data.problem
    try:
        if data.description is not None:
            test = data.load("test")
            image = test.pixels(np.arange(min(count, test.num_examples)))
            return Sample(np.resize(image, (count, *image.shape[1:])), "test"), ""
    except (ValueError, OSError) as error:
        if required:
            raise
        problem = " ".join(str(error).split())
    shape = (count, *data.image_shape())
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Sample(image, "random"), f"The test images could not be read: {problem}"


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
    add(
        "--workdir", type=home.argument, required=True, help="work directory of the run"
    )
    add("--step", default=inventory.LAST, help="last, best or a number; default: last")
    add("--format", choices=sorted(formats.FORMATS), required=True, help="of the file")
    add(
        "--out",
        type=home.argument,
        help="file to write; default: WORKDIR/student.FORMAT",
    )
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
    add(
        "--input",
        choices=sorted(INPUTS),
        default="uint8_nhwc",
        help="what the program takes; default: uint8_nhwc",
    )
    add("--data_dir", help="where the run's data set is now, as data.data_dir")
    add("--image_size", type=int, help="in place of data.image_size")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    flags = parser.parse_args(arguments)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            print(export(flags))
    except (ValueError, OSError) as error:
        console.print_error("export", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
