"""A student with a head of its own: trained, resumed, evaluated, exported, teaching."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import initial_weights, networks, phases, recipes, setup, train
from kdjax.config import checks
from kdjax.evaluate import __main__ as evaluate
from kdjax.export import __main__ as export
from kdjax.export import latency
from kdjax.interop import torch_export
from kdjax.models import cost
from kdjax.runs import trained, workdirs
from tests import small_runs

IMAGE = (8, 8, 3)


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    with small_runs.shortcuts() as patch:
        patch.setattr(latency, "CALLS", 4)
        patch.setattr(export, "_IMAGES", 12)
        yield


@pytest.fixture(scope="module")
def taught_by(tmp_path_factory):
    """The work directory of a random resnet8."""
    folder = tmp_path_factory.mktemp("teacher")
    small_runs.write_teacher(folder)
    return folder


def config_of(taught_by, methods=("simkd",), **fields):
    """Returns a training in which the cross-entropy and the decay move what they can.

    SimKD alone would leave the classifier without a gradient.
    """
    methods = {name: {} for name in methods}
    config = recipes.distillation("resnet8-wrn_10_2,digits", methods)
    config.teacher.checkpoint = str(taught_by)
    config.epochs = 1
    config.update(fields)
    return config


@pytest.fixture(scope="module")
def run(taught_by, tmp_path_factory):
    """The work directory of a finished run that has an average, too."""
    folder = tmp_path_factory.mktemp("run")
    config = config_of(taught_by, ema_decay=0.9, batch_size=48)
    train.train_and_evaluate(config, folder)
    return folder


def test_what_is_trained_is_what_is_evaluated_and_counted(run, taught_by, capsys):
    result = workdirs.read_result(run)
    found, teacher_run = trained.load(run), trained.load(taught_by)
    jax.tree.map(
        np.testing.assert_array_equal,
        found.variables["params"]["classifier"],
        teacher_run.variables["params"]["classifier"],
    )
    assert "projector" in found.variables["batch_stats"]
    moved = found.variables["batch_stats"]["projector"]["bn1"]["mean"]
    assert np.any(moved != 0)
    counted = cost.of(found.network(IMAGE), IMAGE)
    assert result["parameters"]["student"] == counted.parameters
    assert result["parameters"]["method"] == {"simkd": 0}
    alone = recipes.alone("wrn_10_2,digits")
    plain = cost.of(networks.student(alone, 10, IMAGE), IMAGE)
    assert counted.multiply_adds > plain.multiply_adds

    assert evaluate.main([f"--workdir={run}"]) == 0
    printed = capsys.readouterr().out
    (accuracy,) = re.findall(r"^top-1 accuracy +([\d.]+)%", printed, re.MULTILINE)
    assert float(accuracy) == pytest.approx(
        100 * result["final_test_accuracy"], abs=0.0051
    )


def test_its_classifier_reads_the_map_that_is_compared(run):
    found = trained.load(run)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(4, *IMAGE)), jnp.float32)
    logits, features = found.network(IMAGE).apply(found.variables, image, train=False)
    assert features.last.shape == (4, 2, 2, 64)
    layer = found.variables["params"]["classifier"]
    pooled = features.last.mean((1, 2))
    np.testing.assert_allclose(features.pooled, pooled, rtol=1e-6)
    np.testing.assert_allclose(
        logits, pooled @ layer["kernel"] + layer["bias"][None], rtol=1e-5, atol=1e-6
    )


def test_a_stopped_run_resumes_bitwise(run, taught_by, tmp_path, monkeypatch):
    config = config_of(taught_by, ema_decay=0.9, batch_size=48)
    config.checkpoint.every_steps = 1
    build = phases.build_step

    def stop(*args, **kwargs):
        step = build(*args, **kwargs)

        def counted(state, *rest):
            if int(state.step) == 1:
                raise KeyboardInterrupt
            return step(state, *rest)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(phases, "build_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train.train_and_evaluate(config, tmp_path)
    train.train_and_evaluate(config, tmp_path)
    jax.tree.map(
        np.testing.assert_array_equal,
        trained.load(tmp_path).variables,
        trained.load(run).variables,
    )


def test_programs_have_the_head_and_pytorch_has_none(run, tmp_path, capsys):
    """The command keeps a file only if its logits are the network's."""
    out = tmp_path / "student.stablehlo"
    assert export.main([f"--workdir={run}", "--format=stablehlo", f"--out={out}"]) == 0
    count = cost.parameters(trained.load(run).variables)
    assert f"{count:,}" in capsys.readouterr().out
    assert out.exists()
    file = tmp_path / "student.safetensors"
    assert torch_export.main([f"--workdir={run}", f"--out={file}"]) == 2
    refusal = "no PyTorch code has a wrn_10_2 with the head of methods=['simkd']"
    assert refusal in capsys.readouterr().err
    assert not file.exists()


def test_it_teaches(run):
    """Methods see its projected map; its accuracy is that of its own run."""
    config = recipes.distillation("wrn_10_2-resnet8,digits", {"srrl": {}})
    config.teacher.checkpoint = str(run)
    experiment = train.build_experiment(config)
    own = workdirs.read_result(run)["final_test_accuracy"]
    assert experiment.teacher.evaluation.metrics["accuracy"] == own
    student, taught = setup.output_shapes(experiment)
    assert taught.features.last.shape == (1, 2, 2, 64)
    assert taught.features.block[-1].shape == (1, 2, 2, 128)
    learned = jax.eval_shape(
        experiment.methods["srrl"].init, jax.random.key(0), student, taught
    )
    assert cost.parameters(learned) == 64 * 64 + 2 * 64


def test_a_training_starts_from_a_network_with_or_without_a_head(run, taught_by):
    """What a plain network lacks is drawn; a head needs the method that made it."""
    config = config_of(taught_by)
    config.init.checkpoint = str(run)
    found, before = loaded(config), trained.load(run).variables
    # The teacher's takes its place.
    before["params"].pop("classifier")
    jax.tree.map(np.testing.assert_array_equal, found, before)

    plain = recipes.alone("wrn_10_2,digits")
    plain.init.checkpoint = str(run)
    message = r"ends in the head of methods=\['simkd'\], which this training does not"
    with pytest.raises(ValueError, match=message):
        loaded(plain)

    config.model, config.init.checkpoint = "resnet8", str(taught_by)
    found, before = loaded(config), trained.load(taught_by).variables
    before["params"].pop("classifier")
    jax.tree.map(np.testing.assert_array_equal, found, before)


def loaded(config):
    """Returns the variables that a training starts from, where they are given."""
    network = networks.student(config, 10, IMAGE)
    return initial_weights.load(config, network, 10, IMAGE)


def test_heads_that_cannot_be_are_refused_in_one_line(run, taught_by, monkeypatch):
    config = config_of(taught_by)
    config.methods.simkd.factor = 65
    with pytest.raises(ValueError, match=r"factor=65 is more than the 64 channels"):
        checks.check(config)
    config = config_of(run)
    config.teacher.model = "wrn_10_2"
    message = r"got a head from methods=\['simkd'\], and methods=\['simkd'\] need a"
    with pytest.raises(ValueError, match=message):
        checks.check(config)
    config = config_of(taught_by)
    config.teacher.classes = "other"
    with pytest.raises(ValueError, match=r"methods=\['simkd'\] read them"):
        checks.check(config)
    config = config_of(taught_by)
    config.methods["again"] = {"method": "simkd"}
    message = r"methods=\['again', 'simkd'\] each bring a head of the student, which"
    with pytest.raises(ValueError, match=message):
        checks.check(config)
    config = recipes.distillation("resnet8-mhgd_vgg7,cifar10", {"simkd": {}})
    config.teacher.checkpoint = "somewhere"
    with pytest.raises(
        ValueError, match="one reads 1024 features, and the map has 512"
    ):
        checks.check(config)
