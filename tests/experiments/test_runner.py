import types

from experiments import compare, runner, schedule
from kdjax.runs import workdirs
from tests import small_runs


def finished(cell, seconds):
    cell.workdir.mkdir(parents=True, exist_ok=True)
    workdirs.write_result(cell.workdir, small_runs.RESULT | {"wall_s": seconds})


class Processes:
    """Stands in for the processes of the runs; `status` by the name of the run."""

    def __init__(self, cells, status):
        self.cells = {str(cell.workdir): cell for cell in cells}
        self.status, self.started = status, []

    def __call__(self, command, env):
        (workdir,) = (x.removeprefix("--workdir=") for x in command if "workdir" in x)
        cell = self.cells[workdir]
        self.started.append(env["KDJAX_RUN_NAME"])
        status = self.status.get(cell.name, 0)
        if status == 0:
            finished(cell, 60.0)
        return types.SimpleNamespace(wait=lambda: status, poll=lambda: status)


def test_a_failed_cell_is_listed_and_the_others_run(monkeypatch, tmp_path, capsys):
    """The teacher fails; the student alone needs none; then the rest is made up for."""
    cells = compare.plan(
        tmp_path,
        data="digits",
        pairs=["wrn_10_1-wrn_10_1"],
        methods=["none", "overhaul"],
        seeds=1,
    )
    processes = Processes(cells, {"teacher wrn_10_1 seed 0": 2})
    monkeypatch.setattr(runner.subprocess, "Popen", processes)
    teacher, _, overhaul = (cell.workdir for cell in cells)
    assert runner.Runner([]).run(cells) == [
        f"{teacher}: ended with status 2",
        f"{overhaul}: no finished teacher {teacher}",
    ]
    assert processes.started == [
        "[1/3] teacher wrn_10_1 seed 0",
        "[2/3] student wrn_10_1 seed 0",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"[1/3] teacher wrn_10_1 seed 0: {teacher}"

    processes.status.clear()
    assert runner.Runner([]).run(cells) == []
    assert processes.started[2:] == [
        "[1/3] teacher wrn_10_1 seed 0",
        "[3/3] overhaul seed 0",
    ]
    # The student's minute, from its result, stands for the two that are not known.
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/3] teacher wrn_10_1 seed 0, about 2 min to go: ")
    assert second.startswith("[3/3] overhaul seed 0, about 1 min to go: ")


def test_a_cell_that_was_stopped_stops_the_comparison(monkeypatch, tmp_path):
    """As when one process alone is preempted: nothing failed, and all can resume."""
    cells = compare.plan(
        tmp_path, data="digits", pairs=["wrn_10_1-wrn_10_1"], methods=["none"], seeds=3
    )
    processes = Processes(cells, {"student wrn_10_1 seed 0": 75})
    monkeypatch.setattr(runner.subprocess, "Popen", processes)
    stopped = runner.Runner([])
    assert stopped.run(cells) == []
    assert stopped.stopped
    assert len(processes.started) == 1


def test_the_time_to_go_is_the_mean_of_finished_runs_of_the_kind(tmp_path):
    def cell(config, folder):
        return runner.Cell(folder, config, tmp_path / folder, 0)

    slow, fast = cell("slow.py:", "slow"), cell("fast.py:", "fast")
    times = schedule.Times.of_finished([slow, fast])
    assert times.left([slow, fast]) == ""
    finished(slow, 600.0)
    times = schedule.Times.of_finished([slow, fast])
    times.add(fast, 60.0)
    times.add(fast, 180.0)
    assert times.left([slow, fast, fast]) == ", about 14 min to go"
    assert times.left([cell("new.py:", "new")]) == ", about 6 min to go"
    assert times.left([slow] * 18) == ", about 3.0 h to go"


class Endless:
    """A process that ends when it is told to, as a run that saves; or after a while."""

    going, most = 0, 0

    def __init__(self, command, env, stdout, stderr):
        Endless.going += 1
        Endless.most = max(Endless.most, Endless.going)
        self._status = None
        print("printed", file=stdout)

    def poll(self):
        return self._status

    wait = poll

    def terminate(self):
        Endless.going -= 1
        self._status = runner.STOPPED


def test_runs_at_the_same_time_are_stopped_when_the_time_is_up(
    monkeypatch, tmp_path, capsys
):
    """The teacher and two students, but nobody whom the teacher has yet to teach."""
    cells = compare.plan(
        tmp_path,
        data="digits",
        pairs=["wrn_10_1-wrn_10_1"],
        methods=["none", "overhaul"],
        seeds=2,
        teacher_seeds=1,
    )
    monkeypatch.setattr(runner.subprocess, "Popen", Endless)
    several = runner.Runner([], jobs=9, seconds=0.01)
    assert several.run(cells) == []
    assert (Endless.most, Endless.going) == (3, 0)
    assert several.stopped
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines[:3]] == ["[1/5", "[2/5", "[3/5"]
    assert lines[3] == "the time is up: saving"
    log = tmp_path / "digits/teachers/wrn_10_1/seed_0.log"
    assert log.read_text() == "printed\n"
