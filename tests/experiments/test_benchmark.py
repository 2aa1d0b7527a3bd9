"""The benchmark of distillation steps."""

import json
import pathlib
import subprocess
import sys
import types

import jax
import pytest

from experiments import benchmark, workloads
from kdjax.losses.linalg import singular_vectors
from tests import commands

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = (
    *("--teacher=wrn_10_1", "--student=wrn_10_1", "--batch=4", "--image_size=8"),
    *("--classes=10", "--examples=40", "--rounds=2", "--steps=1"),
)


def test_figures_are_medians_over_rounds():
    def timed(*seconds):
        return types.SimpleNamespace(
            seconds=seconds, median_s=sorted(seconds)[1], auxiliary=7, peak_bytes=9
        )

    found = benchmark.figures(
        {
            "distillation": timed(0.3, 0.6, 0.9),
            "student": timed(0.1, 0.1, 0.2),
            "teacher": timed(0.1, 0.3, 0.1),
            "compress_svd": timed(0.01, 0.02, 0.03),
        },
        batch=6,
    )
    assert found == {
        "distillation_ms": 600.0,
        "distillation_images_per_s": 10.0,
        "student_ms": 100.0,
        "student_images_per_s": 60.0,
        "teacher_ms": 100.0,
        "teacher_images_per_s": 60.0,
        "compress_svd_ms": 20.0,
        "auxiliary_parameters": 7,
        "peak_bytes": 9,
        # Medians of 1.5, 1.5 and 3, not of the medians.
        "overhead": 1.5,
    }


def test_command_in_a_process_of_its_own(tmp_path):
    reference = tmp_path / "reference.py"
    reference.write_text('print("warming up"); print(\'{"images_per_s": 1e9}\')')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.benchmark", *TINY),
            *("--method=dkd", "--hyperparameter=beta=2"),
            f"--reference=fast={sys.executable} {reference}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["hyperparameters"] == {"beta": 2.0}
    assert report["vs_fast"] == pytest.approx(0, abs=1e-3)
    assert report["overhead"] > 0


def test_several_methods_make_a_table(capsys):
    flags = (*TINY, "--method=dkd,mutual_learning")
    status, out, err = commands.run(benchmark.main, capsys, *flags)
    assert (status, err) == (0, "")
    *lines, head, _, first, second = out.splitlines()
    dkd, mutual_learning = reports = [json.loads(line) for line in lines]
    assert [report["method"] for report in reports] == ["dkd", "mutual_learning"]
    assert all(report["peak_bytes"] > 1e6 for report in reports)
    # The peer is another WRN-10-1.
    assert mutual_learning["auxiliary_parameters"] == 77_850
    assert dkd["auxiliary_parameters"] == 0
    assert head.split("  ")[0] == "method"
    assert first.split()[0] == "dkd"
    assert second.split()[4] == "77,850"


@pytest.fixture
def traced(monkeypatch):
    """Returns a function that builds the workloads of a method without compiling."""

    def trace(function, *arguments, auxiliary=0):
        jax.eval_shape(function, *arguments)
        return arguments

    def build(method, **options):
        setup = workloads.Setup(
            teacher="wrn_10_1",
            student="wrn_10_1",
            batch_size=4,
            examples=40,
            num_classes=10,
            image_size=8,
            dtype="float32",
        )
        return workloads.workloads(setup, method, {}, **options)

    monkeypatch.setattr(workloads, "Workload", trace)
    return build


@pytest.mark.parametrize(
    "method", ["cat_kd", "crld", "deepkd", "jacobian", "simkd", "sskd", "wkd_logits"]
)
def test_what_methods_read_is_there(traced, method):
    """Classifiers, second views, gradients by the image, heads, rotated images."""
    traced(method)


def test_memory_of_crd_is_that_of_the_training_images(traced):
    state, frozen, *_ = traced("crd")["distillation"]
    shapes = [x.shape for x in jax.tree.leaves(state) if x.shape[:1] == (40,)]
    assert shapes == [(40, 128)] * 2
    assert frozen.precomputed["crd"]["order"].shape == (40,)


def test_algorithms_for_singular_vectors_are_workloads(traced):
    built = traced("kd_svd")
    steps = ["distillation", "student", "teacher"]
    assert list(built)[:3] == steps
    compressions = {f"compress_{name}" for name in singular_vectors.ALGORITHMS}
    assert compressions == set(built) - set(steps)
    assert list(traced("kd_svd", parts=False)) == steps


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method=mhgd", "--hyperparameter=heads=x"], "'heads=x' is no int"),
        (["--hyperparameter=heads=2"], "methods.overhaul.heads is none of"),
        (["--reference=nothing"], "reference='nothing' is not NAME=COMMAND"),
        (["--teacher=lenet"], "no network is called 'lenet'"),
        (["--method=magic"], "methods.magic is none of"),
        (["--examples=3"], "examples=3 is less than batch=4"),
    ],
)
def test_mistakes_are_one_line(capsys, flags, message):
    assert message in commands.refused(benchmark.main, capsys, *TINY, *flags)


def test_a_slow_part_runs_fewer_times_than_the_step(monkeypatch):
    """As `jnp.linalg.svd` on a GPU, which takes seconds."""
    ran = []

    class Slow(workloads.Workload):
        def run(self, steps):
            ran.append(steps)
            self.seconds.append(1.5)

    def built(*_, **__):
        names = ("distillation", "student", "teacher", "compress_svd")
        return {name: Slow(jax.jit(lambda: (None, 0))) for name in names}

    monkeypatch.setattr(benchmark, "workloads", built)
    monkeypatch.setattr(workloads.Workload, "peak_bytes", 0)
    flags = benchmark._parser().parse_args([*TINY, "--rounds=1", "--steps=4"])
    benchmark.measure(None, "kd", flags)
    assert ran[-4:] == [4, 4, 4, 1]


def test_failing_reference_is_named():
    with pytest.raises(ValueError, match="reference 'false' ended with status 1"):
        benchmark.reference_speed("false")


def test_numbers_below_one_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--batch=0"])
    assert (
        "argument --batch: invalid positive int value: '0'" in capsys.readouterr().err
    )
