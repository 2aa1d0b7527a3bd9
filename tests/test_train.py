"""Whole runs on the digits, small enough for a laptop's CPU."""

import contextlib
import json
import math
import shutil

import jax
import numpy as np
import optax
import pytest

from kdjax import phases as phases_lib
from kdjax import recipes, train
from kdjax.data.sources import digits
from kdjax.evaluate import Evaluator
from kdjax.runs import signals, trained, workdirs
from kdjax.runs.checkpoint import Checkpoints
from kdjax.train_state import TrainState

NETWORK = "wrn_10_1"


def tiny(methods=None, **overrides):
    """Returns a run of 6 steps in 2 epochs: 96 images in batches of 32."""
    if methods is None:
        config = recipes.alone(f"{NETWORK},digits")
    else:
        config = recipes.distillation(f"{NETWORK}-{NETWORK},digits", methods)
    config.epochs = 2
    config.batch_size = 32
    config.log_every_steps = 2
    config.evaluate_every_epochs = 2
    config.update_from_flattened_dict(overrides)
    return config


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """The work directory of a trained teacher."""
    workdir = tmp_path_factory.mktemp("teacher")
    config = recipes.teacher(f"{NETWORK},digits")
    config.epochs = 2
    config.batch_size = 100
    train.train_and_evaluate(config, workdir)
    return workdir


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory, teacher):
    """A distillation that ran from the beginning to the end."""
    workdir = tmp_path_factory.mktemp("unbroken")
    config = tiny({"overhaul": {}}, **{"teacher.checkpoint": str(teacher)})
    train.train_and_evaluate(config, workdir)
    return workdir


def final_state(workdir):
    checkpoints = Checkpoints(workdir)
    state = jax.device_get(checkpoints.restore_as_saved())
    checkpoints.close()
    return state


def assert_bitwise_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), (_, b) in zip(
        jax.tree.leaves_with_path(actual),
        jax.tree.leaves_with_path(expected),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_run_directory_holds_what_the_contract_says(unbroken, teacher):
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        "config.json",
        "inputs.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints",
        "tensorboard",
    }
    result = workdirs.read_result(unbroken)
    assert result["final_step"] == 6
    assert 0 <= result["final_test_accuracy"] <= result["best_test_accuracy"] <= 1
    found = workdirs.read_result(teacher)
    assert result["teacher_test_accuracy"] == found["final_test_accuracy"]
    assert result["parameters"]["teacher"] == result["parameters"]["student"]
    # Three connectors: 16^2 + 32^2 + 64^2 weights, scales and biases.
    assert result["parameters"]["method"] == {"overhaul": 5376 + 2 * 112}
    assert result["images"] == {"train": 96, "test": 797}
    assert result["skipped"] == {"train": 0, "test": 0}
    assert not any("validation" in name for name in result)
    assert result["config"] == workdirs.read_config(unbroken)
    assert result["config"]["methods"]["overhaul"]["margin"] == "closed_form"
    assert {"device_kind", "num_devices", "versions", "git_revision"} <= result.keys()


def test_metrics_hold_train_and_test_records_in_order(unbroken):
    found = [(r["split"], r["step"], r["epoch"]) for r in records(unbroken)]
    assert found == [
        ("teacher_test", 0, 0.0),
        ("train", 2, 2 / 3),
        ("train", 4, 4 / 3),
        ("train", 6, 2.0),
        ("test", 6, 2.0),
    ]
    trained = records(unbroken)[1]
    stages = [trained[f"overhaul/stage_{i}"] for i in (1, 2, 3)]
    expected = trained["cross_entropy"] + 1e-3 * sum(stages)
    np.testing.assert_allclose(trained["loss"], expected, rtol=1e-5)
    assert trained["learning_rate"] == pytest.approx(0.1)
    assert {"loss", "accuracy", "agreement"} <= records(unbroken)[-1].keys()


def test_tensorboard_holds_the_same_curves(unbroken):
    (events,) = (unbroken / "tensorboard").iterdir()
    content = events.read_bytes()
    for curve in (b"train/loss", b"test/accuracy", b"train/overhaul/stage_1"):
        assert curve in content


def test_a_finished_run_is_left_alone(unbroken, teacher):
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*")}
    config = tiny({"overhaul": {}}, **{"teacher.checkpoint": str(teacher)})
    result = train.train_and_evaluate(config, unbroken)
    assert result == workdirs.read_result(unbroken)
    assert {p: p.stat().st_mtime_ns for p in unbroken.rglob("*")} == before


class StopAt:
    """Stops a run before the given steps, one after the other, as a signal would.

    A step is a number, of the student's training, or the name of a phase and a number.
    """

    def __init__(self, monkeypatch, *steps):
        self.steps = [s if isinstance(s, tuple) else ("train", s) for s in steps]
        build_step = phases_lib.build_step

        def build_counted_step(phase, **kwargs):
            return self.counted(phase.name, build_step(phase, **kwargs))

        monkeypatch.setattr(phases_lib, "build_step", build_counted_step)
        monkeypatch.setattr(signals, "stop_requests", self)

    def counted(self, name, step):
        def count_and_step(state, *args):
            state, metrics = step(state, *args)
            self.done = name, int(state.step)
            return state, metrics

        return count_and_step

    def __call__(self):
        return self

    def __enter__(self):
        self.done = None
        return lambda: bool(self.steps) and self.done == self.steps[0]

    def __exit__(self, *_):
        self.steps = self.steps[1:]


def test_a_stopped_and_resumed_run_ends_bitwise_the_same(
    tmp_path, unbroken, teacher, monkeypatch
):
    """In the middle of an interval of logging, of an epoch and at its end."""
    config = tiny({"overhaul": {}}, **{"teacher.checkpoint": str(teacher)})
    StopAt(monkeypatch, 1, 3, 5)
    for _ in range(3):
        assert train.train_and_evaluate(config, tmp_path) is None
        assert not (tmp_path / "result.json").exists()
    assert train.train_and_evaluate(config, tmp_path) is not None
    assert_bitwise_equal(final_state(tmp_path), final_state(unbroken))
    assert records(tmp_path) == records(unbroken)


def test_a_run_does_not_go_on_with_another_number_of_images(tmp_path, monkeypatch):
    """As when files were added to a folder, or are bad now."""
    StopAt(monkeypatch, 1)
    assert train.train_and_evaluate(tiny(), tmp_path) is None
    whole = digits.load()
    fewer = whole | {"train": whole["train"].select(np.arange(958))}
    monkeypatch.setattr(digits, "load", lambda: fewer)
    message = r"on a data set of \{'train': 96, 'test': 797\} images, .*'train': 92,"
    with pytest.raises(ValueError, match=message):
        train.train_and_evaluate(tiny(), tmp_path)
    monkeypatch.setattr(digits, "load", lambda: whole)
    assert train.train_and_evaluate(tiny(), tmp_path) is not None


def test_a_run_goes_on_for_more_epochs_and_not_for_fewer(tmp_path, monkeypatch):
    """With a checkpoint of step 4, in its second epoch of three steps."""

    def changed(**fields):
        return tiny(**{"checkpoint.allow_config_change": True}, **fields)

    StopAt(monkeypatch, 4)
    assert train.train_and_evaluate(tiny(), tmp_path) is None
    with pytest.raises(ValueError, match=r"of step 4, beyond the last step, 3, of ep"):
        train.train_and_evaluate(changed(epochs=1), tmp_path)
    with pytest.raises(ValueError, match="with batch_size=32, and batch_size=16"):
        train.train_and_evaluate(changed(batch_size=16), tmp_path)
    # A copy under a step beyond the end is passed over.
    shutil.copytree(tmp_path / "checkpoints/4", tmp_path / "checkpoints/9999")
    before = train.train_and_evaluate(tiny(), tmp_path)
    steps = [r["step"] for r in records(tmp_path) if r["split"] == "train"]
    assert steps == sorted(set(steps))
    with pytest.raises(ValueError, match=r"epochs=1 is less than the 2 epochs that wo"):
        train.train_and_evaluate(changed(epochs=1), tmp_path)
    with pytest.raises(ValueError, match=r"epochs was 2 and is 3; checkpoint\.allow"):
        train.train_and_evaluate(tiny(epochs=3), tmp_path)
    with pytest.raises(ValueError, match=r"is finished, and only more .*seed was 0 an"):
        train.train_and_evaluate(changed(seed=1), tmp_path)
    with pytest.raises(ValueError, match="with batch_size=32, and batch_size=16"):
        train.train_and_evaluate(changed(epochs=3, batch_size=16), tmp_path)
    assert workdirs.read_result(tmp_path) == before
    assert workdirs.read_config(tmp_path)["batch_size"] == 32
    after = train.train_and_evaluate(changed(epochs=3), tmp_path)
    assert (before["final_step"], after["final_step"]) == (6, 9)
    assert json.loads((tmp_path / "result_of_2_epochs.json").read_text()) == before
    steps = [r["step"] for r in records(tmp_path) if r["split"] == "train"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 9


def validated(teacher):
    """Returns a run of 4 steps in 2 epochs: 72 images, 24 to validate on.

    Its optimizer has two momenta, and a moving average of the student is evaluated.
    """
    return tiny(
        {"kd": {"gradient_combination": "dot"}},
        **{
            "teacher.checkpoint": str(teacher),
            "data.validation_fraction": 0.25,
            "batch_size": 36,
            "ema_decay": 0.9,
            "evaluate_every_epochs": 1,
        },
    )


@contextlib.contextmanager
def evaluations():
    """Lists how many images each evaluation within it looked at.

    `Evaluator.seen` are the variables that the last one evaluated.
    """
    found, evaluate = [], Evaluator.__call__

    def listed(evaluator, variables):
        found.append(evaluator._split.num_examples)
        Evaluator.seen = jax.device_get(variables)
        return evaluate(evaluator, variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "__call__", listed)
        yield found


@pytest.fixture(scope="session")
def unbroken_validated(tmp_path_factory, teacher):
    """A distillation with a validation part, and what it evaluated on."""
    workdir = tmp_path_factory.mktemp("validated")
    with evaluations() as found:
        train.train_and_evaluate(validated(teacher), workdir)
    state = final_state(workdir)
    assert_bitwise_equal(Evaluator.seen, state["batch_stats"]["average"])
    return workdir, found


def test_beside_a_validation_part_the_test_split_is_looked_at_once_at_the_end(
    unbroken_validated, teacher
):
    workdir, looked_at = unbroken_validated
    # Teacher, student after each epoch; then both on the test split.
    assert looked_at == [24, 24, 24, 797, 797]
    found = [(r["split"], r["step"]) for r in records(workdir)]
    assert found == [
        ("teacher_validation", 0),
        ("train", 2),
        ("validation", 2),
        ("train", 4),
        ("validation", 4),
        ("teacher_test", 4),
        ("test", 4),
    ]
    first, last = (r for r in records(workdir) if r["split"] == "validation")
    taught, test = records(workdir)[-2:]
    assert {"loss", "accuracy", "agreement"} <= test.keys() & last.keys()
    result = workdirs.read_result(workdir)
    best = max(last, first, key=lambda record: record["accuracy"])
    assert result["best_step"] == best["step"]
    assert result["best_validation_accuracy"] == best["accuracy"]
    assert result["final_validation_accuracy"] == last["accuracy"]
    assert result["final_test_accuracy"] == test["accuracy"]
    assert result["best_test_accuracy"] is None
    assert result["teacher_test_accuracy"] == taught["accuracy"]
    own = workdirs.read_result(teacher)
    assert taught["accuracy"] == own["final_test_accuracy"]
    assert result["images"] == {"train": 72, "validation": 24, "test": 797}


def test_a_broken_run_with_a_validation_part_ends_the_same(
    tmp_path, unbroken_validated, teacher, monkeypatch
):
    """Stopped; then a full disk at the last save; then killed before the result."""
    config = validated(teacher)
    StopAt(monkeypatch, 3)
    with evaluations() as looked_at:
        assert train.train_and_evaluate(config, tmp_path) is None
    assert looked_at == [24, 24]

    def fail(*_):
        raise OSError("full")

    for place, name in ((Checkpoints, "save"), (workdirs, "write_result")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(OSError, match="full"):
                train.train_and_evaluate(config, tmp_path)
        assert records(tmp_path)[-1]["split"] == "test"
    with evaluations() as looked_at:
        result = train.train_and_evaluate(config, tmp_path)
    assert looked_at == [24]
    workdir, _ = unbroken_validated
    lines = [(run / "metrics.jsonl").read_bytes() for run in (tmp_path, workdir)]
    assert lines[0] == lines[1]
    assert_bitwise_equal(final_state(tmp_path), final_state(workdir))
    unbroken = workdirs.read_result(workdir)
    speeds = {"wall_s", "images_per_s", "phases"}
    assert result.keys() == unbroken.keys()
    for name in result.keys() - speeds:
        assert result[name] == unbroken[name], name


def test_a_training_ends_early_and_stays_ended(tmp_path, monkeypatch):
    """One epoch after the best accuracy; then killed before the result."""
    fields = {"data.validation_fraction": 0.25, "batch_size": 36, "epochs": 9}
    config = tiny(**fields, evaluate_every_epochs=1, early_stop_epochs=1)
    evaluate, accuracies = Evaluator.__call__, [0.5, 0.6, 0.4]

    def scripted(evaluator, variables):
        found = evaluate(evaluator, variables)
        if evaluator._split.num_examples == 24:
            found.metrics["accuracy"] = accuracies.pop(0)
        return found

    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr(Evaluator, "__call__", scripted)
    with monkeypatch.context() as patch:
        patch.setattr(workdirs, "write_result", fail)
        with pytest.raises(OSError, match="full"):
            train.train_and_evaluate(config, tmp_path)
    result = train.train_and_evaluate(config, tmp_path)
    assert accuracies == []
    assert result["final_step"] == result["phases"]["train"]["steps"] == 6
    assert (result["best_step"], result["best_validation_accuracy"]) == (4, 0.6)
    found = [(r["split"], r["step"]) for r in records(tmp_path)]
    assert found[-2:] == [("validation", 6), ("test", 6)]


def test_the_moving_average_is_loaded_in_place_of_the_student(unbroken_validated):
    workdir, _ = unbroken_validated
    state = final_state(workdir)
    loaded = trained.load(workdir).variables
    assert_bitwise_equal(loaded, state["batch_stats"]["average"])
    for collection in ("params", "batch_stats"):
        for own, averaged in zip(
            jax.tree.leaves(state[collection]["student"]),
            jax.tree.leaves(loaded[collection]),
            strict=True,
        ):
            assert not np.array_equal(own, averaged)


#: Of the routes and gradients those that compile fastest.
MHGD = {"mhgd": {"heads": 2, "algorithm": "gram", "gradient": "projection"}}
#: Two epochs of three full batches in every phase.
PHASES = {"batch_size": 32, "pretrain.epochs": 2, "distill_first.epochs": 2}


@pytest.fixture(scope="session")
def unbroken_phases(tmp_path_factory, teacher):
    """A distillation by initialization, which has every phase there is."""
    workdir = tmp_path_factory.mktemp("phases")
    config = tiny(MHGD, **{"teacher.checkpoint": str(teacher), **PHASES})
    train.train_and_evaluate(config, workdir)
    return workdir


def test_every_phase_shuffles_in_an_order_of_its_own(teacher, monkeypatch):
    config = tiny(MHGD, **{"teacher.checkpoint": str(teacher), **PHASES})
    experiment = train.build_experiment(config)
    plan = phases_lib.plan(experiment)
    orders = {tuple(np.asarray(p.pipeline.plan.order(0)).tolist()) for p in plan}
    assert len(orders) == len(plan) == 3
    # And counts its own steps.
    counted = []
    monkeypatch.setattr(
        phases_lib.step_lib,
        "make_train_step",
        lambda *_, steps_per_epoch, total_steps, **__: counted.append(
            (steps_per_epoch, total_steps)
        ),
    )
    for phase in plan:
        phases_lib.build_step(phase)
    assert counted == [(3, 6)] * 3
    # And computes its batches in parts.
    parts = []
    monkeypatch.setattr(
        phases_lib.accumulate, "in_parts", lambda _, number: parts.append(number)
    )
    smoothing = []
    monkeypatch.setattr(
        phases_lib.objective,
        "student_objective",
        lambda *_, label_smoothing, **__: smoothing.append(label_smoothing),
    )
    experiment.config.accumulate, experiment.config.label_smoothing = 2, 0.1
    phases_lib.plan(experiment)
    assert (parts, smoothing) == ([2] * 3, [0.1] * 2)
    experiment.config.accumulate = 3
    with pytest.raises(ValueError, match="not divisible by accumulate=3 on 4 devices"):
        phases_lib.plan(experiment)


def test_every_phase_has_its_own_metrics_and_checkpoints(unbroken_phases):
    for phase in ("pretrain", "distill_first"):
        folder = unbroken_phases / phase
        assert {path.name for path in folder.iterdir()} == {
            "metrics.jsonl",
            "checkpoints",
            "tensorboard",
        }
        found = [(r["split"], r["step"]) for r in records(folder)]
        assert found[0] == ("teacher_test", 0)
        assert found[1:] == [("train", 2), ("train", 4), ("train", 6)]
    pretrained, initialized = (
        records(unbroken_phases / name)[-1] for name in ("pretrain", "distill_first")
    )
    assert "accuracy" not in pretrained
    assert {"mhgd/pair_1", "mhgd/pair_2"} <= pretrained.keys() & initialized.keys()
    # Of the two only the first learns, and the second is all of the loss.
    pairs = [initialized[f"mhgd/pair_{pair}"] for pair in (1, 2)]
    np.testing.assert_allclose(initialized["loss"], 128 * sum(pairs), rtol=1e-5)
    result = workdirs.read_result(unbroken_phases)
    assert list(result["phases"]) == ["pretrain", "distill_first", "train"]
    assert all(phase["steps"] == 6 for phase in result["phases"].values())
    assert result["wall_s"] == sum(p["wall_s"] for p in result["phases"].values())
    assert result["parameters"]["method"] == {"mhgd": 0}
    # Pairs of 16, 32 and 64 channels, two heads of (front + back) / 2.
    width = {1: 24, 2: 48}
    front, back = {1: 16, 2: 32}, {1: 32, 2: 64}
    assert result["parameters"]["pretrained"]["mhgd"] == sum(
        (front[p] + back[p] + 4) * 2 * width[p]
        + (front[p] + 2) * width[p]
        + (2 * width[p] + 1) * back[p]
        for p in (1, 2)
    )


def test_the_initialization_leaves_the_classifier_alone(
    unbroken_phases, teacher, tmp_path
):
    config = tiny(MHGD, **{"teacher.checkpoint": str(teacher), **PHASES})
    _, distill_first, task = phases_lib.plan(train.build_experiment(config))
    before = TrainState(**final_state(unbroken_phases / "pretrain"))
    start, _ = phases_lib.initial_state(distill_first, before)
    after = final_state(unbroken_phases / "distill_first")
    for path, value in jax.tree.leaves_with_path(after["params"]["student"]):
        untouched = np.array_equal(value, lookup(start.params["student"], path))
        assert untouched == ("classifier" in jax.tree_util.keystr(path))
    momentum = optax.tree.get(after["opt_state"], "trace")["student"]["classifier"]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(momentum))
    begun, _ = phases_lib.initial_state(task, TrainState(**after))
    assert_bitwise_equal(
        jax.device_get(begun.params),
        {"methods": {}, "student": after["params"]["student"]},
    )


def lookup(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


def test_phases_resume_bitwise_too(tmp_path, teacher, monkeypatch):
    """Stopped within the preparation, at its end, and within the transfer.

    The clipping of the transfer counts epochs from the state's step.
    """
    overrides = {"batch_size": 32, "pretrain.epochs": 1}
    config = tiny(MHGD, **{"teacher.checkpoint": str(teacher), **overrides})
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train.train_and_evaluate(config, unbroken)
    stops = [("pretrain", 1), ("pretrain", 3), ("train", 4)]
    StopAt(monkeypatch, *stops)
    for _ in stops:
        assert train.train_and_evaluate(config, broken) is None
    assert train.train_and_evaluate(config, broken) is not None
    for folder in ("pretrain", "."):
        assert_bitwise_equal(
            final_state(broken / folder), final_state(unbroken / folder)
        )
        assert records(broken / folder) == records(unbroken / folder)


def test_what_a_kill_left_of_later_records_is_written_again(
    tmp_path, unbroken, teacher, monkeypatch
):
    config = tiny({"overhaul": {}}, **{"teacher.checkpoint": str(teacher)})
    StopAt(monkeypatch, 3)
    train.train_and_evaluate(config, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epoch": 1.3, "split": "train", "loss": 99}\n{"st')
    train.train_and_evaluate(config, tmp_path)
    assert records(tmp_path) == records(unbroken)


def test_keeps_the_newest_and_the_best_checkpoints(tmp_path):
    config = tiny(**{"epochs": 6, "evaluate_every_epochs": 1, "seed": 3})
    config.checkpoint.keep_last = 1
    config.checkpoint.every_steps = 2
    result = train.train_and_evaluate(config, tmp_path)
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {result["final_step"], result["best_step"]}


@pytest.fixture
def compilations():
    """A list that grows with every program XLA compiles or takes from its cache."""
    found = []

    def listen(event, duration, **details):
        if event.endswith("/backend_compile_duration"):
            found.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("drop_remainder", "first_steps"), [(False, {0, 2}), (True, {0})]
)
def test_the_step_is_compiled_once_for_each_size_of_batch(
    tmp_path, monkeypatch, compilations, drop_remainder, first_steps
):
    compiling_steps = set()
    original = phases_lib.build_step

    def build_watched_step(phase, **kwargs):
        step = original(phase, **kwargs)

        def watched(state, *args):
            number, before = int(state.step), len(compilations)
            result = step(state, *args)
            if len(compilations) > before:
                compiling_steps.add(number)
            return result

        return watched

    monkeypatch.setattr(phases_lib, "build_step", build_watched_step)
    # Of 96 images, batches of 40, 40 and 16, or no third.
    config = tiny(**{"batch_size": 40, "data.drop_remainder": drop_remainder})
    train.train_and_evaluate(config, tmp_path)
    assert compiling_steps == first_steps


def test_two_steps_in_one_program_are_those_of_two_programs(
    tmp_path, teacher, monkeypatch
):
    """Logged, evaluated and saved where they were; a run stops between programs.

    The two round differently. A unit next to zero may then have a gradient in one of
    them only, of which the large learning rate of the other tests makes a percent.
    """
    config = tiny({"overhaul": {}}, **{"teacher.checkpoint": str(teacher)})
    config.optimizer.learning_rate = 1e-3
    expected = tmp_path / "single"
    train.train_and_evaluate(config, expected)
    config.steps_per_dispatch = 2
    looped = tmp_path / "looped"
    StopAt(monkeypatch, 2)
    assert train.train_and_evaluate(config, looped) is None
    assert Checkpoints(looped).latest_step == 2
    train.train_and_evaluate(config, looped)
    for found, other in zip(records(looped), records(expected), strict=True):
        assert found.pop("split") == other.pop("split")
        assert found == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_a_run_on_erased_and_mixed_images_initializes_and_resumes_bitwise(
    tmp_path, teacher, monkeypatch
):
    """With a smaller last batch, on four devices."""
    config = tiny(
        {"kd": {}},
        **{
            "batch_size": 40,
            "teacher.checkpoint": str(teacher),
            "data.random_erasing": 0.5,
            "data.mixup": 1.0,
            "distill_first.epochs": 1,
            "epochs": 1,
        },
    )
    train.train_and_evaluate(config, tmp_path / "unbroken")
    stopped = tmp_path / "stopped"
    StopAt(monkeypatch, ("distill_first", 2), 1)
    for _ in range(2):
        assert train.train_and_evaluate(config, stopped) is None
    assert train.train_and_evaluate(config, stopped) is not None
    assert_bitwise_equal(final_state(stopped), final_state(tmp_path / "unbroken"))
    assert records(stopped) == records(tmp_path / "unbroken")
    first = next(r for r in records(stopped) if r["split"] == "train")
    assert first["loss"] == pytest.approx(first["cross_entropy"], rel=1e-6)


def test_a_loss_that_is_not_finite_is_named_with_its_step(tmp_path, teacher):
    config = tiny(
        {"overhaul": {"weight": 1e-3}},
        **{"teacher.checkpoint": str(teacher), "optimizer.learning_rate": 1e30},
    )
    config.log_every_steps = 1
    config.checkpoint.every_steps = 1
    with pytest.raises(FloatingPointError, match=r"not finite at step \d") as error:
        train.train_and_evaluate(config, tmp_path)
    assert "overhaul/stage_1" in str(error.value)
    assert str(error.value).endswith(f"{tmp_path} keeps the checkpoint of step 1")
    assert not (tmp_path / "result.json").exists()
    assert all(map(np.all, map(np.isfinite, jax.tree.leaves(final_state(tmp_path)))))


def test_measured_margins_train_too(tmp_path, teacher):
    config = tiny(
        {"overhaul": {"margin": "measured"}},
        **{"teacher.checkpoint": str(teacher), "batch_norm": "synchronized"},
    )
    config.epochs = 1
    result = train.train_and_evaluate(config, tmp_path)
    assert math.isfinite(result["final_test_accuracy"])


def test_bfloat16_keeps_parameters_statistics_and_losses_in_float32(tmp_path, teacher):
    config = tiny(
        {"overhaul": {}}, **{"teacher.checkpoint": str(teacher), "dtype": "bfloat16"}
    )
    config.epochs = 1
    train.train_and_evaluate(config, tmp_path)
    state = final_state(tmp_path)
    for part in ("params", "batch_stats"):
        types = {leaf.dtype for leaf in jax.tree.leaves(state[part])}
        assert types <= {np.dtype(np.float32), np.dtype(np.int32)}, part
