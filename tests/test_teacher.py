import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models, recipes, teacher, train
from kdjax.data import normalization
from kdjax.data.normalization import Normalization
from kdjax.evaluate import Evaluation
from kdjax.evaluate import __main__ as evaluate_command
from kdjax.runs import summary, workdirs
from tests import small_runs

#: Shape of a digit.
IMAGE = (8, 8, 3)
#: Of the recipe `digits`.
NORMALIZATION = Normalization((78.0,) * 3, (96.0,) * 3)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The work directory of a network for the ten digits, hardly trained."""
    workdir = tmp_path_factory.mktemp("trained")
    config = recipes.alone("wrn_10_1,digits")
    config.epochs = 1
    config.batch_size = 100
    # So slow that the network stays at chance.
    config.optimizer.learning_rate = 1e-12
    train.train_and_evaluate(config, workdir)
    return workdir


def settings(checkpoint, model="wrn_10_1"):
    config = recipes.distillation(f"{model}-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = str(checkpoint)
    return config


def test_loads_what_was_trained(trained):
    loaded = teacher.load(
        settings(trained).teacher, 10, IMAGE, normalization=NORMALIZATION
    )
    kernel = loaded.variables["params"]["classifier"]["kernel"]
    assert kernel.shape == (64, 10)
    assert isinstance(kernel, np.ndarray)
    assert loaded.variables["batch_stats"].keys() <= loaded.variables["params"].keys()


def test_a_teacher_of_other_classes_is_refused(trained):
    config = settings(trained).teacher
    names = [str(digit) for digit in range(10)]
    swapped = [*names[:3], "4", "3", *names[5:]]

    def load(names):
        return teacher.load(
            config, 10, IMAGE, normalization=NORMALIZATION, class_names=names
        )

    load(names)
    message = r"other classes .*: class 3 was '3' and is '4'; teacher\.classes='any' d"
    with pytest.raises(ValueError, match=message):
        load(swapped)
    config.classes = "any"
    load(swapped)


def test_a_run_that_is_not_finished_is_refused_but_for_a_named_step(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    config = settings(tmp_path / "run").teacher
    arguments = (config, 10, IMAGE)
    (step,) = (path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    for config.step in ("last", "best"):
        with pytest.raises(
            ValueError, match=rf"not finished.* teacher\.step={step} tak"
        ):
            teacher.load(*arguments, normalization=NORMALIZATION)
    config.step = step
    teacher.load(*arguments, normalization=NORMALIZATION)
    config.step = "77"
    with pytest.raises(ValueError, match=rf"step='77' is neither .*: {step}$"):
        teacher.load(*arguments, normalization=NORMALIZATION)


@pytest.mark.parametrize(
    ("model", "num_classes", "message"),
    [
        ("wrn_16_1", 10, r"holds model='wrn_10_1', but teacher\.model='wrn_16_1'"),
        (
            "wrn_10_1",
            100,
            r"has 10 classes, but the data set has 100: train it on these first, with "
            r"init\.checkpoint='.*' and init\.classifier='new', or choose methods that "
            r"do not read its logits and set teacher\.classes='other'$",
        ),
    ],
)
def test_another_network_is_refused_with_what_differs(
    trained, model, num_classes, message
):
    with pytest.raises(ValueError, match=message):
        teacher.load(
            settings(trained, model).teacher,
            num_classes,
            IMAGE,
            normalization=NORMALIZATION,
        )


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"teacher\.checkpoint=.* is not the work dir"):
        teacher.load(settings(tmp_path).teacher, 10, IMAGE, normalization=NORMALIZATION)


def test_a_run_without_a_checkpoint_is_refused_and_left_alone(tmp_path):
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    with pytest.raises(ValueError, match="holds no checkpoint yet"):
        teacher.load(settings(tmp_path).teacher, 10, IMAGE, normalization=NORMALIZATION)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_teacher_at_chance_stops_the_run_before_it_starts(trained, tmp_path):
    with pytest.raises(ValueError, match=r"test accuracy is [\d.]+%, no better than"):
        train.train_and_evaluate(settings(trained), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def evaluation(counts, right):
    """Returns an evaluation on images of each class of which so many are right."""
    label = np.repeat(np.arange(len(counts)), counts)
    correct = np.arange(len(label)) < right
    prediction = np.where(correct, label, (label + 1) % len(counts))
    return Evaluation({}, prediction, label)


@pytest.mark.parametrize(
    ("counts", "right"),
    [([100] * 100, 130), ([4, 4], 8), ([10, 10], 16), ([5, 5], 10), ([1, 1], 0)],
)
def test_a_teacher_better_than_chance_is_accepted(counts, right):
    teacher.check_above_chance(evaluation(counts, right), "test")


@pytest.mark.parametrize(
    ("counts", "right", "message"),
    [
        ([100] * 100, 120, r"accuracy is 1\.20%, no better than chance \(1\.00% of"),
        ([10, 10], 13, r"accuracy is 65\.00%, no better than chance \(50\.00% of"),
        # Always the frequent class.
        ([190, 10], 190, r"accuracy is 95\.00%, no better than chance \(95\.00% of"),
    ],
)
def test_a_teacher_no_better_than_the_most_frequent_class_is_refused(
    counts, right, message
):
    with pytest.raises(ValueError, match=f"the teacher's test {message}"):
        teacher.check_above_chance(evaluation(counts, right), "test")


def test_few_images_are_a_warning(capsys):
    teacher.check_above_chance(evaluation([3, 3], 6), "test")
    assert "6 test images, 50% of them of one class, are too few" in (
        capsys.readouterr().err
    )
    teacher.check_above_chance(evaluation([4, 4], 8), "test")
    assert capsys.readouterr().err == ""


def test_a_teacher_sees_images_normalized_with_its_own_precomputed(trained):
    """Whatever the student's are: pixels are what both have in common."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, *IMAGE), np.uint8)
    answers = {}
    for name, constants in {
        "own": NORMALIZATION,
        "other": Normalization((125.0, 60.0, 10.0), (63.0, 100.0, 20.0)),
    }.items():
        loaded = teacher.load(
            settings(trained).teacher, 10, IMAGE, normalization=constants
        )
        image = normalization.normalize(pixels, mean=constants.mean, std=constants.std)
        for network in (loaded.network, loaded.local):
            answers[name], _ = network.apply(loaded.variables, image, train=False)
        assert isinstance(loaded.network, teacher.Renormalized) == (name == "other")
    np.testing.assert_allclose(answers["own"], answers["other"], rtol=0, atol=1e-5)


# A teacher of other classes.


@pytest.fixture(scope="module")
def of_twenty_classes(tmp_path_factory):
    """The work directory of a random network of twenty classes."""
    workdir = tmp_path_factory.mktemp("of_twenty_classes")
    small_runs.write_teacher(workdir, num_classes=20)
    return workdir


def taught_by(checkpoint, methods, classes="other"):
    config = recipes.distillation("resnet8-wrn_10_1,digits", methods)
    config.teacher.checkpoint = str(checkpoint)
    config.teacher.classes = classes
    config.epochs = 1
    return config


def test_features_are_learned_from_a_teacher_of_other_classes(
    of_twenty_classes, tmp_path, capsys
):
    methods = {"overhaul": {}, "attention_transfer": {}}
    config = taught_by(of_twenty_classes, methods)
    config.data.validation_fraction = 0.2
    config.data.drop_remainder = True
    result = train.train_and_evaluate(config, tmp_path)
    said = capsys.readouterr().err
    line = "teacher.classes='other': the teacher's accuracy is not measured, and "
    assert said.count(line) == 1
    # 64 * 20 + 20 of them in the classifier.
    parameters = result["parameters"]["teacher"]
    assert f"resnet8, {parameters - 1300:,} parameters but for the" in said
    assert result["teacher_test_accuracy"] is None
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = list(map(json.loads, lines))
    assert {x["split"] for x in records} == {"train", "validation", "test"}
    assert not any("agreement" in x for x in records)
    trained_on = next(x for x in records if x["split"] == "train")
    for name in methods:
        assert any(key.startswith(f"{name}/") for key in trained_on)

    assert evaluate_command.main(["--workdir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "top-1 accuracy" in said.out
    assert "agreement" not in said.out + said.err


def test_a_teacher_of_other_classes_gives_no_logits_of_its_heads_either():
    network = teacher.WithoutLogits(models.build("vit_4_64_distilled", 20))
    (logits, features), variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False),
        jnp.zeros((1, 8, 8, 3)),
    )
    assert logits is None
    assert features.heads == ()
    assert "distillation_classifier" in variables["params"]


@pytest.mark.parametrize(
    "methods",
    [{"kd": {}}, {"overhaul": {}, "mine": {"method": "kd"}}, {"jacobian": {}}],
)
def test_methods_that_read_logits_are_refused_other_classes(methods, tmp_path):
    """Before the teacher is looked for."""
    name = list(methods)[-1]
    config = taught_by(tmp_path / "gone", methods)
    message = rf"^teacher\.classes='other' .* methods=\['{name}'\] read them: "
    with pytest.raises(ValueError, match=message):
        summary.dry_run(config, None)


def test_another_number_of_classes_is_refused_unless_they_are_other(
    of_twenty_classes, tmp_path
):
    for classes in ("same", "any"):
        config = taught_by(of_twenty_classes, {"overhaul": {}}, classes)
        with pytest.raises(ValueError, match="has 20 classes, but the data set has 10"):
            train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("train", [False, True])
def test_a_teacher_of_other_classes_gives_the_features_of_its_network(
    of_twenty_classes, train
):
    """Of images normalized with its own constants, and no logits."""
    config = taught_by(of_twenty_classes, {"overhaul": {}}).teacher
    loaded = teacher.load(config, 10, IMAGE, normalization=NORMALIZATION)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *IMAGE), np.uint8)

    def outputs(network, mean, std):
        image = normalization.normalize(pixels, mean=mean, std=std)
        found, _ = network.apply(
            loaded.variables, image, train=train, mutable=["batch_stats"]
        )
        return found

    own = (10.0, 20.0, 30.0), (40.0, 50.0, 60.0)
    _, wanted = outputs(models.build("resnet8", 20), *own)
    logits, found = outputs(loaded.network, *NORMALIZATION)
    assert logits is None
    np.testing.assert_allclose(found.pooled, wanted.pooled, rtol=0, atol=1e-4)
