"""The report's tables, files and messages."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import report, summary
from tests import commands
from tests.experiments.run_folders import (
    OVERHAUL,
    RKD,
    TAUGHT,
    blocks_of,
    records_of,
    write_pair,
    write_run,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Of whatever terminal the tests are run from."""
    monkeypatch.setenv("COLUMNS", "120")


def test_report(tmp_path, capsys):
    write_pair(tmp_path)
    write_run(tmp_path / "digits/killed", 0.1, seed=3, finished=False, **TAUGHT)
    folder = tmp_path / "new/folder"
    flags = (f"--runs={tmp_path}", f"--out={folder}")
    status, out, err = commands.run(report.main, capsys, *flags)
    assert (status, err) == (0, "")
    # The terminal.
    line = next(line for line in out.splitlines() if line.startswith("overhaul "))
    assert re.split(r"\s{2,}", line) == [
        "overhaul",
        "288",
        "3",
        "3",
        "93.00 ± 2.00",
        "+2.00 [-0.48, 4.48]",
        "94.00",
        "175,066",
        "61 s",
    ]
    assert max(map(len, out.splitlines()[:-1])) <= 120
    note = "overhaul, overhaul + rkd: gain not distinguishable from zero with 3 seeds."
    assert f"{note}\n" in out
    assert "Test accuracy of the teachers in these runs: 96.11 %.\n" in out
    assert "\nunfinished: digits/killed (step 15)\n" in out
    names = ("table.md", "table.csv", "curves.png")
    files = " ".join(str(folder / name) for name in names)
    assert out.splitlines()[-1] == f"wrote {files}"
    assert {file.name for file in folder.iterdir()} == set(names)
    # The page.
    page = (folder / "table.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| overhaul + ")]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == [
        "overhaul + rkd",
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
        f"\n- {note}",
        "The best epoch is chosen on the test split",
        "paired by seed",
        "![Test accuracy by epoch](curves.png)",
        "\n- Devices: 2 x cpu\n- Versions: jax 1.2.3\n- Git revision: abc123\n",
        f"`python -m experiments.report --runs={tmp_path} --out={folder}`",
        "- unfinished: digits/killed (step 15)\n",
    ):
        assert text in page
    # The sheet.
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    records = list(records_of(tmp_path).values())
    assert len(lines) == len(records) == 4
    for line, record in zip(lines, records, strict=True):
        assert line == {k: "" if v is None else str(v) for k, v in record.items()}


def test_long_combination_still_fits_a_terminal(tmp_path):
    methods = RKD | OVERHAUL | {"attention_transfer": {}, "similarity": {}}
    write_run(tmp_path / "run", 0.9, methods=methods, teacher="wrn_16_2")
    narrow = report.terminal(blocks_of(tmp_path), [], columns=80).splitlines()
    assert max(map(len, narrow)) <= 80
    lines = report.terminal(blocks_of(tmp_path), []).splitlines()
    assert max(map(len, lines)) <= 120
    words = " ".join(line[:24].strip() for line in lines)
    assert "attention_transfer + overhaul + rkd + similarity" in words


def test_full_data_no_teacher_and_unknown_values(tmp_path):
    write_run(tmp_path / "run", 0.9, methods=RKD)
    (block,) = blocks_of(tmp_path)
    assert block.heading == "no teacher → wrn_16_1"
    assert str(block.settings._replace(train_fraction=1.0)) == (
        "digits, 3 epochs, batch 64"
    )
    record = summary.record(block, block.rows[0]) | {"images_per_s": None}
    assert report.cells(record)["img/s"] == "—"


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.4, "61 s"), (150, "2.5 min"), (9000, "2.5 h")]
)
def test_wall_time(tmp_path, seconds, text):
    write_run(tmp_path / "run", 0.9)
    (record,) = records_of(tmp_path).values()
    assert report.cells(record | {"wall_s": seconds})["wall"] == text


def test_best_epochs_of_a_validation_split_are_marked(tmp_path):
    write_run(tmp_path / "a", 0.8, validation=0.25)
    write_run(tmp_path / "m", 0.9, validation=0.25, **TAUGHT)
    blocks = blocks_of(tmp_path)
    out = report.terminal(blocks, [])
    title = "20 % of digits less 25 % for validation, 3 epochs, batch 64"
    assert f"wrn_16_2 → wrn_16_1 ({title})\n" in out
    (row,) = [line for line in out.splitlines() if line.startswith("overhaul ")]
    # The last epoch is the test split's, the best the validation split's.
    assert re.split(r"\s{2,}", row)[4:7] == ["90.00", "+10.00", "82.00 v"]
    assert "Marked v is a best epoch's accuracy on a validation split" in out
    page = report.markdown(blocks, [], "command")
    assert "![Validation accuracy by epoch](curves.png)\n" in page
    records = records_of(tmp_path).values()
    assert {record["best_epoch_split"] for record in records} == {"validation"}


def test_errors_are_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "unfinished/run", 0.9, finished=False)
    write_run(tmp_path / "finished/run", 0.9)
    no_source = "is neither a folder nor a records file"
    for flags, message in (
        ([], "--runs=PATH is missing: a folder of runs, or a records file"),
        ([f"--runs={tmp_path}/nowhere"], f"--runs={tmp_path}/nowhere {no_source}"),
        ([f"--runs={tmp_path}/file"], f"--runs={tmp_path}/file {no_source}"),
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
        status, out, err = commands.run(report.main, capsys, *flags)
        assert (status, out) == (2, "")
        assert err == f"python -m experiments.report: {message}\n"


def test_jax_is_not_imported(tmp_path):
    """Another program may be training on the only device, and a table needs none."""
    write_run(tmp_path / "run", 0.9, **TAUGHT)
    code = (
        "import sys; from experiments import report; "
        f"assert report.main(['--runs={tmp_path}']) == 0; "
        "assert not {'jax', 'flax'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_names_and_notes_are_escaped(tmp_path, capsys):
    write_pair(tmp_path / "runs")
    for number, path in enumerate(sorted((tmp_path / "runs").rglob("config.json"))):
        (path.parent / "note.txt").write_text(f"\x1b[31mred|{number % 2}\nline")
    write_run(tmp_path / "runs/digits/a\x1b[31m\nb", 0.1, seed=3, finished=False)
    status, out, _ = commands.run(report.main, capsys, f"--runs={tmp_path / 'runs'}")
    assert status == 0
    page = (tmp_path / "runs/table.md").read_text()
    for text in (out, page):
        assert "\x1b" not in text
        assert "\\x1b[31mred|" in text
        assert "digits/a\\x1b[31m\\nb (step" in text
