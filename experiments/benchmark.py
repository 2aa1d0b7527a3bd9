"""Times a distillation step and compares it with a lower bound.

    python -m experiments.benchmark --teacher=wrn_16_2 --student=wrn_16_1 \\
        --method=overhaul --batch=64

prints one JSON line: milliseconds and images/s of the distillation step, of the
student's training step without distillation and of the teacher's forward pass, medians
over rounds in which they take turns, and `overhead` = distillation step / lower bound,
where the lower bound is the student's step + the teacher's forward pass. Images are
synthetic, stay on the device and are not augmented. If a method's gradient is clipped
to the task's, the student's step of the lower bound has a second backward pass, too.

`--examples` is the number of training images, by which the memory of CRD is as large as
in training; the default is that of CIFAR-100.

For a method that compresses feature maps to singular vectors, `compress_ALGORITHM_ms`
are the milliseconds of that part alone by each algorithm: all stages of both networks,
and the gradient to the student's; of these a round has at most as many as fit into 2
seconds. `--hyperparameter=algorithm=svd` has the step take another one.

`--method=all`, or several with commas, prints such a line for each and then a table:
milliseconds, lower bound, overhead, auxiliary parameters, and the most memory that the
compiler reserves for the step.

`--reference=NAME=COMMAND` runs another implementation in every round, too. The last
line it prints is a JSON object with `images_per_s`; `vs_NAME` is the images/s of the
distillation step divided by that, the median over the rounds.
"""

import argparse
import functools
import json
import shlex
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import tabulate

from kdjax import distill
from kdjax.cli import command_line
from kdjax.runs import console

from .workloads import Setup, Workload, workloads

#: Methods with a hyperparameter that has no default.
_REQUIRED = ("mutual_learning",)

#: Seconds that a round of a part of a step may take.
_LONGEST_S = 2.0

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


def reference_speed(command: str) -> float:
    """Runs another implementation and returns the images/s in its last line.

    Raises:
      ValueError: if it fails or prints no images/s.
    """
    done = subprocess.run(
        shlex.split(command), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"reference {command!r} ended with status {done.returncode} and printed no "
            "images_per_s"
        ) from None


def _parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    text, number = parser.add_argument, _positive
    flag = functools.partial(parser.add_argument, action="store_true")
    text("--teacher", default="wrn_16_2", help="teacher network")
    text("--student", default="wrn_16_1", help="student network")
    text("--method", default="overhaul", help="method; several with commas, or all")
    text(
        "--hyperparameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the method, other than the default; may be repeated",
    )
    text("--batch", type=number, default=64, help="images in a step, on one device")
    text("--examples", type=number, default=50_000, help="training images")
    text("--classes", type=number, default=100)
    text("--image_size", type=number, default=32, help="height and width of an image")
    flag("--no_parts", help="do not time the parts of a method, compress_...")
    text("--dtype", choices=("float32", "bfloat16"), default="float32")
    text("--rounds", type=number, default=5, help="rounds, whose medians are printed")
    text("--steps", type=number, default=4, help="steps of each kind in a round")
    text(
        "--reference",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another implementation to compare with; may be repeated",
    )
    return parser


def _positive(text: str) -> int:
    """Reads a number of at least 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


_positive.__name__ = "positive int"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a JSON line for each method; returns the exit status."""
    flags = _parser().parse_args(arguments)
    names = flags.method.split(",")
    if names == ["all"]:
        # Few students have the token.
        known = {
            n for n, x in distill.METHODS.items() if not x.needs_distillation_token
        }
        names = sorted(known - set(_REQUIRED))
        names += [name for name in sorted(_REQUIRED) if name in distill.METHODS]
    reports = []
    try:
        setup = Setup(
            teacher=flags.teacher,
            student=flags.student,
            batch_size=flags.batch,
            examples=flags.examples,
            num_classes=flags.classes,
            image_size=flags.image_size,
            dtype=flags.dtype,
        )
        for name in names:
            reports.append(measure(setup, name, flags))
            print(json.dumps(reports[-1]), flush=True)
    except ValueError as error:
        console.print_error("benchmark", error)
        return 2
    if len(reports) > 1:
        print(tabulate.tabulate(map(_row, reports), headers="keys"))
    return 0


def _row(report: dict[str, Any]) -> dict[str, object]:
    """Returns the table row of a method."""
    return {
        "method": report["method"],
        "step, ms": f"{report['distillation_ms']:.1f}",
        "lower bound, ms": f"{report['student_ms'] + report['teacher_ms']:.1f}",
        "overhead": f"{report['overhead']:.3f}",
        "auxiliary parameters": f"{report['auxiliary_parameters']:,}",
        "memory, MB": f"{report['peak_bytes'] / 1e6:.0f}",
    }


def measure(setup: Setup, method: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Times one method as the flags say and returns the JSON line.

    Raises:
      ValueError: if a hyperparameter or a reference makes no sense.
    """
    references = {}
    for reference in flags.reference:
        name, equals, command = reference.partition("=")
        if not equals:
            raise ValueError(f"reference={reference!r} is not NAME=COMMAND")
        references[name] = command
    given = hyperparameters(method, flags.hyperparameter)
    required = {"peer": flags.teacher} if method in _REQUIRED else {}
    timed = workloads(setup, method, required | given, parts=not flags.no_parts)
    for workload in timed.values():
        # Methods share the lower bound; only the rounds of this one count.
        workload.seconds.clear()
    ratios: dict[str, list[float]] = {name: [] for name in references}
    for _ in range(flags.rounds):
        for name, workload in timed.items():
            steps = flags.steps
            if name.startswith("compress"):
                # On a GPU `jnp.linalg.svd` takes seconds.
                steps = min(steps, workload.steps_within(_LONGEST_S))
            workload.run(steps)
        speed = flags.batch / timed["distillation"].seconds[-1]
        for name, command in references.items():
            ratios[name].append(speed / reference_speed(command))
    return {
        "teacher": flags.teacher,
        "student": flags.student,
        "method": method,
        **({"hyperparameters": given} if given else {}),
        "batch": flags.batch,
        "examples": flags.examples,
        "dtype": flags.dtype,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        **figures(timed, flags.batch),
        **{f"vs_{name}": _median(ratio) for name, ratio in ratios.items()},
    }


def figures(timed: Mapping[str, Workload], batch: int) -> dict[str, float]:
    """Returns milliseconds, images/s, overhead, parameters and memory.

    Args:
      timed: `distillation`, `student`, `teacher` and parts, after as many rounds.
      batch: images in a step.
    """
    found: dict[str, float] = {}
    for name, workload in timed.items():
        found[f"{name}_ms"] = round(1e3 * workload.median_s, 3)
        if not name.startswith("compress"):
            found[f"{name}_images_per_s"] = round(batch / workload.median_s, 1)
    found["auxiliary_parameters"] = timed["distillation"].auxiliary
    found["peak_bytes"] = timed["distillation"].peak_bytes
    rounds = zip(
        *(timed[name].seconds for name in ("distillation", "student", "teacher")),
        strict=True,
    )
    found["overhead"] = _median([step / (s + t) for step, s, t in rounds])
    return found


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    command_line.run(main)
