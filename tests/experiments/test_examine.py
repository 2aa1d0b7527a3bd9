"""What is measured of a run, and what the page shows of it."""

import functools
import json
import re

import numpy as np
import pytest

from experiments import charts, curves, examine, examined, report
from kdjax import models
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.distill import Teacher, overhaul
from kdjax.runs import trained
from tests import commands, small_runs

command = functools.partial(commands.run, examine.main)
refused = functools.partial(commands.refused, examine.main)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of OFD of one epoch, and what is measured of it on 24 images."""
    teacher, workdir = (tmp_path_factory.mktemp(name) for name in ("teacher", "run"))
    with small_runs.shortcuts():
        small_runs.distill(teacher, workdir)
        assert examine.main([f"--workdir={workdir}", "--images=24"]) == 0
    return workdir


@pytest.fixture(scope="module")
def measured(run):
    return json.loads((run / examined.FILE).read_text())


def answers(name, found):
    """Logits and features on the first 96 test images, by Flax alone."""
    image, label = digits.load()["test"]
    data = found.config["data"]
    image = normalization.normalize(image[:96], mean=data["mean"], std=data["std"])
    network = models.build(name, 10)
    return *network.apply(found.variables, image, train=False), label[:96]


def test_what_both_networks_classify_correctly(run, measured):
    student = trained.load(run)
    teacher = trained.load_teacher(student)
    logits, _, label = answers("wrn_10_1", student)
    taught, _, _ = answers("resnet8", teacher)
    own, other = (np.argmax(x, axis=1) == label for x in (logits, taught))
    assert measured["images"] == 96
    assert measured["right"] == {
        "both": np.sum(own & other),
        "student alone": np.sum(own & ~other),
        "teacher alone": np.sum(~own & other),
        "none": np.sum(~own & ~other),
    }
    found = measured["networks"]["teacher"]["class_accuracy"]
    expected = [np.mean(other[label == name]) for name in range(10)]
    np.testing.assert_allclose(found, expected)


def test_bins_of_the_confidence_add_up_to_the_calibration_error():
    """Two images of confidence 0.6 and 0.64, one of which is right, and one of 0.9."""
    confidence = np.asarray([0.6001, 0.64, 0.9])
    scores = np.log(np.stack([confidence, 1 - confidence], axis=1))
    found = examine.classified(scores, np.asarray([0, 1, 0]), classes=3)
    first, last = found["bins"]
    assert (first["images"], last["images"]) == (2, 1)
    assert first["confidence"] == pytest.approx(0.62005)
    assert (first["accuracy"], last["accuracy"]) == (0.5, 1)
    expected = (2 * 0.12005 + 0.1) / 3
    assert found["calibration_error"] == pytest.approx(expected)
    assert found["class_accuracy"] == [1, 0, None]


def test_singular_values_are_those_of_the_maps(run, measured):
    _, features, _ = answers("wrn_10_1", trained.load(run))
    for stage, found in zip(
        features.post, measured["networks"]["student"]["spectra"], strict=True
    ):
        matrix = np.asarray(stage[:24]).reshape(24, -1, stage.shape[-1])
        values = np.linalg.svd(matrix, compute_uv=False)[:, :16]
        expected = (values / values[:, :1]).mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_responses_are_in_units_of_their_margins(run, measured):
    teacher = trained.load_teacher(trained.load(run))
    _, features, _ = answers("resnet8", teacher)
    view = Teacher("resnet8", teacher.variables, lambda: iter(()))
    margins = overhaul.MARGINS["closed_form"](view)
    found = measured["responses"]
    for stage, margin, clipped, shares in zip(
        features.pre, margins, found["clipped"], found["shares"], strict=True
    ):
        below = np.mean(np.asarray(stage[:24]) < margin)
        assert 0 < below < 1
        assert clipped == pytest.approx(below, abs=1e-3)
        assert sum(shares) == pytest.approx(1)


def test_the_page_draws_what_was_measured(run, measured, tmp_path):
    report.write(run, tmp_path, as_html=True)
    text = (tmp_path / "report.html").read_text()
    for title in ("calibration error", "student right", "share of the largest"):
        assert title in text
    assert text.count("% clipped") == len(measured["responses"]["clipped"]) == 3
    assert f"<td>{measured['right']['none']} (" in text
    # Nothing is loaded, and every color that has a dark counterpart follows the theme.
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', text) == []
    body = text[text.index("<h1>") :].lower()
    assert not any(color.lower() in body for color in curves.COLORS)
    assert "--series-5: " in text
    (tmp_path / "copy").mkdir()
    (run / examined.FILE).write_text("{")
    with pytest.raises(ValueError, match=examined.FILE):
        report.write(run, tmp_path, as_html=True)
    (run / examined.FILE).write_text(json.dumps(measured))


def test_graphs_are_drawn_with_their_divergence():
    from experiments import run_charts

    edges = [[1.5, 0.5], [0.0, 2.0]]
    pair = {"label": [3, 7], "teacher": edges, "student": edges, "divergence": 0.0}
    drawn = run_charts.graphs(pair)
    assert drawn.count("<image") >= 2
    assert "class at the front" in drawn


def test_colors_of_dark_pages_are_as_many():
    light, dark = (charts.style(dark=dark).count("--series-") for dark in (False, True))
    assert light == dark == len(curves.COLORS)


def test_mistakes_are_named_in_one_line(run, tmp_path, capsys):
    line = refused(capsys, f"--workdir={run}", "--images=0")
    assert line == "--images=0 is less than 1"
    line = refused(capsys, f"--workdir={tmp_path}")
    assert "is not the work directory of a run" in line
