import json
import shutil

import numpy as np
import pytest

from kdjax import recipes, teacher, train
from kdjax.data import normalization
from kdjax.data.normalization import Normalization
from kdjax.evaluate import Evaluation

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
            r"init\.checkpoint='.*' and init\.classifier='new'$",
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
    (tmp_path / "config.json").write_text(json.dumps({"model": "wrn_10_1"}))
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
