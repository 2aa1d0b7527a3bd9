"""Pictures of learning curves."""

import json
import struct

import pytest

from experiments import curves
from tests.experiments.run_folders import (
    OVERHAUL,
    RKD,
    TAUGHT,
    blocks_of,
    write_metrics,
    write_pair,
    write_run,
)

BASELINE = "student from scratch (baseline)"


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Returns a function that draws runs and returns the axes of the picture."""

    def drawn():
        figures = []
        monkeypatch.setattr(curves.Figure, "savefig", lambda f, _: figures.append(f))
        curves.draw(blocks_of(tmp_path), tmp_path / "unused.png")
        return figures[0].axes

    return drawn


def thick(axis):
    return [line for line in axis.lines if line.get_linewidth() > 2]


def labels(axis):
    return [text.get_text() for text in axis.texts]


def test_curves_are_a_picture_with_a_panel_for_each_pair(tmp_path):
    sizes = []
    for data in ("digits", "cifar10"):
        write_pair(tmp_path, data=data)
        curves.draw(blocks_of(tmp_path), tmp_path / "curves.png")
        png = (tmp_path / "curves.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(png) > 20_000
        sizes.append(struct.unpack(">II", png[16:24]))
    (width, height), (twice, same) = sizes
    assert width >= 1000
    assert height >= 500
    assert (twice, same) == (2 * width, height)


def test_mean_curve_is_over_epochs_that_all_seeds_have(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0)
    folder = write_run(tmp_path / "b", 0.6, seed=1)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    write_metrics(folder, map(json.loads, lines[2:]))
    (block,) = blocks_of(tmp_path)
    assert curves.mean_curve(block.rows[0]) == pytest.approx({2: 50, 3: 75})


def test_every_epoch_stays_in_the_picture(tmp_path):
    for seed in range(9):
        write_run(tmp_path / f"{seed}", 0.95, seed=seed)
    write_run(tmp_path / "diverged", 0.1, seed=9, epochs=3)
    (block,) = blocks_of(tmp_path)
    low, high = curves.accuracy_limits(block.rows)
    assert 0 <= low < 100 * 0.1 / 3
    assert 95 < high <= 100


def test_a_line_for_each_seed_and_each_mean(tmp_path, draw):
    write_pair(tmp_path)
    (axis,) = draw()
    # The teacher is a level; of the others each seed and the mean are drawn.
    assert (len(thick(axis)), len(axis.lines)) == (3, 1 + 3 + 3 * 3)
    assert len({line.get_color() for line in axis.lines}) == 4
    assert list(thick(axis)[1].get_ydata()) == pytest.approx([31, 62, 93])
    assert labels(axis) == [
        "teacher  96.00",
        f"{BASELINE}  91.00",
        "overhaul  93.00",
        "overhaul + rkd  91.33",
    ]
    assert axis.get_title(loc="left") == (
        "wrn_16_2 → wrn_16_1 (20 % of digits, 3 epochs, batch 64)"
    )


def test_a_label_with_many_settings_leaves_room_for_the_curves(tmp_path, draw):
    for run in range(2):
        optimizer = {"lr_milestones": [run / 4, 0.7], "schedule": f"number_{run}"}
        write_run(tmp_path / f"{run}", 0.9, optimizer=optimizer)
    (axis,) = draw()
    assert sorted(labels(axis)) == [
        f"wrn_16_1 (optimizer.lr_milestones=[{first}, 0.7], ...  90.00"
        for first in (0.0, 0.25)
    ]


def test_many_methods_have_a_panel_each(tmp_path, draw):
    write_run(tmp_path / "a", 0.8)
    for name in ("overhaul", "rkd", "crd", "vid"):
        write_run(tmp_path / name, 0.9, methods={name: {}}, teacher="t")
    axes = draw()
    titles = [axis.get_title(loc="left") for axis in axes]
    assert titles == ["crd", "overhaul", "rkd", "vid"]
    assert [labels(axis) for axis in axes] == [["80.00", "90.00"]] * 4
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [BASELINE]


def test_epochs_of_distillation_alone_are_on_the_axis(tmp_path, draw):
    write_run(tmp_path / "a", 0.8)
    first = {"distill_first": {"epochs": 4}}
    taught = {"methods": OVERHAUL, "teacher": "t"} | first
    write_run(tmp_path / "m", 0.9, before=("distill_first",), **taught)
    write_run(tmp_path / "n", 0.9, methods=RKD, teacher="t", **first)
    overhaul, rkd = draw()
    assert [list(line.get_xdata()) for line in thick(overhaul)] == [
        [1, 2, 3],
        [5, 6, 7],
    ]
    # Without such a phase the field of the configuration means nothing.
    assert [list(line.get_xdata()) for line in thick(rkd)] == [[1, 2, 3]] * 2
    (legend,) = overhaul.figure.legends
    assert legend.get_texts()[-1].get_text() == "distillation alone"


def test_curves_are_of_the_validation_split_where_there_is_one(tmp_path, draw):
    write_run(tmp_path / "teacher", 0.95, model="wrn_16_2")
    write_run(tmp_path / "m", 0.9, validation=0.25, **TAUGHT)
    (axis,) = draw()
    assert axis.get_ylabel() == "validation accuracy (%)"
    assert list(axis.lines[1].get_ydata()) == pytest.approx([27, 54, 81])
    assert labels(axis) == ["teacher  95.00", "overhaul  90.00"]


def test_labels_are_moved_apart_and_stay_inside():
    positions = curves.end_labels([0.97, 0.5, 0.96, 0.1], 0.1)
    assert positions[3] == pytest.approx(0.1)
    assert positions[0] - positions[2] == pytest.approx(0.1)
    assert positions[2] - positions[1] >= 0.1 - 1e-6
    assert max(positions) <= 0.98
