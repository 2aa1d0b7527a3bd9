"""Which runs are teachers, baselines and methods of which pair."""

import shutil

import pytest

from experiments import pairs, runs, summary
from tests.experiments.run_folders import (
    OVERHAUL,
    TAUGHT,
    blocks_of,
    records_of,
    write_pair,
    write_run,
)


def test_several_pairs_and_data(tmp_path):
    write_pair(tmp_path)
    write_pair(tmp_path, teacher="wrn_40_2")
    write_pair(tmp_path, data="cifar10")
    blocks = blocks_of(tmp_path)
    assert [(block.settings.data, block.pair) for block in blocks] == [
        ("cifar10", ("wrn_16_2", "wrn_16_1")),
        ("digits", ("wrn_16_2", "wrn_16_1")),
        ("digits", ("wrn_40_2", "wrn_16_1")),
    ]
    assert blocks[1].title == "wrn_16_2 → wrn_16_1 (20 % of digits, 3 epochs, batch 64)"
    for block in blocks:
        assert [(row.role, row.label, list(row.runs)) for row in block.rows] == [
            (pairs.TEACHER, "teacher", [0, 1, 2]),
            (pairs.BASELINE, "student from scratch (baseline)", [0, 1, 2]),
            (pairs.METHOD, "overhaul", [0, 1, 2]),
            (pairs.METHOD, "overhaul + rkd", [0, 1, 2]),
        ]
        assert block.rows[0].network == block.pair[0]
        # The baseline lies in the folders of both pairs: one run a seed counts.
        assert block.rows[1].accuracies == pytest.approx({0: 90, 1: 91, 2: 92})
        assert {r.settings for r in block.rows[1].runs.values()} == {block.settings}


def test_baseline_needs_the_same_epochs(tmp_path):
    write_run(tmp_path / "a", 0.9, epochs=5)
    write_run(tmp_path / "b", 0.9, **TAUGHT)
    paired, scratch = blocks_of(tmp_path)
    assert [row.label for row in paired.rows] == ["overhaul"]
    assert "No baseline with these settings, so no gain." in summary.notes(paired)
    assert (scratch.pair, [row.label for row in scratch.rows]) == (None, ["wrn_16_1"])


def test_teacher_is_known_by_its_checkpoint(tmp_path):
    used = write_run(tmp_path / "used", 0.95, model="wrn_16_2", epochs=9)
    write_run(tmp_path / "repeat", 0.96, model="wrn_16_2", epochs=9, seed=1)
    write_run(tmp_path / "other", 0.7, model="wrn_16_2")
    write_run(tmp_path / "student", 0.9, taught_by=used / "checkpoints", **TAUGHT)
    paired, scratch = blocks_of(tmp_path)
    (teacher,) = paired.having(pairs.TEACHER)
    assert teacher.accuracies == pytest.approx({0: 95, 1: 96})
    assert scratch.rows[0].accuracies == pytest.approx({0: 70})


def test_teacher_without_a_known_checkpoint_is_matched_by_name_and_data(tmp_path):
    write_run(tmp_path / "teacher", 0.95, model="wrn_16_2", epochs=9)
    write_run(tmp_path / "elsewhere", 0.5, model="wrn_16_2", data="cifar10")
    write_run(tmp_path / "student", 0.9, **TAUGHT)
    paired, scratch = blocks_of(tmp_path)
    assert paired.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})
    assert scratch.settings.data == "cifar10"


@pytest.mark.parametrize("moved", [False, True])
def test_self_distillation(tmp_path, moved):
    root = tmp_path / "runs"
    teacher = write_run(root / "teachers/wrn_16_1/seed_5", 0.8, seed=5)
    taught = {"methods": OVERHAUL, "teacher": "wrn_16_1"}
    for seed in range(2):
        write_run(root / f"none/seed_{seed}", 0.9, seed=seed)
        folder = root / f"overhaul/seed_{seed}"
        write_run(folder, 0.91, seed=seed, taught_by=teacher / "checkpoints", **taught)
    if moved:
        root = root.rename(tmp_path / "moved")
    (block,) = blocks_of(root)
    assert [(row.role, list(row.runs)) for row in block.rows] == [
        (pairs.TEACHER, [5]),
        (pairs.BASELINE, [0, 1]),
        (pairs.METHOD, [0, 1]),
    ]


def test_run_that_taught_stands_for_its_seed(tmp_path):
    write_run(tmp_path / "students/seed_0", 0.94, model="wrn_16_2")
    used = write_run(tmp_path / "teachers/seed_0", 0.95, model="wrn_16_2")
    write_run(tmp_path / "wrn_16_1", 0.9, taught_by=used, **TAUGHT)
    (block,), (warning,) = pairs.arrange(runs.read_runs(tmp_path)[0])
    assert block.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})
    assert warning.startswith("students/seed_0 left out: teachers/seed_0 has its")


def test_checkpoint_path_beats_a_name_that_ends_alike(tmp_path):
    root = tmp_path / "a"
    teacher = write_run(root / "b", 0.95, model="wrn_16_2", epochs=9)
    write_run(root / "a/b", 0.5, model="wrn_16_2", epochs=8)
    write_run(root / "student", 0.9, taught_by=teacher / "checkpoints/9", **TAUGHT)
    paired, _ = blocks_of(root)
    assert paired.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})


def test_settings_of_a_method_are_not_averaged_over(tmp_path):
    for seed, weight in ((0, 0.001), (0, 0.1), (10, 0.1), (2, 0.1)):
        folder = tmp_path / f"{weight}/seed_{seed}"
        methods = {"overhaul": {"weight": weight}}
        write_run(folder, 0.9 + weight / 10, seed=seed, methods=methods, teacher="t")
    (block,) = blocks_of(tmp_path)
    # Seeds in the order of numbers.
    assert {row.label: list(row.runs) for row in block.rows} == {
        "overhaul (weight=0.001)": [0],
        "overhaul (weight=0.1)": [0, 2, 10],
    }


def test_logging_does_not_tell_runs_apart(tmp_path):
    for seed in range(2):
        checkpoint = {"every_steps": seed, "keep_last": 2}
        folder = tmp_path / f"{seed}"
        write_run(folder, 0.9, seed=seed, log_every_steps=seed, checkpoint=checkpoint)
    (block,) = blocks_of(tmp_path)
    assert [list(row.runs) for row in block.rows] == [[0, 1]]


def test_a_copy_does_not_count_as_a_seed(tmp_path):
    write_pair(tmp_path)
    original = tmp_path / "digits/wrn_16_2-wrn_16_1/overhaul/seed_0"
    shutil.copytree(original, tmp_path / "copy")
    assert records_of(tmp_path)["overhaul"]["seeds"] == "0 1 2"


def test_two_results_of_one_config_and_seed_are_a_warning(tmp_path):
    write_run(tmp_path / "a", 0.9)
    write_run(tmp_path / "b", 0.8)
    (block,), (warning,) = pairs.arrange(runs.read_runs(tmp_path)[0])
    assert block.rows[0].accuracies == pytest.approx({0: 90})
    assert warning.startswith("b left out: a has its config and seed 0")


def test_settings_that_only_methods_use_are_no_difference(tmp_path):
    write_run(tmp_path / "a", 0.8, seed=0, pretrain={"epochs": 40})
    write_run(tmp_path / "b", 0.8, seed=1, pretrain={"epochs": 10})
    write_run(tmp_path / "m", 0.9, pretrain={"epochs": 20}, **TAUGHT)
    (block,) = blocks_of(tmp_path)
    assert [row.role for row in block.rows] == [pairs.BASELINE, pairs.METHOD]
    assert "differs" not in "\n".join(summary.notes(block))


def test_a_run_older_than_a_field_had_its_default(tmp_path):
    write_run(tmp_path / "a", 0.8, seed=0)
    write_run(tmp_path / "b", 0.8, seed=1, task_weight=1.0)
    old = {"overhaul": {"weight": 1.0}}
    write_run(tmp_path / "m0", 0.9, seed=0, methods=old, teacher="t")
    new = {"overhaul": {"weight": 1.0, "margin": "closed_form"}}
    write_run(tmp_path / "m1", 0.9, seed=1, methods=new, teacher="t")
    (block,) = blocks_of(tmp_path)
    assert [row.role for row in block.rows] == [pairs.BASELINE, pairs.METHOD]
    assert "differs" not in "\n".join(summary.notes(block))


def test_a_younger_field_is_a_difference_unless_it_is_the_default(tmp_path):
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "m", 0.9, task_weight=0.5, **TAUGHT)
    (block,) = blocks_of(tmp_path)
    assert "task_weight=0.5 (baseline: 1.0)" in "\n".join(summary.notes(block))


def test_runs_with_and_without_a_validation_split_are_not_compared(tmp_path):
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "m", 0.9, validation=0.25, **TAUGHT)
    paired, scratch = blocks_of(tmp_path)
    assert [row.label for row in paired.rows] == ["overhaul"]
    assert [row.eval_split for row in scratch.rows] == ["test"]
