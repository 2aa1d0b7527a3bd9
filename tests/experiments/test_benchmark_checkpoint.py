import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import benchmark_checkpoint
from kdjax import recipes

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def benchmark(tmp_path):
    """Returns a function that runs the command; it leaves nothing behind."""

    def run(*arguments):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "experiments.benchmark_checkpoint"),
                *(f"--folder={tmp_path}", "--rounds=1", "--steps=2", *arguments),
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert list(tmp_path.iterdir()) == []
        return done

    return run


def test_figures_of_one_round_agree(tmp_path):
    config = recipes.alone("wrn_10_1,digits")
    config.checkpoint.every_steps = 5
    report = benchmark_checkpoint.measure(config, tmp_path, rounds=1, steps=2)
    assert report["parameter_bytes"] == 4 * 77_850
    # Momentum, batch norms' statistics and sums of metrics.
    assert report["state_bytes"] > 2 * report["parameter_bytes"]
    # Arrays are compressed on disk, which floats of training hardly are.
    assert report["checkpoint_bytes"] > 1.8 * report["parameter_bytes"]
    assert 0 < report["save_ms"] <= report["whole_ms"]
    assert report["left_ms"] >= 0
    assert report["stall_ms"] == pytest.approx(
        report["steps_with_save_ms"] - report["steps_ms"], abs=0.01
    )
    assert report["stall_range_ms"] == [report["stall_ms"]] * 2
    assert report["save_every_steps"] == 5
    assert report["stall_share"] == pytest.approx(
        report["stall_ms"] / (5 * report["steps_ms"] / 2), abs=1e-4
    )
    json.dumps(report)


@pytest.mark.parametrize(
    ("every_steps", "expected"), [(0, 6), (4, 4), (100, 6)], ids=str
)
def test_saves_come_as_the_run_makes_them(every_steps, expected):
    config = recipes.alone("wrn_10_1,digits")
    config.checkpoint.every_steps = every_steps
    assert config.evaluate_every_epochs == 2
    assert benchmark_checkpoint.save_every_steps(config, 3) == expected


def test_finds_the_line_of_the_first_step():
    lines = iter(["a warning\n", "wrn: first step 12.5 s after the start\n", "more\n"])
    assert benchmark_checkpoint.first_step_s(lines) == 12.5
    assert list(lines) == ["more\n"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [([], "it said nothing"), (["a\n", "kdjax: no data\n"], "step: kdjax: no data$")],
)
def test_a_run_without_a_step_is_refused_with_its_last_line(lines, message):
    with pytest.raises(ValueError, match=message):
        benchmark_checkpoint.first_step_s(lines)


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("first step 1.5 s after the start", 0, None),
        ("first step 1.5 s after the start", 3, "a run ended with status 3"),
        ("kdjax: no", 2, "a run made no step: kdjax: no"),
    ],
)
def test_the_end_of_a_run_is_looked_at(tmp_path, said, status, message):
    # Ignores the signal, so that the status is its own.
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"print({said!r}, file=sys.stderr, flush=True); sys.exit({status})"
    )
    command = [sys.executable, "-c", program]
    if message is None:
        assert benchmark_checkpoint.start_s(command, tmp_path) == 1.5
    else:
        with pytest.raises(ValueError, match=message):
            benchmark_checkpoint.start_s(command, tmp_path)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.epoks=3", "no such field"),
        ("--config=configs/nothing.py", "configs/nothing.py"),
        ("--steps=1", "flag --steps=1"),
        ("--folder=/nowhere", "/nowhere"),
    ],
)
def test_a_mistake_is_one_line(benchmark, argument, message):
    done = benchmark("--nostart", argument)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmark_checkpoint: ")
    assert message in line
    assert done.stdout == ""


@pytest.mark.slow
def test_starts_runs_cold_and_warm(benchmark):
    done = benchmark(
        "--config=configs/student.py:wrn_10_1,digits",
        "--config.optimizer.lr_milestones=(0.5, 0.8)",
        "--config.data.flip=true",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["overrides"] == {
        "optimizer.lr_milestones": [0.5, 0.8],
        "data.flip": True,
    }
    assert report["cold_start_s"] > 0
    assert report["warm_start_s"] > 0


@pytest.mark.slow
def test_a_run_that_is_refused_is_the_line(benchmark):
    done = benchmark("--config.batch_size=0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "a run made no step: kdjax: batch_size" in line
