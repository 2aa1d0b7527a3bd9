"""The command on a network of random weights, and errors."""

import functools
import re

import numpy as np
import pytest

from kdjax import models
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.evaluate import outputs
from kdjax.probe import __main__ as probe
from kdjax.probe import linear
from tests import commands, small_runs

refused = functools.partial(commands.refused, probe.main)


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    with small_runs.shortcuts():
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run of a random resnet8 on the digits."""
    folder = tmp_path_factory.mktemp("run")
    small_runs.write_teacher(folder)
    return folder


def figures(out):
    rows = re.findall(r"^([a-z][\w -]+?) {1,}([\d.e-]+)%?$", out, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def test_the_classifier_learns_on_the_pooled_features_of_the_network(
    workdir, capsys, monkeypatch
):
    """As Flax computes them, in the normalization of the run; nothing is written."""
    kept, compute = [], outputs.compute
    monkeypatch.setattr(
        outputs,
        "compute",
        lambda *args, **given: kept.append(compute(*args, **given)) or kept[-1],
    )
    before = sorted(workdir.rglob("*"))
    flags = (f"--workdir={workdir}", "--data=digits", "--train_fraction=0.2")
    status, out, err = commands.run(probe.main, capsys, *flags)
    assert (status, err) == (0, "")
    assert sorted(workdir.rglob("*")) == before
    (train, train_label), (test, label) = kept
    image, expected_label = digits.load()["test"]
    image = normalization.normalize(image, mean=(10, 20, 30), std=(40, 50, 60))
    run = probe.trained.load(workdir)
    _, features = models.build("resnet8", 10).apply(run.variables, image, train=False)
    np.testing.assert_allclose(test, features.pooled, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(label, expected_label)

    assert "64 pooled features, 10 classes, 200 training and 96 test images" in out
    found = figures(out)
    classifier = linear.fit(train, train_label, found["penalty"])
    for name, feature, expected in (
        ("training accuracy", train, train_label),
        ("test accuracy", test, label),
    ):
        accuracy = np.mean(classifier.predict(feature) == expected)
        assert found[name] == pytest.approx(100 * accuracy, abs=0.006)
    assert found["test accuracy"] > 3 * found["most frequent class"]
    scores = linear.choose_penalty(train, train_label)
    assert found["held-out accuracy"] == pytest.approx(100 * max(scores.values()))


def test_images_of_another_size_are_brought_to_that_of_the_run(
    workdir, capsys, tmp_path
):
    small_runs.write_images(
        tmp_path, ("ant", "bee"), {"train": 12, "val": 4}, size=(20, 12)
    )
    flags = (f"--workdir={workdir}", "--data=folder", f"--data_dir={tmp_path}")
    status, out, err = commands.run(probe.main, capsys, *flags, "--penalty=0.1")
    assert (status, err) == (0, "")
    assert "2 classes, 24 training and 8 test images" in out
    assert figures(out)["penalty"] == 0.1
    assert "held-out" not in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data=foo"], "data.name='foo' is none of digits, "),
        (["--data=digits", "--image_size=16"], "its images are not resized"),
        (["--data=digits", "--penalty=0"], "--penalty=0.0 is not positive"),
        (["--data=digits", "--penalty=nan"], "--penalty=nan is not positive"),
        (["--data=digits", "--train_fraction=2"], "--train_fraction=2.0 is not in"),
        (["--data=digits", "--batch_size=0"], "--batch_size=0 is less than 1"),
        (["--data=folder", "--image_size=0"], "--image_size=0 is less than 1"),
        (["--data=digits", "--step=3"], "step"),
        (["--data=folder", "--data_dir=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named_in_one_line(workdir, capsys, flags, message):
    assert message in refused(capsys, f"--workdir={workdir}", *flags)


def test_a_folder_without_a_run(capsys, tmp_path):
    line = refused(capsys, f"--workdir={tmp_path}", "--data=digits")
    assert "is not the work directory of a run" in line
