"""Trainings that start from weights of an earlier run or of an import."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from kdjax import phases, recipes, teacher, train
from kdjax.config import checks
from kdjax.interop import torch_import
from kdjax.runs import summary, trained, workdirs
from tests.interop.test_torch_import import checkpoint
from tests.small_runs import RESULT, shortcuts

NETWORK = "wrn_10_1"


def imported(folder, classes, *flags, model=NETWORK, **layout):
    path, _ = checkpoint(
        folder / "weights.pth", model=model, num_classes=classes, **layout
    )
    out = folder / "imported"
    constants = ("--mean_std", *["78"] * 3, *["96"] * 3)
    arguments = (path, "--model", model, "--out", out, *constants, *flags)
    assert torch_import.main([*map(str, arguments)]) == 0
    return out


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """An imported network of seven classes of data that kdjax does not know."""
    return imported(tmp_path_factory.mktemp("seven"), 7, "--data=none")


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """An imported network of the ten digits."""
    return imported(tmp_path_factory.mktemp("ten"), 10, "--data=digits")


def starting_from(workdir, classifier="keep", model=NETWORK):
    config = recipes.alone(f"{model},digits")
    config.init.checkpoint, config.init.classifier = str(workdir), classifier
    config.epochs, config.batch_size = 1, 48
    return config


def start(config):
    """Returns the student's variables before the first step."""
    experiment = train.build_experiment(config)
    state, _ = phases.initial_state(phases.plan(experiment)[-1], None)
    state = jax.device_get(state)
    return {
        collection: getattr(state, collection)["student"]
        for collection in ("params", "batch_stats")
    }


def test_a_kept_network_is_where_the_training_starts(ten):
    found = start(starting_from(ten))
    jax.tree.map(np.testing.assert_array_equal, found, trained.load(ten).variables)


def test_a_new_classifier_is_that_of_a_training_from_nothing(seven):
    found = start(starting_from(seven, "new"))
    scratch = start(recipes.alone(f"{NETWORK},digits"))
    before = trained.load(seven).variables
    classifier = found["params"].pop("classifier")
    jax.tree.map(
        np.testing.assert_array_equal, classifier, scratch["params"]["classifier"]
    )
    assert len(before["params"].pop("classifier")["bias"]) == 7
    jax.tree.map(np.testing.assert_array_equal, found, before)


def test_weights_of_other_classes_become_a_teacher(seven, tmp_path):
    """In one training; and its student starts from weights, too."""
    with shortcuts():
        train.train_and_evaluate(starting_from(seven, "new"), tmp_path / "teacher")
        config = recipes.distillation(f"{NETWORK}-{NETWORK},digits", {"kd": {}})
        config.teacher.checkpoint = str(tmp_path / "teacher")
        config.init.checkpoint = str(tmp_path / "teacher")
        config.epochs = 1
        result = train.train_and_evaluate(config, tmp_path / "student")
    record, *_ = (tmp_path / "student/metrics.jsonl").read_text().splitlines()
    assert json.loads(record)["split"] == "teacher_test"
    assert result["config"]["init"]["classifier"] == "keep"


def test_a_transformer_starts_and_teaches_with_new_heads(tmp_path):
    """No batch norms, a second head, images of another size, a moving average."""
    model = "vit_4_64_distilled"
    before = imported(tmp_path, 7, "--data=none", model=model, layout="timm")
    config = starting_from(before, "new", model)
    config.ema_decay, config.optimizer.learning_rate = 0.9, 0.0
    config.optimizer.warm_up_epochs = 0.0
    with shortcuts():
        train.train_and_evaluate(config, tmp_path / "teacher")
    found, given = map(trained.load, (tmp_path / "teacher", before))
    assert found.variables.keys() == {"params", "batch_stats"}
    assert not found.variables["batch_stats"]
    for name in trained.LAST_LAYERS:
        assert len(given.variables["params"].pop(name)["bias"]) == 7
        assert len(found.variables["params"].pop(name)["bias"]) == 10
    jax.tree.map(np.testing.assert_allclose, found.variables, given.variables)
    kd = recipes.distillation(f"{model}-{NETWORK},digits", {"kd": {}})
    kd.teacher.checkpoint = str(tmp_path / "teacher")
    checks.check(kd)
    loaded = teacher.load(
        kd.teacher, 10, (8, 8, 3), normalization=teacher.Normalization((78,), (96,))
    )
    assert loaded.variables.keys() == {"params", "batch_stats"}


def test_imported_weights_of_other_classes_do_not_teach(seven):
    config = recipes.distillation(f"{NETWORK}-{NETWORK},digits", {"kd": {}})
    config.teacher.checkpoint = str(seven)
    message = "has 7 classes, but the data set has 10: train it on these first, with in"
    with pytest.raises(ValueError, match=message):
        teacher.load(config.teacher, 10, (8, 8, 3), normalization=None)


@pytest.mark.parametrize(
    ("classifier", "model", "message"),
    [
        (
            "keep",
            NETWORK,
            "has 7 classes, but data.name='digits' has 10: init.classifier='new' repl",
        ),
        ("new", "wrn_16_1", "holds model='wrn_10_1', but model='wrn_16_1'"),
    ],
)
def test_another_network_is_refused(seven, tmp_path, classifier, model, message):
    config = starting_from(seven, classifier, model)
    expected = re.escape(f"init.checkpoint={str(seven)!r} {message}")
    with pytest.raises(ValueError, match=expected):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_finished_is_refused(ten, tmp_path):
    shutil.copytree(ten, tmp_path / "run")
    (tmp_path / "run" / trained.SOURCE).unlink()
    with pytest.raises(ValueError, match="is not finished, and its last checkpoint"):
        train.build_experiment(starting_from(tmp_path / "run"))
    workdirs.write_result(tmp_path / "run", RESULT)
    train.build_experiment(starting_from(tmp_path / "run"))


def test_another_normalization_is_a_warning(ten, capfd):
    config = starting_from(ten)
    config.data.std = (255.0,) * 3
    train.build_experiment(config)
    said = capfd.readouterr()
    assert "was trained with data.std=(96.0, 96.0, 96.0), not (255.0," in (
        said.out + said.err
    )
    assert "data.mean" not in said.out + said.err


@pytest.mark.parametrize("run", [train.train_and_evaluate, summary.dry_run])
def test_nothing_is_trained_in_the_directory_of_an_import(ten, run):
    before = sorted(ten.rglob("*"))
    config = starting_from(ten)
    config.checkpoint.allow_config_change = True
    with pytest.raises(
        ValueError, match=r"holds an imported network: .* set init\.checkpoint='"
    ):
        run(config, ten)
    assert sorted(ten.rglob("*")) == before


def test_the_start_is_announced(ten, tmp_path):
    said = summary.dry_run(starting_from(ten), tmp_path / "run")
    assert f"parameters,from{ten}" in "".join(said.split())
