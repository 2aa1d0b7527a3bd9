import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def benchmark(tmp_path):
    """Returns a function that benchmarks a tiny step in a process of its own."""

    def run(*arguments):
        return subprocess.run(
            [
                *(sys.executable, "-m", "experiments.benchmark", "--teacher=wrn_10_1"),
                *("--student=wrn_10_1", "--batch=4", "--image_size=8", "--classes=10"),
                *("--rounds=2", "--steps=1", *arguments),
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_prints_one_json_line_whose_figures_agree(benchmark, tmp_path):
    anchor = tmp_path / "anchor.py"
    anchor.write_text('print("warming up"); print(\'{"images_per_s": 1e9}\')')
    # In one round medians are the times themselves.
    done = benchmark(f"--anchor=fast={sys.executable} {anchor}", "--rounds=1")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    for part in ("distillation", "student", "teacher"):
        assert report[f"{part}_ms"] > 0
        assert report[f"{part}_images_per_s"] == pytest.approx(
            4e3 / report[f"{part}_ms"], rel=0.01
        )
    floor = report["student_ms"] + report["teacher_ms"]
    assert report["overhead"] == pytest.approx(
        report["distillation_ms"] / floor, rel=0.01
    )
    assert report["vs_fast"] == pytest.approx(0, abs=1e-3)


def test_times_the_routes_of_singular_vectors(benchmark):
    done = benchmark("--method=mhgd", "--hyperparameter=heads=2")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["hyperparameters"] == {"heads": 2}
    for route in ("svd", "gram", "subspace"):
        assert report[f"compress_{route}_ms"] > 0
    assert report["overhead"] > 0


def test_several_methods_make_a_table(benchmark):
    done = benchmark("--method=overhaul,mutual_learning")
    assert done.returncode == 0, done.stderr
    *lines, head, _, first, second = done.stdout.splitlines()
    reports = [json.loads(line) for line in lines]
    assert [report["method"] for report in reports] == ["overhaul", "mutual_learning"]
    assert head.split("  ")[0] == "method"
    assert first.split()[0] == "overhaul"
    # The connectors' convolutions and batch norms; a whole WRN-10-1.
    assert [report["learned_parameters"] for report in reports] == [5_600, 77_850]
    assert second.split()[4] == "77,850"
    assert all(report["peak_bytes"] > 1e6 for report in reports)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=mhgd", "--hyperparameter=heads=x"], "'heads=x' is no int"),
        (["--hyperparameter=heads=2"], "methods.overhaul.heads is none of"),
        (["--anchor=nothing"], "anchor='nothing' is not NAME=COMMAND"),
        (["--anchor=bad=false"], "anchor 'false' ended with status 1"),
        (["--teacher=lenet"], "no network is called 'lenet'"),
        (["--method=magic"], "methods.magic is none of"),
    ],
)
def test_mistakes_are_one_line(benchmark, arguments, message):
    done = benchmark(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
