"""Memory and open files of a run of 2,000 steps and 50 saves.

    python -m tests.hostile.endurance --out=/tmp/endurance

prints them at each quarter of the run, once the first tenth is over: with the images in
memory, and streamed.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from tests.hostile import processes

STUDENT = "configs/student.py:wrn_10_1,digits"

#: Three steps an epoch; each save writes a checkpoint, and two are kept.
RUN = (
    "--config.epochs=667",
    "--config.evaluate_every_epochs=67",
    "--config.checkpoint.every_steps=40",
    "--config.log_every_steps=10",
)
PIPELINES = {
    "in memory": (),
    "streaming": ("--config.data.pipeline=streaming", "--config.data.workers=2"),
}


class Sample(NamedTuple):
    """What a run and its workers hold at a moment."""

    step: int
    processes: int
    megabytes: float
    files: int
    threads: int


def family(process: int) -> list[int]:
    """Returns a process and its descendants."""
    found, parents = [process], {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    for one in found:
        found.extend(parents.get(one, ()))
    return found


def sample(process: int, workdir: pathlib.Path) -> Sample | None:
    """Looks at a running process; None if it has not logged a step, or ended."""
    try:
        step = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
        members = family(process)
        memory = threads = files = 0
        for member in members:
            folder = pathlib.Path(f"/proc/{member}")
            status = dict(
                line.split(":\t", 1)
                for line in (folder / "status").read_text().splitlines()
                if ":\t" in line
            )
            # Without the pages of files, which the kernel takes away as it likes.
            for name in ("RssAnon", "RssShmem", "VmSwap"):
                memory += int(status[name].split()[0])
            threads += int(status["Threads"])
            files += len(list((folder / "fd").iterdir()))
    except (OSError, IndexError, ValueError, KeyError):
        return None
    return Sample(step["step"], len(members), memory / 1024, files, threads)


def watch(workdir: pathlib.Path, running: subprocess.Popen) -> list[Sample]:
    """Samples a run twice a second until it ends."""
    samples = []
    while running.poll() is None:
        if (found := sample(running.pid, workdir)) is not None:
            samples.append(found)
        time.sleep(0.5)
    return samples


def main() -> int:
    """Prints the tables; returns 1 if a run failed or grew by a twentieth."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out, status = parser.parse_args().out, 0
    for name, arguments in PIPELINES.items():
        workdir = out / name.replace(" ", "_")
        shutil.rmtree(workdir, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        (running,) = processes.start(
            STUDENT,
            *RUN,
            *arguments,
            f"--workdir={workdir}",
            cache=out / "cache",
            log=out / "stderr",
        )
        samples = watch(workdir, running)
        processes.finish([running])
        last = samples[-1].step
        later = [found for found in samples if found.step >= last / 10]
        print(f"{name}: {last} steps\n{'step':>6} processes  memory   files threads")
        for quarter in range(5):
            found = later[quarter * (len(later) - 1) // 4]
            print(
                f"{found.step:6} {found.processes:9} {found.megabytes:7.1f} MB "
                f"{found.files:5} {found.threads:7}"
            )
        middle = len(later) // 2
        for field in ("megabytes", "files", "threads"):
            before, after = (
                sorted(getattr(found, field) for found in part)[len(part) // 2]
                for part in (later[:middle], later[middle:])
            )
            print(f"median {field}: {before:.1f}, then {after:.1f}", flush=True)
            status |= after > 1.05 * before
    return status


if __name__ == "__main__":
    sys.exit(main())
