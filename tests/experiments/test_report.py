"""The report, made from run folders with known numbers."""

import csv
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.stats

from experiments import curves, pairs, report, runs, summary

OVERHAUL = {"overhaul": {"weight": 0.001}}
SOFT_TARGETS = {"soft_targets": {"weight": 0.9, "temperature": 4.0}}
ROOT = Path(__file__).parents[2]


def write_run(
    folder,
    accuracy,
    *,
    seed=0,
    model="wrn_16_1",
    methods=None,
    teacher="",
    taught_by="",
    data="digits",
    epochs=3,
    validation=0.0,
    finished=True,
    **config,
):
    """Writes a run folder; `accuracy` is the fraction after the last epoch.

    `taught_by` is the path of the checkpoint of the teacher; `validation` the fraction
    of a validation part, on which accuracies are a tenth lower; what is not named here
    goes into the config as it is.
    """
    folder.mkdir(parents=True)
    config |= {
        "seed": seed,
        "model": model,
        "teacher": {"model": teacher, "checkpoint": str(taught_by)},
        "methods": methods or {},
        "data": {
            "name": data,
            "train_fraction": 0.2,
            "validation_fraction": validation,
        },
        "epochs": epochs,
        "batch_size": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    watched, scale = ("validation", 0.9) if validation else ("test", 1)
    lines = [
        {"step": 5 * epoch, "epoch": float(epoch), "split": split, "accuracy": value}
        for epoch in range(1, epochs + 1)
        for split, value in (
            (watched, scale * accuracy * epoch / epochs),
            ("train", 1.0),
        )
    ]
    if validation:
        lines.append(lines[-1] | {"split": "test", "accuracy": accuracy})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    result = {
        "final_test_accuracy": accuracy,
        "final_step": 5 * epochs,
        "best_test_accuracy": None if validation else accuracy + 0.01,
        f"best_{watched}_accuracy": scale * accuracy + 0.01,
        "best_step": 10,
        "teacher_test_accuracy": 0.9611 if methods else None,
        "wall_s": 60.0 + seed,
        "images_per_s": 1000.0 + seed**2,
        "device_kind": "cpu",
        "num_devices": 2,
        "versions": {"jax": "1.2.3"},
        "git_revision": "abc123",
        "parameters": {
            "student": 175_066,
            "teacher": 703_284 if methods else None,
            "method": dict.fromkeys(methods or {}, 3072),
        },
        "images": {"train": 288, "test": 360},
        "config": config,
    }
    if finished:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_pair(root, teacher="wrn_16_2", student="wrn_16_1", data="digits"):
    """Writes three seeds of teacher, student alone and two methods.

    Over the student alone (90, 91, 92 %), overhaul gains 1, 2 and 3 points and
    overhaul with soft targets -1, 0 and 2.
    """
    root = root / data
    for seed in range(3):
        path = root / f"teachers/{teacher}/seed_{seed}"
        if not path.exists():
            write_run(path, 0.95 + seed / 100, seed=seed, model=teacher, data=data)
        common = {"seed": seed, "model": student, "teacher": teacher, "data": data}
        common["taught_by"] = root / f"teachers/{teacher}/seed_0/checkpoints/15"
        alone = 0.90 + seed / 100
        folder = root / f"{teacher}-{student}"
        write_run(folder / f"none/seed_{seed}", alone, **common)
        for methods, gain in (
            (OVERHAUL, (0.01, 0.02, 0.03)),
            (SOFT_TARGETS | OVERHAUL, (-0.01, 0.0, 0.02)),
        ):
            path = folder / "+".join(methods) / f"seed_{seed}"
            write_run(path, alone + gain[seed], methods=methods, **common)


def blocks_of(root):
    found, unusable = runs.read_runs(root)
    blocks, left_out = pairs.arrange(found)
    assert not unusable
    assert not left_out
    return blocks


def records_of(root):
    return {
        row.label: summary.record(block, row)
        for block in blocks_of(root)
        for row in block.rows
    }


def run_report(capsys, *flags):
    status = report.main(list(flags))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# Statistics.


def test_mean_and_sample_sd():
    mean, sd = summary.mean_sd([90.0, 91.0, 92.0, 95.0])
    assert mean == pytest.approx(92.0)
    assert sd == pytest.approx(math.sqrt(14 / 3))  # (4 + 1 + 0 + 9) / (4 - 1)


def test_sd_of_one_seed_is_unknown():
    mean, sd = summary.mean_sd([90.0])
    assert mean == 90.0
    assert math.isnan(sd)


def test_paired_gain_by_hand():
    gain = summary.paired_gain({0: 91, 1: 93, 2: 95}, {0: 90, 1: 91, 2: 92})
    # Differences 1, 2, 3: mean 2, sd 1; the 97.5 % quantile of t with 2 degrees of
    # freedom is 4.302653 in every printed table.
    half = 4.302653 / math.sqrt(3)
    assert gain.mean == 2
    assert gain.low == pytest.approx(2 - half, abs=1e-5)
    assert gain.high == pytest.approx(2 + half, abs=1e-5)


def test_paired_gain_agrees_with_scipy():
    method = {0: 91.2, 1: 93.7, 2: 90.1, 3: 95.5}
    alone = {3: 92.0, 2: 90.4, 1: 91.5, 0: 90.0}
    gain = summary.paired_gain(method, alone)
    test = scipy.stats.ttest_rel([method[s] for s in alone], list(alone.values()))
    assert (gain.low, gain.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_gain_uses_the_shared_seeds_only():
    gain = summary.paired_gain({0: 91.0, 1: 95.0, 7: 10.0}, {0: 90.0, 1: 92.0, 2: 1.0})
    assert (gain.mean, gain.seeds) == (2.0, 2)
    assert summary.paired_gain({0: 91.0}, {1: 90.0}) is None


def test_equal_differences_give_an_interval_of_no_width():
    gain = summary.paired_gain({0: 91.0, 1: 93.0}, {0: 90.0, 1: 92.0})
    assert (gain.low, gain.mean, gain.high) == (1.0, 1.0, 1.0)


# Which run is what.


def test_rows_of_a_pair(tmp_path):
    write_pair(tmp_path)
    (block,) = blocks_of(tmp_path)
    assert block.title == "wrn_16_2 → wrn_16_1 (20 % of digits, 3 epochs, batch 64)"
    assert [(row.role, row.label, list(row.runs)) for row in block.rows] == [
        (pairs.TEACHER, "teacher", [0, 1, 2]),
        (pairs.STUDENT_ALONE, "student alone", [0, 1, 2]),
        (pairs.METHOD, "overhaul", [0, 1, 2]),
        (pairs.METHOD, "overhaul + soft_targets", [0, 1, 2]),
    ]


def test_record(tmp_path):
    write_pair(tmp_path)
    record = records_of(tmp_path)["overhaul + soft_targets"]
    half = scipy.stats.t.ppf(0.975, 2) * math.sqrt(7 / 3) / math.sqrt(3)
    expected = {
        "n": 3,
        "last_epoch_accuracy": (89 + 91 + 94) / 3,
        "last_epoch_sd": math.sqrt(19 / 3),
        "gain": 1 / 3,
        "gain_low": 1 / 3 - half,
        "gain_high": 1 / 3 + half,
        "best_epoch_accuracy": (90 + 92 + 95) / 3,
        "parameters": 175_066,
        "extra_parameters_while_training": 2 * 3072,
        "train_images": 288,
        "images_per_s": 1001.0,  # the median of 1000, 1001 and 1004
        "wall_s": 61.0,
    }
    assert {name: record[name] for name in expected} == pytest.approx(expected)
    assert record["devices"] == "2 x cpu"


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
    for block in blocks:
        assert len(block.rows) == 4
        (teacher,) = block.having(pairs.TEACHER)
        assert teacher.network == block.pair[0]
        # The student alone lies in the folders of both pairs: one run a seed counts.
        (alone,) = block.having(pairs.STUDENT_ALONE)
        assert alone.accuracies == pytest.approx({0: 90, 1: 91, 2: 92})
        assert {run.settings for run in alone.runs.values()} == {block.settings}


def test_student_alone_needs_the_same_epochs(tmp_path):
    write_run(tmp_path / "a", 0.9, epochs=5)
    write_run(tmp_path / "b", 0.9, methods=OVERHAUL, teacher="wrn_16_2")
    paired, lone = blocks_of(tmp_path)
    assert [row.label for row in paired.rows] == ["overhaul"]
    assert "No student alone with these settings, so no gain." in summary.notes(paired)
    assert (lone.pair, [row.label for row in lone.rows]) == (None, ["wrn_16_1"])


def test_teacher_is_known_by_its_checkpoint(tmp_path):
    used = write_run(tmp_path / "used", 0.95, model="wrn_16_2", epochs=9)
    write_run(tmp_path / "repeat", 0.96, model="wrn_16_2", epochs=9, seed=1)
    write_run(tmp_path / "other", 0.7, model="wrn_16_2")
    student = {"teacher": "wrn_16_2", "taught_by": used / "checkpoints"}
    write_run(tmp_path / "student", 0.9, methods=OVERHAUL, **student)
    paired, lone = blocks_of(tmp_path)
    (teacher,) = paired.having(pairs.TEACHER)
    assert teacher.accuracies == pytest.approx({0: 95, 1: 96})
    assert lone.rows[0].accuracies == pytest.approx({0: 70})


def test_teacher_without_a_known_checkpoint_is_matched_by_name_and_data(tmp_path):
    write_run(tmp_path / "teacher", 0.95, model="wrn_16_2", epochs=9)
    write_run(tmp_path / "elsewhere", 0.5, model="wrn_16_2", data="cifar10")
    write_run(tmp_path / "student", 0.9, methods=OVERHAUL, teacher="wrn_16_2")
    paired, lone = blocks_of(tmp_path)
    assert paired.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})
    assert lone.settings.data == "cifar10"


@pytest.mark.parametrize("moved", [False, True])
def test_self_distillation(tmp_path, moved):
    root = tmp_path / "runs"
    teacher = write_run(root / "teachers/wrn_16_1/seed_5", 0.8, seed=5)
    for seed in range(2):
        write_run(root / f"none/seed_{seed}", 0.9, seed=seed)
        write_run(
            root / f"overhaul/seed_{seed}",
            0.91,
            seed=seed,
            methods=OVERHAUL,
            teacher="wrn_16_1",
            taught_by=teacher / "checkpoints",
        )
    if moved:
        root = root.rename(tmp_path / "moved")
    (block,) = blocks_of(root)
    assert [(row.role, list(row.runs)) for row in block.rows] == [
        (pairs.TEACHER, [5]),
        (pairs.STUDENT_ALONE, [0, 1]),
        (pairs.METHOD, [0, 1]),
    ]


def test_run_that_taught_stands_for_its_seed(tmp_path):
    write_run(tmp_path / "students/seed_0", 0.94, model="wrn_16_2")
    used = write_run(tmp_path / "teachers/seed_0", 0.95, model="wrn_16_2")
    student = {"teacher": "wrn_16_2", "taught_by": used}
    write_run(tmp_path / "wrn_16_1", 0.9, methods=OVERHAUL, **student)
    (block,), (warning,) = pairs.arrange(runs.read_runs(tmp_path)[0])
    assert block.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})
    assert warning.startswith("students/seed_0 left out: teachers/seed_0 has its")


def test_checkpoint_path_beats_a_name_that_ends_alike(tmp_path):
    root = tmp_path / "a"
    teacher = write_run(root / "b", 0.95, model="wrn_16_2", epochs=9)
    write_run(root / "a/b", 0.5, model="wrn_16_2", epochs=8)
    student = {"teacher": "wrn_16_2", "taught_by": teacher / "checkpoints/9"}
    write_run(root / "student", 0.9, methods=OVERHAUL, **student)
    paired, _ = blocks_of(root)
    assert paired.having(pairs.TEACHER)[0].accuracies == pytest.approx({0: 95})


def test_settings_of_a_method_are_not_averaged_over(tmp_path):
    for seed, weight in ((0, 0.001), (0, 0.1), (1, 0.1)):
        write_run(
            tmp_path / f"{weight}/seed_{seed}",
            0.9 + weight / 10,
            seed=seed,
            methods={"overhaul": {"weight": weight}},
            teacher="wrn_16_2",
        )
    (block,) = blocks_of(tmp_path)
    assert {row.label: list(row.runs) for row in block.rows} == {
        "overhaul (weight=0.001)": [0],
        "overhaul (weight=0.1)": [0, 1],
    }


def test_what_is_logged_and_where_does_not_tell_runs_apart(tmp_path):
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


def test_two_results_of_one_config_and_seed_are_told(tmp_path):
    write_run(tmp_path / "a", 0.9)
    write_run(tmp_path / "b", 0.8)
    (block,), (warning,) = pairs.arrange(runs.read_runs(tmp_path)[0])
    assert block.rows[0].accuracies == pytest.approx({0: 90})
    assert warning.startswith("b left out: a has its config and seed 0")


def test_several_baselines_gain_over_the_best(tmp_path):
    write_run(tmp_path / "low", 0.80, lr=0.1)
    write_run(tmp_path / "high", 0.90, lr=0.2)
    write_run(tmp_path / "m", 0.91, methods=OVERHAUL, teacher="t", lr=0.1)
    (block,) = blocks_of(tmp_path)
    assert summary.record(block, block.rows[-1])["gain"] == pytest.approx(1)
    text = "\n".join(summary.notes(block))
    assert "measured from the better baseline, student alone (lr=0.2)." in text
    assert (
        "overhaul: differs from the student alone also in lr=0.1 (student alone: 0.2)."
        in text
    )


def test_what_only_methods_listen_to_is_no_difference(tmp_path):
    write_run(tmp_path / "a", 0.8, seed=0, pretrain={"epochs": 40})
    write_run(tmp_path / "b", 0.8, seed=1, pretrain={"epochs": 10})
    taught = {"methods": OVERHAUL, "teacher": "t", "pretrain": {"epochs": 20}}
    write_run(tmp_path / "m", 0.9, **taught)
    (block,) = blocks_of(tmp_path)
    assert [row.label for row in block.rows] == ["student alone", "overhaul"]
    assert "differs" not in "\n".join(summary.notes(block))


def test_a_run_older_than_a_field_had_its_default(tmp_path):
    write_run(tmp_path / "a", 0.8, seed=0)
    write_run(tmp_path / "b", 0.8, seed=1, task_weight=1.0)
    old = {"overhaul": {"weight": 1.0}}
    write_run(tmp_path / "m0", 0.9, seed=0, methods=old, teacher="t")
    new = {"overhaul": {"weight": 1.0, "margin": "closed_form"}}
    write_run(tmp_path / "m1", 0.9, seed=1, methods=new, teacher="t")
    (block,) = blocks_of(tmp_path)
    assert [row.label for row in block.rows] == ["student alone", "overhaul"]
    assert "differs" not in "\n".join(summary.notes(block))


def test_a_field_younger_than_the_other_runs_is_a_difference_unless_default(tmp_path):
    write_run(tmp_path / "a", 0.8)
    taught = {"methods": OVERHAUL, "teacher": "t", "task_weight": 0.5}
    write_run(tmp_path / "m", 0.9, **taught)
    (block,) = blocks_of(tmp_path)
    assert "task_weight=0.5 (student alone: 1.0)" in "\n".join(summary.notes(block))


def test_seeds_stand_in_the_order_of_numbers(tmp_path):
    for seed in (2, 10, 1):
        write_run(tmp_path / f"seed_{seed}", 0.9, seed=seed)
    assert records_of(tmp_path)["wrn_16_1"]["seeds"] == "1 2 10"


# Reading.


def test_unfinished_runs_are_listed_and_not_averaged(tmp_path, capsys):
    write_pair(tmp_path)
    folder = tmp_path / "digits/killed"
    methods = {"methods": OVERHAUL, "teacher": "wrn_16_2"}
    write_run(folder, 0.1, seed=3, finished=False, **methods)
    status, out, err = run_report(capsys, f"--runs={tmp_path}")
    assert status == 0
    assert err == ""
    assert "\nunfinished: digits/killed (step 15)\n" in out
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "- unfinished: digits/killed (step 15)\n" in page
    assert records_of(tmp_path)["overhaul"]["n"] == 3


def assert_corrupt(root, capsys, text):
    write_pair(root)
    file = root / "digits/wrn_16_2-wrn_16_1/overhaul/seed_2/result.json"
    file.write_text(text(file.read_text()))
    status, out, err = run_report(capsys, f"--runs={root}")
    assert status == 0
    assert err.startswith(f"warning: {file} is corrupt, run treated as unfinished")
    assert err.count("\n") == 1
    assert "unfinished: digits/wrn_16_2-wrn_16_1/overhaul/seed_2 (step 15)" in out


@pytest.mark.parametrize("length", [0, 100])
def test_cut_result_is_named_and_unfinished(tmp_path, capsys, length):
    assert_corrupt(tmp_path, capsys, lambda text: text[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"final_test_accuracy": None},
        {"final_test_accuracy": 93.1},  # percent, not a fraction
        {"best_test_accuracy": math.nan},
        {"best_test_accuracy": -0.1},
        {"parameters": 175_066},
        {"versions": None},
    ],
)
def test_wrong_result_is_named_and_unfinished(tmp_path, capsys, change):
    assert_corrupt(tmp_path, capsys, lambda text: json.dumps(json.loads(text) | change))


@pytest.mark.parametrize("text", ["", "{}", '{"architectures": ["Bert"]}', "[1]"])
def test_config_of_no_run_is_named_and_left_out(tmp_path, capsys, text):
    write_run(tmp_path / "run", 0.9)
    (tmp_path / "run/other").mkdir()
    (tmp_path / "run/other/config.json").write_text(text)
    status, _, err = run_report(capsys, f"--runs={tmp_path}")
    assert status == 0
    expected = f"{tmp_path / 'run/other/config.json'} is not the config of a run"
    assert err.startswith(f"warning: {expected}")
    assert err.count("\n") == 1


def test_truncated_lines_of_metrics_are_skipped(tmp_path):
    folder = write_run(tmp_path / "run", 0.9)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 20, "epoch": 4.0, "split": "test", "accu')
    (run,), _ = runs.read_runs(tmp_path)
    assert run.curve == pytest.approx({1: 30, 2: 60, 3: 90})
    assert run.step == 15


def test_lines_of_a_resumed_run_replace_the_earlier_ones(tmp_path):
    folder = write_run(tmp_path / "run", 0.9)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "ep{"step": 9}\n')
        file.write('{"step": 10, "epoch": 2.0, "split": "test", "accuracy": 0.5}\n')
        file.write('{"step": 0, "epoch": 0.0, "split": "test", "accuracy": 0.1}\n')
    (run,), _ = runs.read_runs(tmp_path)
    assert run.curve == pytest.approx({0: 10, 1: 30, 2: 50, 3: 90})
    assert list(run.curve) == [0, 1, 2, 3]


def test_checkpoints_of_a_run_are_not_searched(tmp_path):
    write_run(tmp_path / "run", 0.9)
    write_run(tmp_path / "run/checkpoints/15", 0.1)
    write_run(tmp_path / "run/teacher", 0.95)
    found, _ = runs.read_runs(tmp_path)
    assert [run.name for run in found] == ["run", "run/teacher"]


def test_run_without_metrics(tmp_path, capsys):
    folder = write_run(tmp_path / "run", 0.9)
    (folder / "metrics.jsonl").unlink()
    status, out, _ = run_report(capsys, f"--runs={folder}")
    assert status == 0
    assert "90.00 ± —" in out


# What is written.


def test_terminal_table(tmp_path, capsys):
    write_pair(tmp_path)
    out_folder = tmp_path / "new/folder"
    status, out, err = run_report(capsys, f"--runs={tmp_path}", f"--out={out_folder}")
    assert (status, err) == (0, "")
    line = next(line for line in out.splitlines() if line.startswith("overhaul "))
    assert re.split(r"\s{2,}", line) == [
        "overhaul",
        "288",
        "3",
        "93.00 ± 2.00",
        "+2.00 [-0.48, 4.48]",
        "94.00",
        "175,066",
        "1,001",
        "61 s",
    ]
    assert max(map(len, out.splitlines()[:-1])) <= 120
    assert "overhaul: gain not distinguishable from zero with 3 seeds.\n" in out
    assert "Teacher as measured in the runs: 96.11 %.\n" in out
    assert "paired by\nseed" in out or "paired by seed" in out
    names = ("table.md", "table.csv", "curves.png")
    assert out.splitlines()[-1] == " ".join(
        ["wrote", *(str(out_folder / name) for name in names)]
    )
    assert {file.name for file in out_folder.iterdir()} == set(names)


def test_long_combination_still_fits_a_terminal(tmp_path):
    methods = SOFT_TARGETS | OVERHAUL | {"attention_transfer": {}, "similarity": {}}
    write_run(tmp_path / "run", 0.9, methods=methods, teacher="wrn_16_2")
    lines = report.terminal(blocks_of(tmp_path), []).splitlines()
    assert max(map(len, lines)) <= 120
    words = " ".join(line[:30].strip() for line in lines)
    assert "attention_transfer + overhaul + similarity + soft_targets" in words


@pytest.mark.parametrize("sign", [-1, 1])
def test_clear_difference_has_no_caveat(tmp_path, sign):
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", 0.90, seed=seed)
        gain = sign * (0.02 + seed / 1000)
        methods = {"methods": OVERHAUL, "teacher": "wrn_16_2"}
        write_run(tmp_path / f"b{seed}", 0.90 + gain, seed=seed, **methods)
    (block,) = blocks_of(tmp_path)
    assert summary.notes(block) == ["Teacher as measured in the runs: 96.11 %."]


def test_one_seed(tmp_path):
    write_run(tmp_path / "a", 0.90)
    write_run(tmp_path / "b", 0.92, methods=OVERHAUL, teacher="wrn_16_2")
    (block,) = blocks_of(tmp_path)
    record = summary.record(block, block.rows[-1])
    assert (record["last_epoch_sd"], record["gain_low"]) == (None, None)
    row = report.cells(record)
    assert (row["last epoch"], row["gain [95 %]"]) == ("92.00 ± —", "+2.00")
    assert "overhaul: gain of a single seed, so no interval." in summary.notes(block)


def test_seeds_that_are_not_shared_are_told(tmp_path):
    methods = {"methods": OVERHAUL, "teacher": "wrn_16_2"}
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", 0.90, seed=seed)
    for seed in range(1, 4):
        write_run(tmp_path / f"b{seed}", 0.92, seed=seed, **methods)
    write_run(tmp_path / "c", 0.95, seed=9, methods=SOFT_TARGETS, teacher="wrn_16_2")
    (block,) = blocks_of(tmp_path)
    assert summary.notes(block)[1:] == [
        "overhaul: gain of a single seed, so no interval.",
        "overhaul: gain over the 1 of its 3 seeds that the student alone has too.",
        "soft_targets: shares no seed with the student alone, so no gain.",
    ]
    row = report.cells(summary.record(block, block.rows[-1]))
    assert row["gain [95 %]"] == "—"


def test_csv_reads_back(tmp_path, capsys):
    write_pair(tmp_path)
    run_report(capsys, f"--runs={tmp_path}")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    records = list(records_of(tmp_path).values())
    assert len(lines) == len(records) == 4
    for line, record in zip(lines, records, strict=True):
        assert line == {k: "" if v is None else str(v) for k, v in record.items()}
    assert float(lines[2]["gain"]) == pytest.approx(2)
    assert lines[0]["gain"] == ""


def test_markdown(tmp_path, capsys):
    write_pair(tmp_path)
    run_report(capsys, f"--runs={tmp_path}")
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| overhaul + ")]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == [
        "overhaul + soft_targets",
        "wrn_16_1",
        "3",
        "91.33 ± 2.52",
        "+0.33 [-3.46, 4.13]",
        "92.33",
        "175,066",
        "6,144",
        "288",
        "3",
        "64",
        "1,001",
        "61 s",
    ]
    for text in (
        "## wrn_16_2 → wrn_16_1 (20 % of digits, 3 epochs, batch 64)\n",
        "\n- overhaul + soft_targets: gain not distinguishable from zero with 3 seeds.",
        "The last epoch is the headline; the best epoch is chosen on the test split",
        "paired by seed",
        "![Test accuracy by epoch](curves.png)",
        "\n- Devices: 2 x cpu\n- Versions: jax 1.2.3\n- Git revision: abc123\n",
        f"`python -m experiments.report --runs={tmp_path} --out={tmp_path}`",
    ):
        assert text in page


def test_all_of_the_data_no_teacher_and_unknown_speed(tmp_path):
    folder = write_run(tmp_path / "run", 0.9, methods=SOFT_TARGETS)
    for name, change in (
        ("config.json", {"data": {"name": "digits", "train_fraction": 1.0}}),
        ("result.json", {"images_per_s": None}),
    ):
        fields = json.loads((folder / name).read_text()) | change
        (folder / name).write_text(json.dumps(fields))
    (block,) = blocks_of(tmp_path)
    assert block.title == "no teacher → wrn_16_1 (digits, 3 epochs, batch 64)"
    record = summary.record(block, block.rows[0])
    assert record["images_per_s"] is None
    assert report.cells(record)["img/s"] == "—"


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.4, "61 s"), (150, "2.5 min"), (9000, "2.5 h")]
)
def test_wall_time(tmp_path, seconds, text):
    write_run(tmp_path / "run", 0.9)
    (record,) = records_of(tmp_path).values()
    assert report.cells(record | {"wall_s": seconds})["wall"] == text


# Curves.


def test_curves_are_a_picture_with_a_panel_for_each_pair(tmp_path, capsys):
    write_pair(tmp_path)
    run_report(capsys, f"--runs={tmp_path}")
    one = (tmp_path / "curves.png").read_bytes()
    write_pair(tmp_path, data="cifar10")
    run_report(capsys, f"--runs={tmp_path}")
    two = (tmp_path / "curves.png").read_bytes()
    assert one[:8] == two[:8] == b"\x89PNG\r\n\x1a\n"
    (width, height), (twice, same) = (
        struct.unpack(">II", png[16:24]) for png in (one, two)
    )
    assert width >= 1000
    assert height >= 500
    assert (twice, same) == (2 * width, height)
    assert len(two) > len(one) > 20_000


def test_mean_curve_is_over_epochs_that_all_seeds_have(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0)
    folder = write_run(tmp_path / "b", 0.6, seed=1)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[2:]))
    (block,) = blocks_of(tmp_path)
    assert curves.mean_curve(block.rows[0]) == pytest.approx({2: 50, 3: 75})


def test_first_epochs_do_not_squash_the_curves(tmp_path):
    folder = write_run(tmp_path / "a", 0.95)
    accuracies = [0.1, 0.5] + [0.90 + epoch / 400 for epoch in range(18)] + [0.95]
    with (folder / "metrics.jsonl").open("w") as file:
        for epoch, accuracy in enumerate(accuracies):
            line = {"step": epoch, "epoch": epoch, "split": "test"}
            file.write(json.dumps(line | {"accuracy": accuracy}) + "\n")
    (block,) = blocks_of(tmp_path)
    low, high = curves.accuracy_limits(block.rows)
    assert 85 < low < 91
    assert 95 < high < 96


def test_every_last_epoch_stays_in_the_picture(tmp_path):
    for seed in range(9):
        write_run(tmp_path / f"{seed}", 0.9, seed=seed, epochs=1)
    write_run(tmp_path / "diverged", 0.1, seed=9, epochs=1)
    (block,) = blocks_of(tmp_path)
    assert curves.accuracy_limits(block.rows)[0] < 10


def test_a_line_for_each_seed_and_each_mean(tmp_path, monkeypatch):
    write_pair(tmp_path)
    figures = []
    monkeypatch.setattr(curves.Figure, "savefig", lambda f, _: figures.append(f))
    curves.draw(blocks_of(tmp_path), tmp_path / "unused.png")
    (panel,) = figures[0].axes
    means = [line for line in panel.lines if line.get_linewidth() > 2]
    assert (len(means), len(panel.lines)) == (4, 4 + 4 * 3)
    assert len({line.get_color() for line in panel.lines}) == 4
    assert list(means[2].get_ydata()) == pytest.approx([31, 62, 93])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "teacher  96.00 %",
        "student alone  91.00 %",
        "overhaul  93.00 %",
        "overhaul + soft_targets  91.33 %",
    ]
    assert panel.get_title(loc="left") == "wrn_16_2 → wrn_16_1"


# Runs with a validation part.


def test_runs_with_a_validation_part_say_so(tmp_path, capsys):
    write_run(tmp_path / "a", 0.8, validation=0.25)
    taught = {"methods": OVERHAUL, "teacher": "wrn_16_2"}
    write_run(tmp_path / "m", 0.9, validation=0.25, **taught)
    status, out, err = run_report(capsys, f"--runs={tmp_path}")
    assert (status, err) == (0, "")
    title = "20 % of digits less 25 % for validation, 3 epochs, batch 64"
    assert f"wrn_16_2 → wrn_16_1 ({title})\n" in out
    (row,) = [line for line in out.splitlines() if line.startswith("overhaul ")]
    cells = re.split(r"\s{2,}", row)
    # The last epoch is the test split's, the best the validation part's.
    assert cells[3:6] == ["90.00 ± —", "+10.00", "82.00 v"]
    assert "Marked v is a best epoch's accuracy on a validation part" in out
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "![Validation accuracy by epoch](curves.png)\n" in page
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        assert {line["best_epoch_split"] for line in csv.DictReader(file)} == {
            "validation"
        }


def test_their_curves_are_of_the_validation_part(tmp_path, monkeypatch):
    write_run(tmp_path / "teacher", 0.95, model="wrn_16_2")
    taught = {"methods": OVERHAUL, "teacher": "wrn_16_2"}
    write_run(tmp_path / "m", 0.9, validation=0.25, **taught)
    figures = []
    monkeypatch.setattr(curves.Figure, "savefig", lambda f, _: figures.append(f))
    curves.draw(blocks_of(tmp_path), tmp_path / "unused.png")
    (panel,) = figures[0].axes
    assert panel.get_ylabel() == "validation accuracy (%)"
    assert list(panel.lines[1].get_ydata()) == pytest.approx([27, 54, 81])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "teacher (test)  95.00 %",
        "overhaul  90.00 %",
    ]


def test_runs_with_and_without_a_validation_part_are_not_compared(tmp_path):
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "m", 0.9, validation=0.25, methods=OVERHAUL, teacher="t")
    paired, lone = blocks_of(tmp_path)
    assert [row.label for row in paired.rows] == ["overhaul"]
    assert [row.watched for row in lone.rows] == ["test"]


def test_a_result_that_lacks_both_best_accuracies_is_corrupt(tmp_path, capsys):
    unknown = {"best_test_accuracy": None}
    assert_corrupt(
        tmp_path, capsys, lambda text: json.dumps(json.loads(text) | unknown)
    )


# The command line.


def test_errors_are_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "unfinished/run", 0.9, finished=False)
    write_run(tmp_path / "finished/run", 0.9)
    for flags, message in (
        ([], "--runs=DIR is missing: the folder to search for runs"),
        ([f"--runs={tmp_path}/nowhere"], f"--runs={tmp_path}/nowhere is not a folder"),
        ([f"--runs={tmp_path}/file"], f"--runs={tmp_path}/file is not a folder"),
        (
            [f"--runs={tmp_path}/empty"],
            f"no finished run under --runs={tmp_path}/empty (0 unfinished)",
        ),
        (
            [f"--runs={tmp_path}/unfinished"],
            f"no finished run under --runs={tmp_path}/unfinished (1 unfinished)",
        ),
        (
            [f"--runs={tmp_path}/finished", f"--out={tmp_path}/file"],
            f"[Errno 17] File exists: '{tmp_path}/file'",
        ),
    ):
        status, out, err = run_report(capsys, *flags)
        assert (status, out) == (2, "")
        assert err == f"python -m experiments.report: {message}\n"


def test_command_touches_no_device(tmp_path):
    """Another program may be training on the only one there is."""
    write_run(tmp_path / "run", 0.9, methods=OVERHAUL, teacher="wrn_16_2")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.report", f"--runs={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "unknown"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
