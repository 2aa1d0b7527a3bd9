"""Several runs in one program, each the same as alone."""

import dataclasses
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import phases as phases_lib
from kdjax import recipes, replicas, train
from kdjax.config import replicas as replica_configs
from kdjax.evaluate import Evaluator
from kdjax.evaluate.evaluator import Evaluation
from kdjax.runs import signals, workdirs
from kdjax.runs.checkpoint import Checkpoints
from tests import small_runs
from tests.test_train import final_state, records

#: Small, for two programs round differently, and a large step makes more of it.
RATE = 1e-3


def distilled(teacher, **overrides):
    """Returns a run of 6 steps in 2 epochs: 96 images, batches of 40, 40 and 16."""
    config = recipes.distillation("resnet8-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = str(teacher)
    return shortened(config, **{"data.seed": 0, **overrides})


def shortened(config, **overrides):
    config.epochs = config.evaluate_every_epochs = 2
    config.batch_size = 40
    config.log_every_steps = 2
    config.optimizer.learning_rate = RATE
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher")
    small_runs.write_teacher(workdir)
    with small_runs.shortcuts():
        yield workdir


@pytest.fixture(scope="module")
def alone(tmp_path_factory, teacher):
    """The folder of the runs of two seeds, one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (0, 1):
        workdir = folder / f"seed_{seed}"
        train.train_and_evaluate(distilled(teacher, seed=seed), workdir)
    return folder


def assert_same(workdir, expected):
    """Asserts that a run has the state, the metrics and the result of another."""
    states = final_state(workdir), final_state(expected)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for (path, a), b in zip(
        jax.tree.leaves_with_path(states[0]), jax.tree.leaves(states[1]), strict=True
    ):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=name)
    for found, other in zip(records(workdir), records(expected), strict=True):
        assert found.pop("split") == other.pop("split")
        assert found == pytest.approx(other, rel=1e-3, abs=1e-3)
    result, other = map(workdirs.read_result, (workdir, expected))
    assert result.keys() == other.keys()
    for name in ("final_step", "best_step", "parameters", "images"):
        assert result[name] == other[name], name


def test_seeds_in_one_program_stop_resume_and_end_as_they_do_alone(
    tmp_path, teacher, alone, monkeypatch
):
    """Killed in between: one of them has lost its newest checkpoint."""
    config = distilled(teacher, replicas=2, **{"checkpoint.every_steps": 2})
    programs, build_step = [], replicas.build_step

    def build_noted_step(runs, **kwargs):
        step = build_step(runs, **kwargs)

        def noted(states, *arguments):
            programs.append([int(state.step) for state in states])
            return step(states, *arguments)

        return noted

    monkeypatch.setattr(replicas, "build_step", build_noted_step)
    with monkeypatch.context() as patch:
        patch.setattr(signals, "stop_requests", StopAfter(3, programs))
        assert train.train_and_evaluate(config, tmp_path) is None
    assert programs == [[0, 0], [1, 1], [2, 2]]
    for seed in (0, 1):
        assert Checkpoints(tmp_path / f"seed_{seed}").latest_step == 3
        assert not (tmp_path / f"seed_{seed}" / "result.json").exists()
    shutil.rmtree(tmp_path / "seed_1" / "checkpoints" / "3")
    results = train.train_and_evaluate(config, tmp_path)
    # The other made its third step alone again.
    assert programs[3:] == [[3, 3], [4, 4], [5, 5]]
    assert list(results) == ["seed_0", "seed_1"]
    for name, result in results.items():
        assert result == workdirs.read_result(tmp_path / name)
        assert result["replicas"] == 2
        assert_same(tmp_path / name, alone / name)
    # Finished: nothing is trained, and each can be asked for alone.
    assert train.train_and_evaluate(config, tmp_path) == results
    first = distilled(teacher, **{"checkpoint.every_steps": 2})
    again = train.train_and_evaluate(first, tmp_path / "seed_0")
    assert again == results["seed_0"]
    assert len(programs) == 6


class StopAfter:
    """Stops as a signal would, after some programs."""

    def __init__(self, count, programs):
        self._count, self._programs = count, programs

    def __call__(self):
        return self

    def __enter__(self):
        return lambda: len(self._programs) == self._count

    def __exit__(self, *_):
        pass


@pytest.fixture
def scripted(monkeypatch):
    """Replaces the steps and the evaluations, which then compile nothing.

    Returns a function that takes the loss of each step by the seed of the run, and the
    accuracies in the order of the evaluations.
    """

    def script(losses, accuracies=()):
        accuracies = iter(accuracies)

        def step(run, state):
            metrics = {"loss": jnp.asarray(losses[run.seed][int(state.step)])}
            return dataclasses.replace(state, step=state.step + 1), metrics

        def build_step(runs, **_):
            return lambda states, *_: list(map(step, runs, states))

        def build_single_step(run, **_):
            return lambda state, *_: step(run, state)

        def evaluate(evaluator, _):
            watched = evaluator._split.num_examples == 24
            accuracy = next(accuracies) if watched else 0.0
            return Evaluation({"accuracy": accuracy, "loss": 0.0}, None, None)

        monkeypatch.setattr(replicas, "build_step", build_step)
        monkeypatch.setattr(phases_lib, "build_step", build_single_step)
        monkeypatch.setattr(Evaluator, "__call__", evaluate)

    return script


def test_a_run_that_fails_leaves_the_others_going(tmp_path, scripted):
    losses = [1.0] * 6
    scripted({0: losses, 1: [1.0, 1.0, math.inf, 1.0], 2: losses})
    config = shortened(recipes.alone("wrn_10_1,digits"), replicas=3)
    config.checkpoint.every_steps = 2
    with pytest.raises(FloatingPointError, match="not finite at step 3") as error:
        train.train_and_evaluate(config, tmp_path)
    failed = tmp_path / "seed_1"
    assert str(error.value).endswith(f"{failed} keeps the checkpoint of step 2")
    assert not (failed / "result.json").exists()
    for seed in (0, 2):
        result = workdirs.read_result(tmp_path / f"seed_{seed}")
        assert (result["final_step"], result["replicas"]) == (6, 3)


def test_each_run_ends_early_by_itself(tmp_path, scripted):
    config = shortened(recipes.alone("wrn_10_1,digits"), replicas=2, epochs=3)
    config.early_stop_epochs = config.evaluate_every_epochs = 1
    config.data.validation_fraction = 0.25
    scripted({0: [1.0] * 4, 1: [1.0] * 6}, [0.5, 0.5, 0.4, 0.6, 0.7])
    results = train.train_and_evaluate(config, tmp_path)
    assert [results[f"seed_{seed}"]["final_step"] for seed in (0, 1)] == [4, 6]
    assert results["seed_1"]["best_validation_accuracy"] == 0.7


def test_runs_have_their_values_and_one_teacher(teacher):
    several = distilled(teacher, replicas_over="methods.overhaul.weight=0.1,0.2")
    experiments = train.build_experiments(replica_configs.split(several))
    first, second = experiments.values()
    weights = [run.methods["overhaul"].weight for run in (first, second)]
    assert weights == [0.1, 0.2]
    assert first.teacher is second.teacher
    assert first.data.train is second.data.train


def test_a_teacher_sees_each_batch_once(teacher):
    """Where the order of the images is the same; by the operations of the program."""

    def flops(**overrides):
        config = distilled(teacher, replicas=2, **overrides)
        experiments = train.build_experiments(replica_configs.split(config))
        runs = [phases_lib.plan(found)[-1] for found in experiments.values()]
        starts = [phases_lib.initial_state(run, None) for run in runs]
        shapes = {i: runs[i].pipeline.shapes() for i in set(replicas.sources(runs))}
        step = replicas.build_step(runs).lower(
            [state for state, _ in starts],
            starts[0][1].teacher,
            [frozen.precomputed for _, frozen in starts],
            shapes[0][0],
            {i: sharded for i, (_, sharded) in shapes.items()},
        )
        return step.compile().cost_analysis()["flops"], experiments["seed_0"].teacher

    shared, loaded = flops()
    separate, _ = flops(**{"data.seed": -1})
    # Of a batch of 40 images, on each of four devices.
    images = jax.ShapeDtypeStruct((10, 8, 8, 3), np.float32)
    forward = jax.jit(lambda v, x: loaded.network.apply(v, x, train=False))
    lowered = forward.lower(loaded.variables, images)
    of_teacher = lowered.compile().cost_analysis()["flops"]
    assert separate - shared == pytest.approx(of_teacher, rel=0.1)
