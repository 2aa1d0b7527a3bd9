"""Published figures."""

import collections

from experiments import published
from kdjax import models


def test_every_figure_is_complete_and_unique():
    figures = published.read()
    keys = collections.Counter((f.method, f.variant, f.pair, f.data) for f in figures)
    assert max(keys.values()) == 1
    for figure in figures:
        assert 40 < figure.baseline_accuracy < 100
        assert figure.baseline_accuracy < figure.teacher_accuracy
        # No published method loses more than 8 points to the student alone.
        assert -8 < figure.accuracy - figure.baseline_accuracy < 10
        assert figure.epoch in ("last", "best", None)
        models.build(figure.teacher, 100)
        models.build(figure.student, 100)


def test_a_figure_is_found_by_method_and_pair():
    figure = published.find("dkd", "resnet56-resnet20")
    assert (figure.accuracy, figure.epoch, figure.tuned_per_pair) == (
        71.97,
        "best",
        True,
    )
    assert figure.hyperparameters["methods.dkd.beta"] == 2
    assert published.find("kd_svd", "wrn_22_4-wrn_10_4").accuracy == 71.83
    assert published.find("kd_svd", "wrn_16_2-wrn_10_1") is None
