"""Statistics of a report's rows, and its notes."""

import json
import math

import pytest
import scipy.stats

from experiments import report, summary
from kdjax import method_recipes
from tests.experiments.run_folders import (
    OVERHAUL,
    RKD,
    TAUGHT,
    blocks_of,
    records_of,
    write_pair,
    write_run,
)


def test_mean_and_sample_sd():
    mean, sd = summary.mean_sd([90.0, 91.0, 92.0, 95.0])
    assert mean == pytest.approx(92.0)
    assert sd == pytest.approx(math.sqrt(14 / 3))  # (4 + 1 + 0 + 9) / (4 - 1)
    assert math.isnan(summary.mean_sd([90.0])[1])


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
    baseline = {3: 92.0, 2: 90.4, 1: 91.5, 0: 90.0}
    gain = summary.paired_gain(method, baseline)
    test = scipy.stats.ttest_rel([method[s] for s in baseline], list(baseline.values()))
    assert (gain.low, gain.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_gain_uses_the_shared_seeds_only():
    gain = summary.paired_gain({0: 91.0, 1: 95.0, 7: 10.0}, {0: 90.0, 1: 92.0, 2: 1.0})
    assert (gain.mean, gain.seeds) == (2.0, 2)
    assert summary.paired_gain({0: 91.0}, {1: 90.0}) is None


def test_equal_differences_give_an_interval_of_no_width():
    gain = summary.paired_gain({0: 91, 1: 93, 2: 90}, {0: 90, 1: 92, 2: 89})
    assert (gain.low, gain.mean, gain.high) == (1.0, 1.0, 1.0)


def test_record(tmp_path):
    write_pair(tmp_path)
    record = records_of(tmp_path)["overhaul + rkd"]
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
        "auxiliary_parameters": 2 * 3072,
        "train_images": 288,
        "images_per_s": 1001.0,  # the median of 1000, 1001 and 1004
        "wall_s": 61.0,
    }
    assert {name: record[name] for name in expected} == pytest.approx(expected)
    assert record["devices"] == "2 x cpu"
    assert record["last_epoch_accuracies"] == "89.00 91.00 94.00"


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_points_without_an_interval(tmp_path, seeds):
    for seed in range(seeds):
        write_run(tmp_path / f"a{seed}", 0.90, seed=seed)
        write_run(tmp_path / f"b{seed}", 0.92 + seed / 100, seed=seed, **TAUGHT)
    (block,) = blocks_of(tmp_path)
    record = summary.record(block, block.rows[-1])
    assert (record["gain_low"], record["gain_high"]) == (None, None)
    assert (record["last_epoch_sd"] is None) == (seeds == 1)
    row = report.cells(record)
    points, gain = (("92.00", "+2.00"), ("92.00, 93.00", "+2.50"))[seeds - 1]
    assert (row["last epoch"], row["gain [95 %]"]) == (points, gain)
    assert summary.notes(block)[1:] == []


@pytest.mark.parametrize("sign", [-1, 1])
def test_clear_difference_has_no_caveat(tmp_path, sign):
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", 0.90, seed=seed)
        gain = sign * (0.02 + seed / 1000)
        write_run(tmp_path / f"b{seed}", 0.90 + gain, seed=seed, **TAUGHT)
    (block,) = blocks_of(tmp_path)
    assert summary.notes(block) == [
        "Test accuracy of the teachers in these runs: 96.11 %."
    ]


def test_seeds_that_are_not_shared_are_noted(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", 0.90, seed=seed)
    for seed in range(1, 4):
        write_run(tmp_path / f"b{seed}", 0.92, seed=seed, **TAUGHT)
    write_run(tmp_path / "c", 0.95, seed=9, methods=RKD, teacher="wrn_16_2")
    (block,) = blocks_of(tmp_path)
    assert summary.notes(block)[1:] == [
        "overhaul: gain over the 1 of its 3 seeds that the baseline has, too.",
        "rkd: shares no seed with the baseline, so no gain.",
    ]
    row = report.cells(summary.record(block, block.rows[-1]))
    assert row["gain [95 %]"] == "—"


def test_gains_are_over_the_best_of_several_baselines(tmp_path):
    write_run(tmp_path / "low", 0.80, lr=0.1)
    write_run(tmp_path / "high", 0.90, lr=0.2)
    write_run(tmp_path / "m", 0.91, methods=OVERHAUL, teacher="t", lr=0.1)
    (block,) = blocks_of(tmp_path)
    assert summary.record(block, block.rows[-1])["gain"] == pytest.approx(1)
    text = "\n".join(summary.notes(block))
    assert "over the better baseline, student from scratch (baseline) (lr=0.2)." in text
    assert "overhaul: differs from the baseline also in lr=0.1 (baseline: 0.2)." in text


def test_phases_before_the_training_are_reported(tmp_path):
    write_run(tmp_path / "a", 0.8)
    first = TAUGHT | {"distill_first": {"epochs": 4}}
    write_run(tmp_path / "m", 0.9, before=("distill_first",), **first)
    none = {"methods": RKD, "teacher": "wrn_16_2", "distill_first": {"epochs": 0}}
    write_run(tmp_path / "n", 0.9, before=("pretrain",), **none)
    (block,) = blocks_of(tmp_path)
    cells = [report.cells(summary.record(block, row)) for row in block.rows]
    assert [row["epochs"] for row in cells] == ["3", "4 + 3", "3"]
    assert (
        "Networks of rkd were first trained on the teacher; epochs do not count that."
        in summary.notes(block)
    )
    assert "those of distillation alone, then" in report.terminal([block], [])


def test_notes_of_runs_are_shown_once(tmp_path):
    for seed in range(2):
        folder = write_run(tmp_path / f"{seed}", 0.9, seed=seed, **TAUGHT)
        (folder / "note.txt").write_text("before a fix\n")
    (block,) = blocks_of(tmp_path)
    assert summary.notes(block).count("overhaul: before a fix") == 1


def test_published_figures_stand_beside_runs_with_their_settings_only(tmp_path):
    argument = "wrn_40_2-wrn_16_2,cifar100"
    config = json.loads(
        json.dumps(method_recipes.of_methods("crd", argument).to_dict())
    )
    for name, change in (
        ("same", {"seed": 1}),
        ("other_rate", {"optimizer": config["optimizer"] | {"learning_rate": 0.1}}),
        (
            "other_weight",
            {"methods": {"crd": config["methods"]["crd"] | {"weight": 2}}},
        ),
        ("shorter", {"epochs": 24}),
    ):
        folder = write_run(tmp_path / name, 0.75)
        (folder / "config.json").write_text(json.dumps(config | change))
    figures = {}
    for block in blocks_of(tmp_path):
        for row in block.rows:
            figures[row.first.name] = summary.record(block, row)["published_accuracy"]
            noted = "published 75.48 (last epoch)" in "\n".join(summary.notes(block))
            assert noted == (block.settings.epochs == 240)
    assert figures == {
        "same": 75.48,
        "other_rate": None,
        "other_weight": None,
        "shorter": None,
    }
