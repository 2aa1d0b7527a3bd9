"""Two processes with two devices each, and one with four."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from kdjax.runs import multihost

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, *arguments, devices, stderr=subprocess.DEVNULL):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "kdjax.main"),
            "--config=configs/student.py:wrn_10_1,digits",
            "--config.batch_norm=synchronized",
            "--config.log_every_steps=1",
            "--config.checkpoint.every_steps=2",
            f"--workdir={workdir}",
            *arguments,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
        },
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )


def start_pair(workdir, *arguments, stderr=subprocess.DEVNULL):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ("--multihost", "--processes=2", f"--coordinator=localhost:{port}")
    return [
        start(
            workdir, *together, f"--process={i}", *arguments, devices=2, stderr=stderr
        )
        for i in range(2)
    ]


def records(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for_lines(pair, workdir, number):
    while len(records(workdir)) < number:
        assert [process.poll() for process in pair] == [None, None]
        time.sleep(0.05)


def statuses(processes, timeout=300):
    return [process.wait(timeout) for process in processes]


def assert_begin_alike(one, two):
    assert len(records(one)) == len(records(two))
    # Later the rounding of another order of sums has grown.
    for a, b in list(zip(records(one), records(two), strict=True))[:6]:
        assert a.pop("split") == b.pop("split")
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.slow
def test_two_processes_read_their_own_parts_of_what_one_has_on_its_devices(tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    assert statuses([start(one, "--config.epochs=2", devices=4)]) == [0]
    host = ("--config.data.pipeline=streaming", "--config.data.workers=1")
    assert statuses(start_pair(two, "--config.epochs=2", *host)) == [0, 0]
    assert_begin_alike(one, two)


@pytest.mark.slow
def test_two_processes_train_as_one_and_survive(tmp_path):
    """SIGTERM to one stops both at the same step; the death of one ends the other."""
    epochs = "--config.epochs=20"
    one, two, broken = (tmp_path / name for name in ("one", "two", "broken"))
    assert statuses([start(one, epochs, devices=4)]) == [0]
    assert statuses(start_pair(two, epochs)) == [0, 0]
    assert_begin_alike(one, two)

    pair = start_pair(broken, epochs)
    wait_for_lines(pair, broken, 10)
    pair[1].send_signal(signal.SIGTERM)
    assert statuses(pair) == [75, 75]
    stopped_at = len(records(broken))
    with (tmp_path / "errors").open("w") as errors:
        pair = start_pair(broken, epochs, stderr=errors)
    wait_for_lines(pair, broken, stopped_at + 10)
    pair[1].kill()
    pair[1].wait()
    assert pair[0].wait(60) != 0
    # By JAX, to which it is silent, or by a step or a save that cannot ask it.
    said = (tmp_path / "errors").read_text()
    assert "another task died" in said or "another process is gone" in said
    assert not (broken / "result.json").exists()
    assert statuses(start_pair(broken, epochs)) == [0, 0]
    assert records(broken) == records(two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost", 2, 1), "--coordinator='localhost' is not of the form HOST:PORT"),
        (("localhost:99999", 2, 1), "is not of the form HOST:PORT"),
        (("localhost:1", None, 1), "--coordinator needs --processes and --process"),
        (("localhost:1", 2, 2), "--process=2 is no index among --processes=2, from 0"),
    ],
)
def test_a_group_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        multihost.join(*arguments)


def test_a_process_0_that_is_not_there_is_one_line():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        address = f"localhost:{taken.getsockname()[1]}"
        # Bound, and nobody listens.
        with pytest.raises(ValueError, match="no process 0 there: Connection refused"):
            multihost._wait_for(address, seconds=0.01)
        taken.listen()
        multihost._wait_for(address, seconds=0.01)
