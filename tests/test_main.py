"""The command line, as a person meets it: in a process of its own."""

import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from kdjax import recipes
from kdjax.runs import lock, signals, workdirs
from kdjax.runs.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def command():
    """Returns a function that starts `kdjax.main` with a single device.

    With `file_kib` no file can grow larger, as on a full disk.
    """

    def start(
        *arguments, config="configs/student.py:wrn_10_1,digits", file_kib="unlimited"
    ):
        limit = ["bash", "-c", f'ulimit -f {file_kib} && exec "$@"', "bash"]
        program = [sys.executable, "-m", "kdjax.main", f"--config={config}"]
        return subprocess.Popen(
            [*limit, *program, *arguments],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def run(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_lines(process, workdir, number):
    """Waits until a run has logged so many lines, while it goes on."""
    metrics = workdir / "metrics.jsonl"
    for _ in range(6000):
        assert process.poll() is None, process.stderr.read()
        if metrics.exists() and len(metrics.read_text().splitlines()) >= number:
            return
        time.sleep(0.02)
    pytest.fail("the run logs nothing")


def checkpoints_in(workdir):
    return set(workdir.glob("**/checkpoints/*"))


def newest_checkpoints(workdir):
    """Returns the folders of the newest checkpoint and of the one before."""
    folders = [p for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    before, newest = sorted(folders, key=lambda path: int(path.name))[-2:]
    return newest, before


def final(workdir):
    checkpoints = Checkpoints(workdir)
    state = checkpoints.restore_as_saved()
    checkpoints.close()
    return state


def assert_ended_alike(broken, unbroken):
    metrics = [(d / "metrics.jsonl").read_text() for d in (broken, unbroken)]
    assert metrics[0] == metrics[1]
    jax.tree.map(np.testing.assert_array_equal, final(broken), final(unbroken))


def test_a_run_that_meets_everything_ends_bitwise_as_an_unbroken_one(command, tmp_path):
    """SIGKILL loses the steps since the last save, SIGTERM none.

    On the way there is a second process, a full disk and a checkpoint cut short.
    """
    arguments = [
        "--config.epochs=30",
        "--config.log_every_steps=1",
        "--config.checkpoint.every_steps=2",
    ]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, out, err = run(command(f"--workdir={unbroken}", *arguments))
    assert status == 0, err
    assert "test accuracy" in out
    assert re.search(r"wrn_10_1: first step \d+\.\d s after the start", err)

    process = command(f"--workdir={broken}", *arguments)
    wait_for_lines(process, broken, 20)
    process.kill()
    process.communicate()
    killed_at = len((broken / "metrics.jsonl").read_text().splitlines())
    assert not (broken / "result.json").exists()

    process = command(f"--workdir={broken}", *arguments)
    wait_for_lines(process, broken, killed_at + 20)
    process.send_signal(signal.SIGSTOP)
    second = run(command(f"--workdir={broken}", *arguments))
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    assert second[:2] == (2, "")
    (line,) = second[2].splitlines()
    assert line.startswith(f"kdjax: workdir={broken} is in use by process")
    assert f" {process.pid} on " in line

    status, out, err = run(process)
    assert status == signals.STOPPED == 75, err
    assert out.endswith("stopped and saved; the same command goes on (status 75)\n")
    assert "Traceback" not in err
    assert not (broken / "result.json").exists()
    assert not (broken / lock.NAME).exists()

    newest, before = newest_checkpoints(broken)
    (newest / "metadata" / "metadata").write_bytes(b"")
    status, out, err = run(command(f"--workdir={broken}", *arguments, file_kib=100))
    assert (status, out) == (2, "")
    assert f"step {newest.name} is damaged" in err
    assert f"that of step {before.name} is used" in err
    assert err.splitlines()[-1] == (
        f"kdjax: {newest.parent}: saving failed: File too large; the checkpoint of "
        f"step {before.name} is whole"
    )

    status, _, err = run(command(f"--workdir={broken}", *arguments))
    assert status == 0, err
    assert_ended_alike(broken, unbroken)


@pytest.mark.slow
def test_a_run_killed_at_random_instants_ends_bitwise_as_an_unbroken_one(
    command, tmp_path
):
    """In its start, in a step, in an evaluation or while it saves."""
    arguments = ["--config.epochs=200", "--config.checkpoint.every_steps=1"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, _, err = run(command(f"--workdir={unbroken}", *arguments))
    assert status == 0, err
    instants = np.random.default_rng(0).uniform(1, 15, 10)
    for instant in instants:
        process = command(f"--workdir={broken}", *arguments)
        time.sleep(instant)
        process.kill()
        process.communicate()
    status, _, err = run(command(f"--workdir={broken}", *arguments))
    assert status == 0, err
    assert_ended_alike(broken, unbroken)


@pytest.mark.slow
def test_a_run_of_mhgd_killed_in_either_phase_ends_bitwise_as_an_unbroken_one(
    command, tmp_path
):
    """By the default route of singular vectors and its exact gradient."""
    teacher = tmp_path / "teacher"
    config = "configs/teacher.py:wrn_10_1,digits"
    status, _, err = run(
        command(f"--workdir={teacher}", "--config.epochs=3", config=config)
    )
    assert status == 0, err
    arguments = [
        f"--config.teacher.checkpoint={teacher}",
        "--config.pretrain.epochs=60",
        "--config.epochs=60",
        "--config.checkpoint.every_steps=1",
    ]
    config = "configs/mhgd.py:wrn_10_1-wrn_10_1,digits"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, _, err = run(command(f"--workdir={unbroken}", *arguments, config=config))
    assert status == 0, err
    killed_in = collections.Counter()
    rng = np.random.default_rng(0)
    # Not by the clock alone: on a slow machine it would never leave the first phase.
    while killed_in["train"] < 3:
        before = checkpoints_in(broken)
        process = command(f"--workdir={broken}", *arguments, config=config)
        while checkpoints_in(broken) == before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 6))
        process.kill()
        process.communicate()
        started = (broken / "metrics.jsonl").exists()
        killed_in["train" if started else "pretrain"] += 1
    assert killed_in["pretrain"]
    status, _, err = run(command(f"--workdir={broken}", *arguments, config=config))
    assert status == 0, err
    assert_ended_alike(broken / "pretrain", unbroken / "pretrain")
    assert_ended_alike(broken, unbroken)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config.optimizer.learning_rat=1"],
            '--config.optimizer.learning_rat=1: no such field. Did you mean "learning',
        ),
        (["--config.epochs=many"], "--config.epochs=many: invalid literal for int()"),
        (["--config.batch_size=0"], "batch_size=0 is less than 1"),
        (["--no_such_flag"], "Unknown command line flag 'no_such_flag'"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command, tmp_path, arguments, message
):
    workdir = tmp_path / "run"
    status, out, err = run(command(f"--workdir={workdir}", *arguments))
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("kdjax: ")
    assert message in line
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/studnet.py", "--config=configs/studnet.py: there is no such file"),
        ("configs/overhaul.py:wrn_16_2", "'wrn_16_2' names no pair"),
    ],
)
def test_a_wrong_config_file_is_one_line(command, tmp_path, config, message):
    status, _, err = run(command(f"--workdir={tmp_path / 'run'}", config=config))
    assert status == 2
    (line,) = err.splitlines()
    assert message in line


def test_another_configuration_overwrites_nothing(command, tmp_path):
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    before = (tmp_path / "config.json").read_text()
    status, _, err = run(command(f"--workdir={tmp_path}", "--config.seed=1"))
    assert status == 2
    assert err.rstrip().endswith("another configuration: seed was 0 and is 1")
    assert (tmp_path / "config.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"best_test_accuracy": 0.6}, "best 60.00%"),
        (
            {"best_test_accuracy": None, "best_validation_accuracy": 0.7},
            "best validation accuracy 70.00%",
        ),
    ],
)
def test_a_finished_run_says_what_it_knows(command, tmp_path, found, said):
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    steps = {"final_step": 9, "best_step": 3}
    workdirs.write_result(tmp_path, {"final_test_accuracy": 0.5, **steps, **found})
    status, out, _ = run(command(f"--workdir={tmp_path}"))
    assert status == 0
    assert out == (
        f"{tmp_path}: test accuracy 50.00% at the last step 9, {said} at step 3\n"
    )


def test_a_loss_that_is_not_finite_ends_with_one_line(command, tmp_path):
    status, _, err = run(
        command(f"--workdir={tmp_path}", "--config.optimizer.learning_rate=1e30")
    )
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("kdjax: ")]
    assert "not finite at step" in line
    assert "Traceback" not in err
    assert not (tmp_path / "result.json").exists()
