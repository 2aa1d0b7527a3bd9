"""A run killed again and again, at instants chosen by what it has just written."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from kdjax.runs.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[2]
#: Instants at which a run is killed.
WANTED = [
    *["compilation"] * 3,
    *["pretrain", "save"] * 3,
    *["train", "save", "evaluation"] * 4,
]
RUN = (
    "--config.pretrain.epochs=40",
    "--config.epochs=100",
    "--config.checkpoint.every_steps=1",
    "--config.log_every_steps=1",
)


def start(workdir, cache, *arguments, config):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "kdjax.main"),
            *(f"--config={config}", f"--workdir={workdir}", *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return err


class Disk:
    """What a run has written so far."""

    def __init__(self, workdir, cache):
        self.workdir, self.cache = workdir, cache

    def compiled(self):
        return {path.name for path in self.cache.glob("*-cache")}

    def checkpoints(self, phase):
        return {path.name for path in (self.workdir / phase).glob("checkpoints/*")}

    def saving(self):
        """Lists what is half written in either phase."""
        return {
            name
            for phase in ("pretrain", ".")
            for name in self.checkpoints(phase)
            if "tmp" in name
        }

    def evaluating(self):
        """Tells whether the last record is that of an epoch's last training step."""
        try:
            with (self.workdir / "metrics.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                last = json.loads(file.read().splitlines()[-1])
        except (OSError, IndexError, ValueError):
            return False
        return last["split"] == "train" and last["epoch"] % 1 == 0


def wait_until(process, condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_in(kind, process, disk, rng):
    """Kills a run at a wanted instant; returns the phase and what it was at."""
    compiled = disk.compiled()
    pretrained, trained = disk.checkpoints("pretrain"), disk.checkpoints(".")
    if kind == "compilation":
        wait_until(process, lambda: disk.compiled() - compiled)
        time.sleep(rng.uniform(0, 2))
    elif kind == "pretrain":
        wait_until(process, lambda: disk.checkpoints("pretrain") - pretrained)
        time.sleep(rng.uniform(0, 0.3))
    elif kind == "save":
        # Of this process, not what the one before left behind.
        left = disk.saving()
        wait_until(process, lambda: disk.saving() - left)
    elif kind == "train":
        wait_until(process, lambda: disk.checkpoints(".") - trained)
        time.sleep(rng.uniform(0, 0.3))
    elif kind == "evaluation":
        wait_until(process, lambda: disk.checkpoints(".") - trained)
        wait_until(process, disk.evaluating)
    process.kill()
    process.communicate()
    if disk.checkpoints("pretrain") == pretrained and disk.checkpoints(".") == trained:
        return ["compilation" if disk.compiled() - compiled else "start"]
    phase = "train" if disk.checkpoints(".") else "pretrain"
    if phase == "train" and disk.evaluating():
        return [phase, "evaluation"]
    return [phase, "save"] if disk.saving() else [phase]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_bitwise_as_an_unbroken_one(tmp_path):
    """WRN-10-1 taught by MHGD, in each of its phases and whatever it does there."""
    teacher, cache = tmp_path / "teacher", tmp_path / "cache"
    config = "configs/teacher.py:wrn_10_1,digits"
    finish(start(teacher, tmp_path / "c", "--config.epochs=3", config=config))
    arguments = [*RUN, f"--config.teacher.checkpoint={teacher}"]
    config = "configs/mhgd.py:wrn_10_1-wrn_10_1,digits"

    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    disk, rng = Disk(broken, cache), np.random.default_rng(0)
    found = collections.Counter()
    for number, kind in enumerate(WANTED, start=1):
        process = start(broken, cache, *arguments, config=config)
        found.update(kill_in(kind, process, disk, rng))
        if number == 4:
            # As if each of them had been killed while it was written.
            for entry in cache.glob("*-cache"):
                os.truncate(entry, entry.stat().st_size // 2)
    assert not (broken / "result.json").exists()
    for kind in ("compilation", "pretrain", "train", "save", "evaluation"):
        assert found[kind], found
    err = finish(start(broken, cache, *arguments, config=config))
    assert "damaged" not in err
    finish(start(unbroken, tmp_path / "c", *arguments, config=config))
    for phase in ("pretrain", "."):
        lines = [
            (run / phase / "metrics.jsonl").read_text() for run in (broken, unbroken)
        ]
        assert lines[0] == lines[1]
        states = [Checkpoints(run / phase) for run in (broken, unbroken)]
        assert states[0].latest_step == states[1].latest_step
        jax.tree.map(
            np.testing.assert_array_equal, *(s.restore_as_saved() for s in states)
        )
