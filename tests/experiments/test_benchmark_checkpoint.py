import json
import os
import pathlib
import signal
import subprocess
import sys
import time

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
    assert report["stall_range_ms"] == [report["stall_ms"]] * 2
    assert report["save_every_steps"] == 5
    json.dumps(report)


@pytest.mark.parametrize(
    ("every_steps", "expected"), [(0, 6), (4, 4), (100, 6)], ids=str
)
def test_saves_come_as_the_run_makes_them(every_steps, expected):
    config = recipes.alone("wrn_10_1,digits")
    config.checkpoint.every_steps = every_steps
    assert config.evaluate_every_epochs == 2
    assert benchmark_checkpoint.save_every_steps(config, 3) == expected


def test_it_waits_for_the_line_of_the_first_step():
    lines = iter(["a warning\n", "wrn: first step after 12.5 s\n", "more\n"])
    benchmark_checkpoint.wait_for_first_step(lines)
    assert list(lines) == ["more\n"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "it printed nothing"),
        (["a\n", "kdjax: no data\n"], "step: kdjax: no data$"),
    ],
)
def test_a_run_without_a_step_is_rejected_with_its_last_line(lines, message):
    with pytest.raises(ValueError, match=message):
        benchmark_checkpoint.wait_for_first_step(lines)


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("first step after 1.5 s", 0, None),
        ("first step after 1.5 s", 3, "a run ended with status 3"),
        ("kdjax: no", 2, "a run made no step: kdjax: no"),
    ],
)
def test_a_start_is_timed_and_a_failed_run_rejected(tmp_path, line, status, message):
    # Ignores the signal, so that the status is its own.
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "time.sleep(0.2); "
        f"print({line!r}, file=sys.stderr, flush=True); sys.exit({status})"
    )
    command = [sys.executable, "-c", program]
    if message is None:
        start = time.perf_counter()
        seconds = benchmark_checkpoint.start_s(command, tmp_path)
        assert 0.2 < seconds < time.perf_counter() - start
    else:
        with pytest.raises(ValueError, match=message):
            benchmark_checkpoint.start_s(command, tmp_path)


@pytest.mark.filterwarnings("ignore:the load_module")
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.epoks=3", "--config.epoks=3: no such field"),
        ("--config=configs/nothing.py", "configs/nothing.py"),
        ("--steps=1", "flag --steps=1"),
        ("--folder=/nowhere", "/nowhere"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, argument, message):
    argv = ["benchmark_checkpoint", "--nostart", f"--folder={tmp_path}", argument]
    # ml_collections reads overrides from here.
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    benchmark_checkpoint._FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as end:
        benchmark_checkpoint.main(benchmark_checkpoint._parse_flags(argv))
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("benchmark_checkpoint: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


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
