"""Kills runs at random instants, and compares each with an unbroken one.

    python -m tests.hostile.kills --out=/tmp/kills

prints a line for each kill and a table at the end; run again, it goes on. The runs are
tiny, on the digits, save every step, and cover every phase: a student, OFD, MHGD with
its pretraining, CRD with its memory banks, a validation split, the streaming pipeline,
and two processes that train together, of which one or both are killed.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from kdjax.runs import workdirs
from kdjax.runs.checkpoint import FOLDER, Checkpoints
from tests.hostile import processes

ROOT = pathlib.Path(__file__).parents[2]
TEACHER = "configs/teacher.py:wrn_10_1,digits"
STUDENT = "configs/student.py:wrn_10_1,digits"
PAIR = "wrn_10_1-wrn_10_1,digits"

#: Steps of these runs, three an epoch, and that each of them is saved and logged.
OFTEN = ("--config.checkpoint.every_steps=1", "--config.log_every_steps=1")

#: What two runs may differ in.
OF_TIME = ("wall_s", "images_per_s")


class Scenario(NamedTuple):
    """A run that is killed.

    Attributes:
      config: configuration file and what it is made for.
      arguments: of the command, besides the teacher.
      taught: whether it needs the teacher.
      processes: how many train together.
    """

    config: str
    arguments: tuple[str, ...]
    taught: bool = False
    processes: int = 1


SCENARIOS = {
    "student": Scenario(STUDENT, ("--config.epochs=150",)),
    "OFD": Scenario(f"configs/overhaul.py:{PAIR}", ("--config.epochs=120",), True),
    "MHGD": Scenario(
        f"configs/mhgd.py:{PAIR}",
        ("--config.pretrain.epochs=12", "--config.epochs=100"),
        True,
    ),
    "CRD": Scenario(f"configs/distill.py:crd,{PAIR}", ("--config.epochs=120",), True),
    "validation": Scenario(
        STUDENT, ("--config.epochs=150", "--config.data.validation_fraction=0.3")
    ),
    "streaming": Scenario(
        STUDENT,
        (
            "--config.epochs=120",
            "--config.data.pipeline=streaming",
            "--config.data.workers=1",
        ),
    ),
    "two processes": Scenario(
        STUDENT,
        ("--config.epochs=120", "--config.batch_norm=synchronized"),
        processes=2,
    ),
}


class Killer:
    """The runs of one scenario in a folder, and the kills that they met."""

    def __init__(self, name: str, out: pathlib.Path):
        self.name, self.scenario = name, SCENARIOS[name]
        self.folder = out / name.replace(" ", "_")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.teacher = out / "teacher"
        self._journal = self.folder / "journal.jsonl"

    def events(self) -> list[dict]:
        """Returns the kills and comparisons so far."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def kills(self) -> int:
        """Returns how many there were."""
        return sum("killed" in event for event in self.events())

    def note(self, **event) -> None:
        """Writes an event, and prints it."""
        with self._journal.open("a") as file:
            file.write(json.dumps(event) + "\n")
        print(f"{self.name}: {event}", flush=True)

    def start(self, workdir: pathlib.Path) -> list[subprocess.Popen]:
        """Starts the processes of a run."""
        arguments = [*OFTEN, *self.scenario.arguments, f"--workdir={workdir}"]
        if self.scenario.taught:
            arguments.append(f"--config.teacher.checkpoint={self.teacher}")
        return processes.start(
            self.scenario.config,
            *arguments,
            count=self.scenario.processes,
            cache=self.folder / "cache",
            log=self.folder / "stderr",
        )

    def unbroken(self) -> pathlib.Path:
        """Returns the folder of the unbroken run, which is trained if need be."""
        workdir = self.folder / "unbroken"
        if not (workdir / "result.json").exists():
            shutil.rmtree(workdir, ignore_errors=True)
            processes.finish(self.start(workdir))
            # The broken runs compile for themselves, to be killed there, too.
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return workdir

    def kill_once(self, workdir: pathlib.Path, rng: random.Random) -> None:
        """Starts the run and kills it: at any instant, or soon after a save."""
        before = _checkpoints(workdir)
        running, start = self.start(workdir), time.monotonic()
        instant = rng.uniform(0, 20)
        if after_save := rng.random() < 0.7:
            instant = rng.uniform(0, 1.5)
            while _checkpoints(workdir) == before and _all_run(running):
                time.sleep(0.005)
        deadline = (time.monotonic() if after_save else start) + instant
        while time.monotonic() < deadline and _all_run(running):
            time.sleep(0.001)
        if not _all_run(running):
            processes.finish(running)  # The run ended before its instant.
            return
        victims = running
        if len(running) > 1 and rng.random() < 0.5:
            victims = [rng.choice(running)]
        for process in victims:
            process.kill()
        for process in running:
            # One that is left ends by itself, but at the start it waits for minutes.
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.note(
            killed=len(victims),
            after_s=round(time.monotonic() - start, 2),
            saved=len(_checkpoints(workdir) - before) > 0,
            step=_newest(workdir),
        )

    def compare(self, workdir: pathlib.Path) -> None:
        """Compares a run that ended at last with the unbroken one."""
        differ = list(differences(self.unbroken(), workdir))
        self.note(ended=workdir.name, differences=differ)

    def go_on(self, wanted: int) -> None:
        """Kills runs until there were so many kills; finishes the last one."""
        self.unbroken()
        while True:
            events = self.events()
            workdir = self.folder / f"broken_{sum('ended' in e for e in events)}"
            kills = self.kills()
            if kills >= wanted and "ended" in events[-1]:
                return
            if kills >= wanted:
                processes.finish(self.start(workdir))
            else:
                self.kill_once(workdir, random.Random(f"{self.name} {kills}"))
            if (workdir / "result.json").exists():
                self.compare(workdir)


def differences(one: pathlib.Path, two: pathlib.Path) -> Iterator[str]:
    """Yields what differs between two finished runs: nothing, if they are bitwise."""
    for file in sorted(one.rglob("metrics.jsonl")):
        name = file.relative_to(one)
        if file.read_text() != (two / name).read_text():
            yield str(name)
        states = [Checkpoints((run / name).parent) for run in (one, two)]
        if states[0].latest_step != states[1].latest_step:
            yield f"last step of {name.parent}"
            continue
        trees = [jax.tree.leaves_with_path(s.restore_as_saved()) for s in states]
        for (path, a), (other, b) in zip(*trees, strict=True):
            if path != other or not np.array_equal(a, b, equal_nan=True):
                yield f"{name.parent}: {jax.tree_util.keystr(path)}"
    results = [
        workdirs.flatten(json.loads((run / "result.json").read_text()))
        for run in (one, two)
    ]
    for key in sorted(results[0].keys() | results[1].keys()):
        timed = key.rpartition(".")[2] in OF_TIME
        if not timed and results[0].get(key) != results[1].get(key):
            yield f"result.json: {key}"


def _checkpoints(workdir: pathlib.Path) -> set[str]:
    # Not by a glob into folders that Orbax may be renaming.
    return {
        f"{folder}/{name}"
        for folder in (FOLDER, f"pretrain/{FOLDER}")
        if (workdir / folder).is_dir()
        for name in os.listdir(workdir / folder)
        if name.isdigit()
    }


def _newest(workdir: pathlib.Path) -> str | None:
    def key(name):
        return (name.startswith(FOLDER), int(name.rpartition("/")[2]))

    return max(_checkpoints(workdir), key=key, default=None)


def _all_run(running: Sequence[subprocess.Popen]) -> bool:
    return all(process.poll() is None for process in running)


def main() -> None:
    """Kills, compares and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=17, help="of each scenario")
    parser.add_argument("--together", type=int, default=20, help="of two processes")
    flags = parser.parse_args()
    teacher = flags.out / "teacher"
    flags.out.mkdir(parents=True, exist_ok=True)
    if not (teacher / "result.json").exists():
        shutil.rmtree(teacher, ignore_errors=True)
        arguments = ["--config.epochs=3", f"--workdir={teacher}"]
        processes.finish(
            processes.start(
                TEACHER, *arguments, cache=flags.out / "cache", log=flags.out / "log"
            )
        )
    for name, scenario in SCENARIOS.items():
        killer = Killer(name, flags.out)
        killer.go_on(flags.kills if scenario.processes == 1 else flags.together)
    print(f"{'scenario':16}{'kills':>7}{'runs':>6}  differences")
    for name in SCENARIOS:
        killer = Killer(name, flags.out)
        ends = [event for event in killer.events() if "ended" in event]
        differ = [text for event in ends for text in event["differences"]]
        print(f"{name:16}{killer.kills():7}{len(ends):6}  {differ or 'none'}")


if __name__ == "__main__":
    main()
