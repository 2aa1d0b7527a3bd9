"""Experiments are compiled without data and teacher, and as the real ones are."""

import importlib.util
import json

import jax
import pytest

from experiments import compiled
from kdjax import method_recipes, phases, train
from kdjax.compile import __main__ as command
from kdjax.compile import measure, report, targets, untrained
from tests import small_runs

#: The machine of the tests, as if it were an accelerator of 1 GiB.
CPU = targets.Target(
    "cpu", "the CPU", "cpu", 2**30, 1e10, {"float32": 1e11}, launch_s=1e-6
)


def config_of(method, teacher="unread"):
    config = method_recipes.of_methods(method, "resnet8-wrn_10_1,digits")
    config.teacher.checkpoint = str(teacher)
    return config


@pytest.fixture(scope="module")
def measured():
    """OFD on the digits, and its configuration."""
    config = config_of("overhaul")
    devices = jax.devices()[:1]
    (found,) = measure.measure(config, CPU, devices, largest_batch=True)
    return config, found


def test_the_program_is_that_of_the_real_experiment(tmp_path):
    """Of the teacher the shapes are compared: this one renormalizes its images."""
    with small_runs.shortcuts():
        small_runs.distill(tmp_path / "teacher", tmp_path / "run")
        config = config_of("overhaul", tmp_path / "teacher")
        real = train.build_experiment(config)
        (blank,) = untrained.build(config, CPU, jax.devices())
    texts = []
    for experiment in (real, blank):
        (phase,) = phases.plan(
            experiment._replace(teacher=real.teacher, precomputed=real.precomputed)
        )
        state, frozen = phases.initial_state(phase, None)
        step = phases.build_step(phase, jax.devices())
        arguments = *map(measure._shapes, (state, frozen)), *phase.pipeline.shapes()
        texts.append(step.lower(*arguments).as_text())
    assert texts[0] == texts[1]
    fixed = [
        measure._shapes((e.teacher.variables, e.precomputed)) for e in (real, blank)
    ]
    assert fixed[0] == fixed[1]


def test_what_a_step_needs(measured):
    config, found = measured
    text = report.text(
        report.record(
            found, CPU, num_devices=1, batch_size=config.batch_size, dtype="float32"
        ),
        CPU,
    )
    assert found.phase == "train"
    # Parameters and momentum, statistics, and the step.
    assert found.memory.state > 2 * 4 * found.parameters
    # 96 images of one byte a color, their labels, and the order of an epoch.
    assert found.memory.data == 96 * (8 * 8 * 3 + 4 + 4)
    assert found.memory.total > found.memory.state + found.memory.data
    assert found.work.data_dependent_loops == 0
    assert 1e8 < found.flops < 1e10
    assert f"{found.parameters:,}" in text
    assert "yes; the largest batch is about" in text
    assert max(map(len, text.splitlines())) <= 80


def test_memory_grows_as_the_largest_batch_supposes(measured):
    config, found = measured
    room = CPU.memory - found.memory.total
    per_image = room / (found.largest_batch - config.batch_size)
    config = config.copy_and_resolve_references()
    config.batch_size *= 3
    (larger,) = measure.measure(config, CPU, jax.devices()[:1], largest_batch=False)
    assert larger.largest_batch is None
    wanted = found.memory.total + 2 / 3 * config.batch_size * per_image
    assert larger.memory.total == pytest.approx(wanted, rel=0.05)


def test_several_runs_share_data_and_teacher(measured):
    config, alone = measured
    config = config.copy_and_resolve_references()
    config.replicas, config.data.seed = 2, 0
    (found,) = measure.measure(config, CPU, jax.devices()[:1], largest_batch=False)
    assert (found.runs, found.parameters) == (2, 2 * alone.parameters)
    assert found.memory.state == 2 * alone.memory.state
    # What a method keeps of the teacher is small.
    assert alone.memory.frozen <= found.memory.frozen < 1.1 * alone.memory.frozen
    assert found.memory.data == alone.memory.data
    record = report.record(found, CPU, num_devices=1, batch_size=32, dtype="float32")
    assert report.text(record, CPU).startswith("train: 2 runs, 1 x the CPU")


def test_the_least_times_of_a_step():
    work = measure.Work({"fusion": 500}, int(2e7), 0, 0)
    memory = measure.Memory(0, 0, 0, 0, 0)
    found = measure.Measured("train", 1, 1, 1.0, memory, None, work, 3e9)
    seconds = found.seconds(CPU, "float32")
    assert seconds == {"launches": 5e-4, "bandwidth": 2e-3, "arithmetic": 3e-2}
    record = report.record(found, CPU, num_devices=1, batch_size=2, dtype="float32")
    assert record["bound_by"] == "arithmetic"
    assert "largest batch" not in report.text(record, CPU)
    assert "bound by arithmetic" in report.text(record, CPU)


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("h101", None, "--target='h101' is none of h100, h200"),
        ("h100:2x2", None, "--devices=N says how many GPUs"),
        ("h100", 0, "--devices=0 is less than 1"),
        ("v5e:many", None, "a slice is written as in v5e:2x2"),
        ("v5e:2x2", 3, "--devices=3, but v5e:2x2 has 4"),
    ],
)
def test_targets_that_there_are_not(name, devices, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        targets.find(name, devices)


def test_shapes_of_targets():
    assert targets.find("h100", 8)[1] == "1x1x8"
    assert targets.find("v5e", None)[1] == "2x2"
    assert targets.find("v4:2x2x1", 4)[1] == "2x2x1"


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"requirements-targets\.txt"):
        targets.devices(*targets.find("h100", 1))


def test_mistakes_are_one_line(capsys):
    arguments = "--config=configs/student.py:wrn_10_1,digits --target=h101"
    assert command.main(arguments.split()) == 2
    assert capsys.readouterr().err.startswith("compile: --target='h101' is none of")


needs_compilers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, targets._PLUGINS.values())),
    reason="the compilers of requirements-targets.txt are not installed",
)


@pytest.mark.slow
@needs_compilers
def test_every_method_compiles_for_a_gpu_and_both_papers_for_a_tpu(tmp_path, capsys):
    shared = ["--pair=wrn_16_2-wrn_10_1", "--data=cifar100"]
    out = tmp_path / "h100.jsonl"
    compiled.main([f"--out={out}", "--devices=2", *shared])
    assert not capsys.readouterr().err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(record["data_dependent_loops"] == 0 for record in records)
    assert all(record["collectives"] >= 1 for record in records)
    tpu = ["--target=v5e:2x2", "--methods=overhaul,mhgd", f"--out={tmp_path / 'v5e'}"]
    compiled.main([*tpu, *shared])
    assert not capsys.readouterr().err
