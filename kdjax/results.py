"""The result of a run: what `result.json` holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from kdjax import phases
from kdjax.runs import workdirs
from kdjax.setup import Experiment


class Outcome(NamedTuple):
    """How a phase ended.

    Attributes:
      steps: updates made.
      wall_s: seconds that it took, in all processes that had a part in it.
      images_per_s: training speed in this process; None if it made no step.
      evaluations: newest and best evaluation by split, see `RunLog`.
      student_parameters: number of them; 0 if the student took no part.
      method_parameters: number of learned parameters by method.
    """

    steps: int
    wall_s: float
    images_per_s: float | None
    evaluations: dict[str, Any]
    student_parameters: int
    method_parameters: dict[str, int]


def summarize(
    experiment: Experiment, outcomes: Mapping[str, Outcome], *, together: int = 1
) -> dict[str, Any]:
    """Returns the content of `result.json`; accuracies are fractions.

    Args:
      experiment: of the run.
      outcomes: of its phases.
      together: number of runs that were trained in one program, this one included,
        and that share its wall time.
    """
    student = outcomes[phases.TRAIN]
    eval_split = student.evaluations[experiment.data.eval_name]
    test = student.evaluations["test"]["last"]
    teacher = student.evaluations.get("teacher_test")
    return {
        "final_test_accuracy": test["accuracy"],
        "final_step": test["step"],
        # Unknown if the test split was evaluated at the end only; overwritten below.
        "best_test_accuracy": None,
        f"final_{experiment.data.eval_name}_accuracy": eval_split["last"]["accuracy"],
        f"best_{experiment.data.eval_name}_accuracy": eval_split["best"]["accuracy"],
        "best_step": eval_split["best"]["step"],
        "teacher_test_accuracy": teacher["last"]["accuracy"] if teacher else None,
        "images_per_s": student.images_per_s,
        "replicas": together,
        "images": experiment.data.num_images,
        "skipped": dict(experiment.data.skipped),
        "wall_s": sum(outcome.wall_s for outcome in outcomes.values()),
        "phases": {
            name: {
                "steps": outcome.steps,
                "wall_s": outcome.wall_s,
                "images_per_s": outcome.images_per_s,
            }
            for name, outcome in outcomes.items()
        },
        "parameters": _parameters(experiment, outcomes),
        **workdirs.provenance(),
        "config": workdirs.as_json(experiment.config),
    }


def _parameters(
    experiment: Experiment, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Counts the parameters of student, teacher and what each method learns.

    `method` is learned with the student, `pretrained` on the teacher alone.
    """
    counts = {kind: dict.fromkeys(experiment.methods, 0) for kind in ("with", "before")}
    for phase, outcome in outcomes.items():
        kind = "before" if phase == "pretrain" else "with"
        for name, count in outcome.method_parameters.items():
            counts[kind][name] += count
    return {
        "student": outcomes[phases.TRAIN].student_parameters,
        "teacher": count_parameters(experiment.teacher.variables["params"])
        if experiment.teacher
        else None,
        "method": counts["with"],
        "pretrained": counts["before"],
    }


def count_parameters(tree: Any) -> int:
    """Returns the number of parameters in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
