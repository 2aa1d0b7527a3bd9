"""The result of a run whose best evaluation is not its last."""

import types

import pytest

from kdjax import recipes, results
from kdjax.results import Outcome

LAST = {"step": 9, "accuracy": 0.5, "loss": 2.0}
BEST = {"step": 6, "accuracy": 0.6, "loss": 1.0}


def outcome(evaluations):
    return Outcome(
        steps=9,
        wall_s=3.0,
        images_per_s=20.0,
        evaluations=evaluations,
        student_parameters=7,
        method_parameters={},
    )


def experiment(eval_name):
    return types.SimpleNamespace(
        config=recipes.alone("wrn_10_1,digits"),
        data=types.SimpleNamespace(
            eval_name=eval_name, num_images={"train": 4, "test": 2}, skipped={}
        ),
        methods={},
        teacher=None,
    )


def test_the_last_evaluation_is_final_and_the_best_one_apart():
    found = results.summarize(
        experiment("test"), {"train": outcome({"test": {"last": LAST, "best": BEST}})}
    )
    assert (found["final_test_accuracy"], found["final_step"]) == (0.5, 9)
    assert (found["best_test_accuracy"], found["best_step"]) == (0.6, 6)


def test_with_a_validation_part_the_best_step_is_chosen_on_it():
    test = {"step": 9, "accuracy": 0.4, "loss": 3.0}
    evaluations = {
        "validation": {"last": LAST, "best": BEST},
        "test": {"last": test, "best": test},
    }
    found = results.summarize(experiment("validation"), {"train": outcome(evaluations)})
    assert found["final_test_accuracy"] == pytest.approx(0.4)
    assert found["best_test_accuracy"] is None
    assert found["final_validation_accuracy"] == pytest.approx(0.5)
    assert found["best_validation_accuracy"] == pytest.approx(0.6)
    assert found["best_step"] == 6
