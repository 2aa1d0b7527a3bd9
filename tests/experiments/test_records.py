"""Runs read from folders and from records files."""

import json
import math
from pathlib import Path

import pytest

from experiments import pack, records, runs
from kdjax import distill
from kdjax.config.fields import FIELDS
from tests import commands
from tests.experiments.run_folders import (
    OVERHAUL,
    TAUGHT,
    blocks_of,
    records_of,
    write_metrics,
    write_pair,
    write_run,
)

RESULTS = Path(__file__).parents[2] / "experiments/results"

# Folders.


@pytest.mark.parametrize("length", [0, 100])
def test_truncated_result_is_a_warning_and_the_run_unfinished(tmp_path, length):
    file = write_run(tmp_path / "run", 0.9) / "result.json"
    file.write_text(file.read_text()[:length])
    (run,), (warning,) = runs.read_runs(tmp_path)
    assert run.result is None
    assert warning.startswith(
        f"{tmp_path / 'run'}: result.json is corrupt, run treated as unfinished"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"final_test_accuracy": None},
        {"final_test_accuracy": 93.1},  # percent, not a fraction
        {"best_test_accuracy": math.nan},
        {"best_test_accuracy": -0.1},
        {"best_test_accuracy": None},  # without a best validation accuracy
        {"parameters": 175_066},
        {"versions": None},
    ],
)
def test_wrong_result_is_a_warning_and_the_run_unfinished(tmp_path, change):
    file = write_run(tmp_path / "run", 0.9) / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (run,), (warning,) = runs.read_runs(tmp_path)
    assert run.result is None
    assert "run treated as unfinished" in warning


@pytest.mark.parametrize("text", ["", "{}", '{"architectures": ["Bert"]}', "[1]"])
def test_config_of_no_run_is_a_warning_and_left_out(tmp_path, text):
    write_run(tmp_path / "run", 0.9)
    (tmp_path / "run/other").mkdir()
    (tmp_path / "run/other/config.json").write_text(text)
    (run,), (warning,) = runs.read_runs(tmp_path)
    assert run.name == "run"
    assert warning.startswith(f"{tmp_path / 'run/other'}")
    assert "is not the config of a run" in warning


def test_only_a_line_that_is_being_written_is_left_out_silently(tmp_path):
    for finished in (False, True):
        folder = write_run(tmp_path / f"{finished}", 0.9, finished=finished)
        with (folder / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 20, "epoch": 4.0, "split": "test", "accu')
    found, warnings = runs.read_runs(tmp_path)
    assert [run.curve for run in found] == [pytest.approx({1: 30, 2: 60, 3: 90})] * 2
    assert [run.step for run in found] == [15, 15]
    file = tmp_path / "True/metrics.jsonl"
    assert warnings == [f"{file}: malformed lines are left out: 7"]


def test_lines_of_a_resumed_run_replace_the_earlier_ones(tmp_path):
    folder = write_run(tmp_path / "run", 0.9)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "ep{"step": 9}\n')
        file.write('{"step": 10, "epoch": 2.0, "split": "test", "accuracy": 0.5}\n')
        file.write('{"step": 0, "epoch": 0.0, "split": "test", "accuracy": 0.1}\n')
        file.write('{"step": 15, "epoch": 4.0, "split": "test", "accuracy": 7}\n')
    (run,), warnings = runs.read_runs(tmp_path)
    assert run.curve == pytest.approx({0: 10, 1: 30, 2: 50, 3: 90})
    assert list(run.curve) == [0, 1, 2, 3]
    assert warnings == [
        f"{folder}/metrics.jsonl: malformed lines are left out: 7",
        f"{folder}: no accuracy between 0 and 1 in epochs 4.0",
    ]


def test_checkpoints_of_a_run_are_not_searched(tmp_path):
    write_run(tmp_path / "run", 0.9)
    write_run(tmp_path / "run/checkpoints/15", 0.1)
    write_run(tmp_path / "run/teacher", 0.95)
    found, _ = runs.read_runs(tmp_path)
    assert [run.name for run in found] == ["run", "run/teacher"]


def test_run_without_metrics(tmp_path):
    folder = write_run(tmp_path / "run", 0.9)
    (folder / "metrics.jsonl").unlink()
    (run,), warnings = runs.read_runs(folder)
    assert (run.name, run.curve, run.step, warnings) == (".", {}, 0, [])
    assert run.result.last_accuracy == pytest.approx(90)


# Records files.


def packed(root, out, capsys):
    status, _, err = commands.run(pack.main, capsys, f"--runs={root}", f"--out={out}")
    assert (status, err) == (0, "")
    return out / records.FILE


def test_a_records_file_gives_the_rows_that_the_folders_give(tmp_path, capsys):
    root = tmp_path / "runs"
    write_pair(root)
    first = TAUGHT | {"distill_first": {"epochs": 4}}
    folder = write_run(root / "first", 0.9, before=("distill_first",), **first)
    (folder / "note.txt").write_text("weight chosen on seed 7")
    write_run(root / "unfinished", 0.9, seed=3, finished=False, **TAUGHT)
    file = packed(root, tmp_path / "kept", capsys)
    folders, _ = runs.read_runs(root)
    assert records_of(file) == records_of(file.parent) == records_of(root)
    for run, stored in zip(folders, runs.read_runs(file)[0], strict=True):
        for field in ("name", "settings", "curve", "step", "result", "note"):
            assert getattr(run, field) == getattr(stored, field)
    (stored,) = [record for record in records.read(file)[0] if record.name == "first"]
    assert list(stored.metrics) == ["train", "distill_first"]
    assert stored.metrics["distill_first"]["train"]["step"] == [1]


def test_records_hold_every_field_and_no_paths(tmp_path, capsys):
    root = tmp_path / "runs"
    teacher = write_run(root / "teachers/seed_0", 0.95, model="wrn_16_2")
    config = json.loads((teacher / "config.json").read_text())
    config["data"]["data_dir"] = "/home/me/data"
    (teacher / "config.json").write_text(json.dumps(config))
    write_run(root / "student", 0.9, taught_by=teacher, **TAUGHT)
    student, taught = records.read(packed(root, tmp_path / "kept", capsys))[0]
    assert student.config["teacher"]["checkpoint"] == "teachers/seed_0"
    assert student.config["methods"]["overhaul"]["margin"] == "closed_form"
    assert taught.config["data"]["data_dir"] == ""
    assert taught.config["optimizer"]["momentum"] == 0.9
    assert "config" not in taught.result


def test_packing_again_gives_equal_bytes(tmp_path, capsys):
    write_pair(tmp_path / "runs")
    once = packed(tmp_path / "runs", tmp_path / "once", capsys)
    again = packed(once, tmp_path / "again", capsys)
    assert once.read_bytes() == again.read_bytes()


def test_records_files_below_a_folder_are_named_by_it(tmp_path, capsys):
    write_run(tmp_path / "runs/a", 0.9)
    packed(tmp_path / "runs", tmp_path / "kept/digits", capsys)
    write_run(tmp_path / "kept/b", 0.8, methods=OVERHAUL, teacher="t")
    found, _ = runs.read_runs(tmp_path / "kept")
    assert [run.name for run in found] == ["b", "digits/a"]
    assert len(blocks_of(tmp_path / "kept")) == 1


def test_malformed_record_is_a_warning_and_left_out(tmp_path, capsys):
    write_run(tmp_path / "runs/a", 0.9)
    file = packed(tmp_path / "runs", tmp_path, capsys)
    line = file.read_text()
    corrupt = json.dumps(json.loads(line) | {"name": "b", "result": {}}) + "\n"
    file.write_text(line + line[:100] + "\n{}\n" + corrupt)
    found, warnings = runs.read_runs(file)
    assert [(run.name, run.result is None) for run in found] == [
        ("a", False),
        ("b", True),
    ]
    assert [warning.split(" ")[0] for warning in warnings] == [
        f"{file}:2",
        f"{file}:3",
        f"{file}:4",
    ]


def test_pack_needs_a_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    flags = (f"--runs={tmp_path}/empty", f"--out={tmp_path}")
    status, out, err = commands.run(pack.main, capsys, *flags)
    assert (status, out) == (2, "")
    assert err == f"python -m experiments.pack: no run under --runs={tmp_path}/empty\n"


def test_metrics_of_other_columns_are_kept(tmp_path, capsys):
    folder = write_run(tmp_path / "runs/a", 0.9)
    lines = [
        {"step": 1, "epoch": 1.0, "split": "test", "accuracy": 0.5},
        {"step": 2, "epoch": 2.0, "split": "test", "accuracy": 0.6, "agreement": 0.7},
    ]
    write_metrics(folder, lines)
    ((record,), _) = records.read(packed(tmp_path / "runs", tmp_path / "kept", capsys))
    assert record.metrics["train"]["test"] == {
        "step": [1, 2],
        "epoch": [1.0, 2.0],
        "accuracy": [0.5, 0.6],
        "agreement": [None, 0.7],
    }


def test_kept_records_have_the_names_of_today():
    """Fields that a record lacks have their defaults; `pack` fills them in."""
    files = sorted(RESULTS.glob("*/records.jsonl"))
    assert files
    for file in files:
        for record in records.read(file)[0]:
            names = runs.flatten(record.config)
            assert {name for name in names if not name.startswith("methods")} <= set(
                FIELDS
            )
            for method, given in record.config["methods"].items():
                assert set(given) <= set(distill.hyperparameters(method))
