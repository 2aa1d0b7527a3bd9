"""Times a distillation step against the least it can cost, in one run.

    python -m experiments.benchmark --teacher=wrn_16_2 --student=wrn_16_1 \\
        --method=overhaul --batch=64

prints one JSON line: milliseconds and images/s of the distillation step, of the
student's own training step and of the teacher's forward pass, medians over rounds in
which they take turns, and `overhead` = distillation step / (student's step + teacher's
forward pass). The batch lies on the device and is never augmented. For a method whose
gradient is clipped to the task's, the student's step has the second backward pass that
this takes.

For a method that compresses feature maps to singular vectors, `compress_ROUTE_ms` are
the milliseconds of that part alone by each route: all points of both networks, and the
gradient to the student's. `--hyperparameter=route=svd` has the step take another one.

`--method=all`, or several with commas, prints such a line for each and then a table:
milliseconds, overhead, parameters that are learned beside the student's, and the most
memory that the compiler reserves for the step.

`--anchor=NAME=COMMAND` runs another program in every round, too. The last line it
prints is a JSON object with `images_per_s`; `vs_NAME` is ours divided by its own, the
median over the rounds.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
import tabulate
from absl import app, flags, logging

from kdjax import distill

from .subjects import Setting, subjects

_TEACHER = flags.DEFINE_string("teacher", "wrn_16_2", "Network that teaches.")
_STUDENT = flags.DEFINE_string("student", "wrn_16_1", "Network that learns.")
_METHOD = flags.DEFINE_string(
    "method", "overhaul", "Method that joins them; several with commas, or all."
)
_HYPERPARAMETERS = flags.DEFINE_multi_string(
    "hyperparameter", [], "NAME=VALUE of the method, other than the default."
)
_BATCH = flags.DEFINE_integer("batch", 64, "Images in a step, on one device.", 1)
_CLASSES = flags.DEFINE_integer("classes", 100, "Classes.", 2)
_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of an image.", 1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Type of the computation."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; medians are over them.", 1)
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of each kind in a round.", 1)
_ANCHORS = flags.DEFINE_multi_string("anchor", [], "NAME=COMMAND to compare with.")


#: Methods that cannot do without something that is set here.
_REQUIRED = ("mutual_learning",)

_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}


def hyperparameters(method: str, given: Sequence[str]) -> dict[str, Any]:
    """Reads NAME=VALUE into values of the types of the method's defaults.

    Raises:
      ValueError: if the method, a name or a value makes no sense.
    """
    defaults = distill.hyperparameters(method)
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        kind = type(defaults.get(name, ""))
        try:
            found[name] = _BOOLEANS[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise ValueError(f"hyperparameter={text!r} is no {kind.__name__}") from None
    return found


def anchor_speed(command: str) -> float:
    """Runs another program and returns the images/s in its last line.

    Raises:
      ValueError: if it fails or says nothing of the kind.
    """
    done = subprocess.run(
        shlex.split(command), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"anchor {command!r} ended with status {done.returncode} and printed no "
            "images_per_s"
        ) from None


def main(argv: list[str]) -> None:
    """Times everything in turns and prints a JSON line for each method."""
    logging.set_verbosity(logging.WARNING)
    names = _METHOD.value.split(",")
    if names == ["all"]:
        names = [name for name in sorted(distill.METHODS) if name not in _REQUIRED]
        names += [name for name in sorted(_REQUIRED) if name in distill.METHODS]
    reports = []
    try:
        setting = Setting(
            teacher=_TEACHER.value,
            student=_STUDENT.value,
            batch_size=_BATCH.value,
            num_classes=_CLASSES.value,
            image_size=_SIZE.value,
            dtype=_DTYPE.value,
        )
        for name in names:
            reports.append(measure(setting, name))
            print(json.dumps(reports[-1]), flush=True)
    except ValueError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
    if len(reports) > 1:
        print(tabulate.tabulate(map(_row, reports), headers="keys"))


def _row(report: dict[str, Any]) -> dict[str, object]:
    """Returns the line of the table for a method."""
    return {
        "method": report["method"],
        "step, ms": f"{report['distillation_ms']:.1f}",
        "floor, ms": f"{report['student_ms'] + report['teacher_ms']:.1f}",
        "overhead": f"{report['overhead']:.3f}",
        "learned": f"{report['learned_parameters']:,}",
        "memory, MB": f"{report['peak_bytes'] / 1e6:.0f}",
    }


def measure(setting: Setting, method: str) -> dict[str, object]:
    """Does what the flags say for one method and returns the figures."""
    anchors = {}
    for anchor in _ANCHORS.value:
        name, equals, command = anchor.partition("=")
        if not equals:
            raise ValueError(f"anchor={anchor!r} is not NAME=COMMAND")
        anchors[name] = command
    given = hyperparameters(method, _HYPERPARAMETERS.value)
    required = {"peer": _TEACHER.value} if method in _REQUIRED else {}
    timed = subjects(setting, method, required | given)
    for subject in timed.values():
        # Floors are shared by the methods; the rounds of this one count.
        subject.seconds.clear()
    ratios: dict[str, list[float]] = {name: [] for name in anchors}
    for _ in range(_ROUNDS.value):
        for subject in timed.values():
            subject.run(_STEPS.value)
        ours = _BATCH.value / timed["distillation"].seconds[-1]
        for name, command in anchors.items():
            ratios[name].append(ours / anchor_speed(command))

    floor = [
        s + t
        for s, t in zip(timed["student"].seconds, timed["teacher"].seconds, strict=True)
    ]
    overhead = [
        d / f for d, f in zip(timed["distillation"].seconds, floor, strict=True)
    ]
    report = {
        "teacher": _TEACHER.value,
        "student": _STUDENT.value,
        "method": method,
        **({"hyperparameters": given} if given else {}),
        "batch": _BATCH.value,
        "dtype": _DTYPE.value,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    for name, subject in timed.items():
        report[f"{name}_ms"] = round(1e3 * subject.median_s, 3)
        if not name.startswith("compress"):
            report[f"{name}_images_per_s"] = round(_BATCH.value / subject.median_s, 1)
    report["learned_parameters"] = timed["distillation"].learned
    report["peak_bytes"] = timed["distillation"].peak_bytes
    report["overhead"] = round(statistics.median(overhead), 3)
    for name, ratio in ratios.items():
        report[f"vs_{name}"] = round(statistics.median(ratio), 3)
    return report


if __name__ == "__main__":
    app.run(main)
