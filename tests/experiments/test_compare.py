import os
import pathlib
import subprocess
import sys

import pytest

from experiments import compare

ROOT = pathlib.Path(__file__).parent.parent.parent
OUT = pathlib.Path("out")


def plan(**settings):
    defaults = {
        "data": "digits",
        "pairs": ["wrn_16_2-wrn_10_1"],
        "methods": ["none", "overhaul"],
        "seeds": 2,
    }
    return compare.plan(OUT, **(defaults | settings))


def folders(cells):
    return [cell.workdir.relative_to(OUT / "digits").as_posix() for cell in cells]


def test_plan_lists_teachers_students_and_methods():
    cells = plan()
    assert folders(cells) == [
        "teachers/wrn_16_2/seed_0",
        "students/wrn_10_1/seed_0",
        "teachers/wrn_16_2/seed_1",
        "students/wrn_10_1/seed_1",
        "wrn_16_2-wrn_10_1/overhaul/seed_0",
        "wrn_16_2-wrn_10_1/overhaul/seed_1",
    ]
    assert [cell.teacher for cell in cells[-2:]] == [
        OUT / "digits/teachers/wrn_16_2/seed_0",
        OUT / "digits/teachers/wrn_16_2/seed_1",
    ]


def test_pairs_share_teachers_and_students():
    found = folders(
        plan(
            pairs=["wrn_16_2-wrn_10_1", "wrn_16_2-resnet8", "wrn_16_1-wrn_10_1"],
            seeds=1,
        )
    )
    assert len(found) == len(set(found)) == 2 + 2 + 3


def test_teachers_can_be_fewer_or_given():
    cells = plan(teacher_seeds=1)
    assert len(cells) == 5
    assert len({cell.teacher for cell in cells if cell.teacher}) == 1
    given = plan(teacher=pathlib.Path("my_teacher"))
    assert folders(given)[0] == "students/wrn_10_1/seed_0"
    assert given[-1].teacher == pathlib.Path("my_teacher")


def test_students_alone_need_no_teacher():
    assert folders(plan(methods=["none"], seeds=1)) == ["students/wrn_10_1/seed_0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["overhual"]}, r"there is no configs/overhual\.py"),
        ({"pairs": ["wrn_16_2"]}, "'wrn_16_2' is not of the form teacher-student"),
        (
            {
                "pairs": ["wrn_16_2-wrn_10_1", "wrn_16_1-wrn_10_1"],
                "teacher": pathlib.Path("x"),
            },
            r"teacher=x cannot be all of \['wrn_16_1', 'wrn_16_2'\]",
        ),
    ],
)
def test_plans_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plan(**settings)


@pytest.fixture
def comparison(tmp_path):
    """Returns a function that runs a tiny comparison in a process of its own."""

    def run(*arguments, overrides=()):
        return subprocess.run(
            [
                *(sys.executable, "-m", "experiments.compare", "--data=digits"),
                *("--pairs=wrn_10_1-wrn_10_1", "--seeds=1", f"--out={tmp_path}"),
                *arguments,
                *("--", "--config.epochs=1", "--config.batch_size=96", *overrides),
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_dry_run_prints_the_commands_and_runs_nothing(comparison, tmp_path):
    done = comparison("--dry_run")
    assert done.returncode == 0, done.stderr
    teacher, student, overhaul = done.stdout.splitlines()
    assert teacher == (
        "python -m kdjax.main --config=configs/teacher.py:wrn_10_1,digits "
        f"--workdir={tmp_path}/digits/teachers/wrn_10_1/seed_0 --config.seed=0 "
        "--config.epochs=1 --config.batch_size=96"
    )
    assert "configs/student.py:wrn_10_1,digits" in student
    assert "--config=configs/overhaul.py:wrn_10_1-wrn_10_1,digits" in overhaul
    assert f"--config.teacher.checkpoint={tmp_path}/digits/teachers/" in overhaul
    assert not list(tmp_path.iterdir())


def test_a_failed_cell_is_listed_and_the_others_run(comparison, tmp_path):
    """The teacher fails; the student alone needs none; then the rest is made up for."""
    broken = tmp_path / "digits/teachers/wrn_10_1/seed_0"
    broken.mkdir(parents=True)
    (broken / "in_the_way").touch()
    done = comparison()
    assert done.returncode == 1
    assert f"failed: {broken}: ended with status 2" in done.stderr
    overhaul = tmp_path / "digits/wrn_10_1-wrn_10_1/overhaul/seed_0"
    assert f"failed: {overhaul}: no finished teacher {broken}" in done.stderr
    assert "1 of 3 runs done" in done.stdout
    student = tmp_path / "digits/students/wrn_10_1/seed_0/result.json"
    before = student.stat().st_mtime_ns

    (broken / "in_the_way").unlink()
    done = comparison()
    assert done.returncode == 0, done.stderr
    assert "3 of 3 runs done" in done.stdout
    assert student.stat().st_mtime_ns == before
    assert (overhaul / "result.json").exists()


def test_a_cell_that_was_stopped_stops_the_comparison(monkeypatch, tmp_path):
    """As when one process alone is preempted: nothing failed, and all can go on."""
    started = []

    class Stopped:
        def __init__(self, command):
            started.append(command)

        def wait(self):
            return 75

    monkeypatch.setattr(compare.signal, "signal", lambda *_: None)
    monkeypatch.setattr(compare.subprocess, "Popen", Stopped)
    cells = compare.plan(
        tmp_path, data="digits", pairs=["wrn_10_1-wrn_10_1"], methods=["none"], seeds=3
    )
    runner = compare.Runner([])
    assert runner.run(cells) == []
    assert runner.stopped
    assert len(started) == 1
