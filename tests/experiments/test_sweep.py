import json
import pathlib
import re
import types

import pytest

from experiments import runner, sweep
from kdjax.config import checks

from .run_folders import RKD, write_run

# What ml_collections calls on Python 3.11.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def started(monkeypatch):
    """Stands in for the processes: a run's accuracy is its weight / 10."""
    commands = []

    def start(command, env):
        del env
        commands.append(command)
        flags = dict(part[2:].partition("=")[::2] for part in command if "=" in part)
        weight = float(flags.get("config.methods.rkd.weight", 1))
        workdir, first = pathlib.Path(flags["workdir"]), int(flags["config.seed"])
        count = int(flags.get("config.replicas", 1))
        for seed in range(first, first + count):
            write_run(
                workdir / f"seed_{seed}" if count > 1 else workdir,
                weight / 10,
                seed=seed,
                methods=RKD,
                teacher="wrn_16_2",
                epochs=int(flags.get("config.epochs", 3)),
                validation=float(flags.get("config.data.validation_fraction", 0)),
            )
        return types.SimpleNamespace(wait=lambda: 0, poll=lambda: 0)

    monkeypatch.setattr(runner.subprocess, "Popen", start)
    # There is no teacher.
    monkeypatch.setattr(checks, "check", lambda _: None)
    return commands


def flags(out, *more):
    return [
        "--config=configs/distill.py:rkd,wrn_16_2-wrn_10_1,digits",
        "--over=methods.rkd.weight=uniform:1:9",
        f"--out={out}",
        *more,
    ]


def test_the_best_on_validation_images_is_trained_on_all(tmp_path, started, capsys):
    assert sweep.main(flags(tmp_path, "--trials=5", "--search=grid")) == 0
    content = json.loads((tmp_path / "sweep.json").read_text())
    best = content["trials"][0]
    assert best["values"] == {"methods.rkd.weight": "9"}
    # Of the validation part, where runs are a tenth lower.
    assert best["validation_accuracy"] == pytest.approx(81)
    assert [t["values"]["methods.rkd.weight"] for t in content["trials"]] == [
        *("9", "7", "5", "3", "1")
    ]
    assert content["own"] == {"methods.rkd.weight": "1.0"}
    assert content["budget"] == {
        "trials": 5,
        "seeds": 1,
        "search": "grid",
        "validation_fraction": 0.2,
    }
    assert content["card"]["Made by"].startswith("`python -m experiments.sweep --conf")
    assert content["test_accuracy"] == {
        "best": pytest.approx([90] * 3),
        "own": pytest.approx([10] * 3),
    }
    fraction = "--config.data.validation_fraction=0.2"
    held_out = [fraction in command for command in started]
    assert held_out == [True] * 5 + [False] * 6
    printed = capsys.readouterr().out
    assert "90.00 ± 0.00" in printed
    assert "5 trials of 1 seed, grid" in printed
    assert (tmp_path / "sweep.png").stat().st_size > 0
    # Accuracies are those of all final seeds, or none.
    assert set(sweep.final_runs(tmp_path, 3)) == {"best", "own"}
    (tmp_path / "best/seed_1/result.json").rename(tmp_path / "kept")
    assert set(sweep.final_runs(tmp_path, 3)) == {"own"}
    (tmp_path / "kept").rename(tmp_path / "best/seed_1/result.json")
    # The same command again has nothing to do.
    assert sweep.main(flags(tmp_path, "--trials=5", "--search=grid")) == 0
    assert len(started) == 11


def test_seeds_of_a_trial_can_share_a_program(tmp_path, started):
    arguments = flags(tmp_path, "--trials=3", "--search=grid", "--seeds=2")
    assert sweep.main([*arguments, "--replicas"]) == 0
    counts = [
        part.removeprefix("--config.replicas=")
        for command in started
        for part in command
        if "replicas" in part
    ]
    assert counts == ["2"] * 3 + ["3"] * 2
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["trials"][0]["values"] == {"methods.rkd.weight": "9"}
    # Alone, they have nothing to do.
    assert sweep.main(arguments) == 0
    assert len(started) == 5
    again = json.loads((tmp_path / "sweep.json").read_text())
    # The command is another.
    assert found.pop("card") != again.pop("card")
    assert found == again


def test_a_trial_that_fails_counts_and_is_shown(tmp_path, monkeypatch, capsys, started):
    """As one whose loss is not finite."""
    start = runner.subprocess.Popen

    def start_or_fail(command, env):
        if "--config.methods.rkd.weight=9" in command:
            return types.SimpleNamespace(wait=lambda: 1, poll=lambda: 1)
        return start(command, env)

    monkeypatch.setattr(runner.subprocess, "Popen", start_or_fail)
    assert sweep.main(flags(tmp_path, "--trials=3", "--search=grid")) == 1
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert [t["values"]["methods.rkd.weight"] for t in content["trials"]] == [
        *("5", "1", "9")
    ]
    assert content["trials"][-1]["validation_accuracy"] is None
    assert content["budget"]["trials"] == 3
    out, err = capsys.readouterr()
    assert re.search(r"^2 +9 +failed$", out, re.M)
    assert "trial_2/seed_0: ended with status 1" in err
    # Where all fail, nothing is chosen.
    monkeypatch.setattr(sweep, "score", lambda _: None)
    assert sweep.main(flags(tmp_path / "all", "--trials=3", "--search=grid")) == 1
    assert not (tmp_path / "all/best").exists()


def test_halving_gives_the_best_more_epochs(tmp_path, started):
    arguments = flags(tmp_path, "--trials=9", "--search=halving", "--epochs=9")
    assert sweep.main(arguments) == 0
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert [t["epochs"] for t in content["trials"]] == [9] + [3] * 3 + [1] * 9
    by_weight = sorted(
        content["trials"][4:], key=lambda t: -float(t["values"]["methods.rkd.weight"])
    )
    assert {t["trial"] for t in content["trials"][1:4]} == {
        t["trial"] for t in by_weight[:3]
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trials=2", "--search=halving"], "--search=halving needs --epochs"),
        (
            ["--trials=2", "--over=methods.rkd.weight=log:1:2"],
            "--over names methods.rkd.weight twice",
        ),
        (
            ["--trials=2", "--validation_fraction=1"],
            "--validation_fraction=1.0 is not between 0 and 1",
        ),
        (["--trials=1", "--search=grid"], "the smallest grid has 2 trials"),
        (
            ["--trials=1", "--over=methods.kd.weight=log:1:2"],
            "the configuration has no field 'methods.kd.weight'",
        ),
        (
            ["--trials=1", "--over=methods.rkd.form=times:1:2"],
            "own value is 'repdistiller', and multiples are of numbers above 0",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(
    tmp_path, capsys, started, more, message
):
    assert sweep.main(flags(tmp_path, *more)) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert not started


def test_trials_can_be_multiples_of_the_own_value(tmp_path, started):
    over = "--over=methods.rkd.angle_weight=times:0.1:10"
    arguments = [*flags(tmp_path, "--trials=3", "--search=grid", over)]
    arguments.remove("--over=methods.rkd.weight=uniform:1:9")
    assert sweep.main(arguments) == 0
    found = {
        part
        for command in started
        for part in command
        if part.startswith("--config.methods.rkd.angle_weight=")
    }
    assert {part.partition("=")[2] for part in found} == {"5", "50", "500"}
