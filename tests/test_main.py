"""The command line. Each test runs it in this process but for those of processes."""

import collections
import os
import pathlib
import re
import runpy
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl import app

from kdjax import main, recipes
from kdjax.runs import lock, signals, workdirs
from kdjax.runs.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent
STUDENT = "configs/student.py:wrn_10_1,digits"

#: Of the command itself; each `--config.FIELD` becomes another.
FLAGS = set(main._FLAGS)

# Of ml_collections, on Python 3.11.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


@pytest.fixture
def command(monkeypatch, capsys):
    """Returns a function that runs the command and returns status, stdout, stderr."""
    # It would change this process for the tests to come.
    monkeypatch.setattr(main, "_set_up_process", lambda _: None)

    def run(*arguments, config=STUDENT):
        argv = ["kdjax.main", *[f"--config={config}"] * bool(config), *arguments]
        # ml_collections reads overrides from here.
        monkeypatch.setattr(sys, "argv", argv)
        main._FLAGS.unparse_flags()
        for name in set(main._FLAGS) - FLAGS:
            delattr(main._FLAGS, name)
        status = 0
        try:
            main.main(main._parse_flags(argv))
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def start(*arguments, config=STUDENT, file_kib="unlimited", devices=1):
    """Starts the command as a process; no file can grow larger than `file_kib`."""
    limit = ["bash", "-c", f'ulimit -f {file_kib} && exec "$@"', "bash"]
    program = [sys.executable, "-m", "kdjax.main", f"--config={config}"]
    return subprocess.Popen(
        [*limit, *program, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
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


def assert_same_end(broken, unbroken):
    metrics = [(d / "metrics.jsonl").read_text() for d in (broken, unbroken)]
    assert metrics[0] == metrics[1]
    jax.tree.map(np.testing.assert_array_equal, final(broken), final(unbroken))


SAVES_OFTEN = ("--config.log_every_steps=1", "--config.checkpoint.every_steps=2")


def test_a_killed_and_then_stopped_run_ends_bitwise_as_an_unbroken_one(
    command, tmp_path
):
    """SIGKILL loses the steps since the last save, SIGTERM none."""
    arguments = ["--config.epochs=8", *SAVES_OFTEN]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, out, err = command(f"--workdir={unbroken}", *arguments)
    assert status == 0, err
    assert "test accuracy" in out
    assert re.search(r"wrn_10_1: first step after \d+\.\d s", err)
    assert re.search(r"epoch 8/8: test \d+\.\d%, loss \d.*, lr 0.001", err)

    process = start(f"--workdir={broken}", *arguments, devices=4)
    wait_for_lines(process, broken, 8)
    process.kill()
    process.communicate()
    killed_at = len((broken / "metrics.jsonl").read_text().splitlines())
    assert not (broken / "result.json").exists()

    process = start(f"--workdir={broken}", *arguments, devices=4)
    wait_for_lines(process, broken, killed_at + 4)
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert status == signals.STOPPED == 75, err
    assert out.endswith("stopped and saved; the same command resumes (status 75)\n")
    assert "Traceback" not in err
    assert re.search(r"wrn_10_1: resumed at step \d+ \(epoch", err)
    assert not (broken / "result.json").exists()
    assert not (broken / lock.NAME).exists()

    status, _, err = command(f"--workdir={broken}", *arguments)
    assert status == 0, err
    assert_same_end(broken, unbroken)


@pytest.mark.slow
def test_a_run_that_meets_every_fault_ends_bitwise_as_an_unbroken_one(tmp_path):
    """There is a kill, a second process, a full disk and a truncated checkpoint."""
    arguments = ["--config.epochs=30", *SAVES_OFTEN]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, _, err = finish(start(f"--workdir={unbroken}", *arguments))
    assert status == 0, err

    process = start(f"--workdir={broken}", *arguments)
    wait_for_lines(process, broken, 20)
    process.kill()
    process.communicate()
    killed_at = len((broken / "metrics.jsonl").read_text().splitlines())

    process = start(f"--workdir={broken}", *arguments)
    wait_for_lines(process, broken, killed_at + 20)
    process.send_signal(signal.SIGSTOP)
    second = finish(start(f"--workdir={broken}", *arguments))
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    assert second[:2] == (2, "")
    (line,) = second[2].splitlines()
    assert line.startswith(f"kdjax: workdir={broken} is in use by process")
    assert f" {process.pid} on " in line
    status, _, err = finish(process)
    assert status == signals.STOPPED, err

    newest, before = newest_checkpoints(broken)
    (newest / "metadata" / "metadata").write_bytes(b"")
    status, out, err = finish(start(f"--workdir={broken}", *arguments, file_kib=100))
    assert (status, out) == (2, "")
    assert f"step {newest.name} is damaged" in err
    assert f"using step {before.name}" in err
    assert err.splitlines()[-1] == (
        f"kdjax: {newest.parent}: saving failed: File too large; the checkpoint of "
        f"step {before.name} is complete"
    )
    assert "Traceback" not in err

    status, _, err = finish(start(f"--workdir={broken}", *arguments))
    assert status == 0, err
    assert_same_end(broken, unbroken)


@pytest.mark.slow
def test_a_run_killed_at_random_instants_ends_bitwise_as_an_unbroken_one(tmp_path):
    """In its start, in a step, in an evaluation or while it saves."""
    arguments = ["--config.epochs=200", "--config.checkpoint.every_steps=1"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    status, _, err = finish(start(f"--workdir={unbroken}", *arguments))
    assert status == 0, err
    instants = np.random.default_rng(0).uniform(1, 15, 10)
    for instant in instants:
        process = start(f"--workdir={broken}", *arguments)
        time.sleep(instant)
        process.kill()
        process.communicate()
    status, _, err = finish(start(f"--workdir={broken}", *arguments))
    assert status == 0, err
    assert_same_end(broken, unbroken)


@pytest.mark.slow
def test_a_run_of_mhgd_killed_in_either_phase_ends_bitwise_as_an_unbroken_one(tmp_path):
    """With the default singular vectors and their exact gradient."""
    teacher = tmp_path / "teacher"
    config = "configs/teacher.py:wrn_10_1,digits"
    status, _, err = finish(
        start(f"--workdir={teacher}", "--config.epochs=3", config=config)
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
    status, _, err = finish(start(f"--workdir={unbroken}", *arguments, config=config))
    assert status == 0, err
    killed_in = collections.Counter()
    rng = np.random.default_rng(0)
    # Not by the clock alone: on a slow machine it would never leave the first phase.
    while killed_in["train"] < 3:
        before = checkpoints_in(broken)
        process = start(f"--workdir={broken}", *arguments, config=config)
        while checkpoints_in(broken) == before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 6))
        process.kill()
        process.communicate()
        started = (broken / "metrics.jsonl").exists()
        killed_in["train" if started else "pretrain"] += 1
    assert killed_in["pretrain"]
    status, _, err = finish(start(f"--workdir={broken}", *arguments, config=config))
    assert status == 0, err
    assert_same_end(broken / "pretrain", unbroken / "pretrain")
    assert_same_end(broken, unbroken)


def test_a_mistake_is_one_line_of_a_process(tmp_path):
    status, out, err = finish(
        start(f"--workdir={tmp_path / 'run'}", "--config.seeds=1")
    )
    assert (status, out) == (2, "")
    assert err == (
        "kdjax: --config.seeds=1: no such field. "
        'Did you mean "seed" instead of "seeds"?\n'
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config.optimizer.learning_rat=1"],
            '--config.optimizer.learning_rat=1: no such field. Did you mean "learning',
        ),
        (
            ["--config.methods.kd.weight=0.5"],
            "--config.methods.kd.weight=0.5: no such field. configs/distill.py:METHOD+",
        ),
        (["--config.epochs=many"], "--config.epochs=many: invalid literal for int()"),
        (["--config.batch_size=0"], "batch_size=0 is not at least 1"),
        (["--no_such_flag"], "Unknown command line flag 'no_such_flag'"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command, tmp_path, arguments, message
):
    workdir = tmp_path / "run"
    status, out, err = command(f"--workdir={workdir}", *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("kdjax: ")
    assert message in line
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "--config is missing: a file, such as --config="),
        ("configs/studnet.py", "--config=configs/studnet.py: there is no such file"),
        ("configs/overhaul.py:wrn_16_2", "'wrn_16_2' names no pair"),
    ],
)
def test_a_wrong_config_file_is_one_line(command, tmp_path, config, message):
    status, _, err = command(f"--workdir={tmp_path / 'run'}", config=config)
    assert status == 2
    (line,) = err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "\nimport no_such_module",
            ", line 2: ModuleNotFoundError: No module named 'no_",
        ),
        ("def get_config(:", ", line 1: SyntaxError: invalid syntax"),
        ("def get_config(): return {}['a']", ", line 1: KeyError: 'a'"),
        ("def get_config(): return 3", ": get_config returns int, not an ml_coll"),
    ],
)
def test_an_error_in_a_config_file_is_one_line(command, tmp_path, code, message):
    file = tmp_path / "mine.py"
    file.write_text(code)
    status, _, err = command("--dry_run", config=file)
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith(f"kdjax: --config={file}{message}")


def test_the_reason_that_a_config_file_gives_is_the_line(command, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config(): raise ValueError('why')")
    status, _, err = command("--dry_run", config=file)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "why" in err


def test_a_home_is_expanded_and_a_url_rejected(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").touch()
    status, _, err = command("--workdir=~/run")
    assert (status, err) == (2, f"kdjax: workdir={tmp_path}/run is not a directory\n")
    status, _, err = command("--workdir=gs://bucket/run")
    assert status == 2
    assert err.startswith("kdjax: gs://bucket/run is a URL")


def test_without_a_work_directory_one_is_asked_for(command):
    status, _, err = command()
    assert (status, err[:31]) == (2, "kdjax: --workdir is missing: th")


def test_a_dry_run_tells_that_a_data_set_is_not_there(command, tmp_path):
    status, out, err = command(
        "--dry_run",
        f"--config.data.data_dir={tmp_path}",
        config="configs/student.py:wrn_10_1,cifar100",
    )
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert "cifar100 is not prepared" in line


def test_configs_of_kdjax_are_found_from_any_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from kdjax import recipes\n"
        "def get_config(network):\n"
        "    return recipes.alone(f'{network},digits')\n"
    )
    outputs = []
    monkeypatch.setenv("HOME", str(tmp_path))
    files = "mine.py", mine.as_posix(), "~/mine.py"
    for config in (STUDENT, *(f"{file}:wrn_10_1" for file in files)):
        status, out, _ = command("--dry_run", config=config)
        assert status == 0
        outputs.append(out)
    assert len(set(outputs)) == 1
    assert sorted(tmp_path.iterdir()) == [mine]


def test_a_dry_run_prints_every_field_and_what_would_run(command, tmp_path):
    status, out, err = command(
        "--dry_run", f"--workdir={tmp_path / 'run'}", "--config.optimizer.momentum=0.5"
    )
    assert (status, err) == (0, "")
    fields, summary = out.split("\n\n")
    assert "optimizer.momentum = 0.5" in fields.splitlines()
    assert "methods" in fields
    for part in ("1,797 images of 8x8", "10 classes", "40 epochs", "parameters"):
        assert part in summary
    assert list(tmp_path.iterdir()) == []
    teacher = tmp_path / "teacher"
    distilled = (
        "--dry_run",
        f"--config.teacher.checkpoint={teacher}",
    )
    pair = "configs/mhgd.py:wrn_10_2-wrn_10_1,digits"
    status, out, err = command(*distilled, config=pair)
    assert (status, out) == (2, "")
    missing = f"teacher.checkpoint={str(teacher)!r} is not the work directory of a run"
    assert err == f"kdjax: {missing}\n"
    workdirs.create(teacher, recipes.alone("wrn_10_2,digits"))
    status, _, err = command(*distilled, config=pair)
    assert status == 2
    assert "holds no checkpoint yet" in err
    (teacher / "checkpoints" / "7").mkdir(parents=True)
    status, out, _ = command(*distilled, config=pair)
    assert status == 0
    _, summary = out.split("\n\n")
    assert "  teacher  wrn_10_2, " in summary
    assert "from /" in summary
    assert "  methods  mhgd" in summary
    assert re.search(r"phases   pretrain \d+ epochs, train \d+ epochs", summary)
    status, out, err = command("--dry_run", "--config.model=wrn_99_x")
    assert (status, out) == (2, "")
    assert "wrn_99_x" in err


def test_an_interrupt_before_the_start_is_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupted)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "kdjax" / "main.py"), run_name="__main__")
    assert end.value.code == signals.STOPPED
    assert capsys.readouterr().err == "kdjax: interrupted before the start\n"


def test_help_lists_the_configurations(command):
    status, out, err = command("--help", config=None)
    assert (status, err) == (0, "")
    assert "python -m kdjax.main --config=" in out
    for file in (ROOT / "configs").glob("[a-z]*.py"):
        assert f"  {file.name} " in out
    assert max(map(len, out.splitlines())) <= 88


def test_another_configuration_overwrites_nothing(command, tmp_path):
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    before = (tmp_path / "config.json").read_text()
    status, _, err = command(f"--workdir={tmp_path}", "--config.seed=1")
    assert status == 2
    assert "another configuration: seed was 0 and is 1; checkpoint.allow_" in err
    assert (tmp_path / "config.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ({"best_test_accuracy": 0.6}, "best 60.00%"),
        (
            {"best_test_accuracy": None, "best_validation_accuracy": 0.7},
            "best validation accuracy 70.00%",
        ),
    ],
)
def test_a_finished_run_prints_its_accuracies(command, tmp_path, found, best):
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    steps = {"final_step": 9, "best_step": 3}
    workdirs.write_result(tmp_path, {"final_test_accuracy": 0.5, **steps, **found})
    status, out, _ = command(f"--workdir={tmp_path}")
    assert status == 0
    assert out == (
        f"{tmp_path}: test accuracy 50.00% at the last step 9, {best} at step 3\n"
    )


def test_a_loss_that_is_not_finite_ends_with_one_line(command, tmp_path):
    status, _, err = command(
        f"--workdir={tmp_path}", "--config.optimizer.learning_rate=1e30"
    )
    assert status == 2
    assert err.splitlines()[-1].startswith("kdjax: ")
    assert "not finite at step" in err
    assert not (tmp_path / "result.json").exists()
