import itertools
import json
import math

import pytest
from matplotlib.figure import Figure

from experiments import sweep_plot, sweep_report

CARD = {
    "Devices": "1 x cpu",
    "Versions": "jax 1.2.3",
    "Git revision": "abc123",
    "Seeds": "0, 1, 2",
    "Time": "12.0 min of 6 runs",
    "Records": "run folders",
    "Made by": "`python -m experiments.sweep`",
}


def write_sweep(folder, own, best, *, revision="abc123", **budget):
    content = {
        "config": "configs/distill.py:kd,wrn_16_2-wrn_10_1,digits",
        "budget": {
            "trials": 5,
            "seeds": 2,
            "search": "grid",
            "validation_fraction": 0.25,
        }
        | budget,
        "own": {"methods.kd.weight": "1.0"},
        "trials": [
            {
                "trial": 3,
                "rung": 0,
                "epochs": None,
                "validation_accuracy": 81.0,
                "values": {"methods.kd.weight": "0.1"},
            }
        ],
        "test_accuracy": {"own": own, "best": best},
        "card": CARD | {"Git revision": revision},
    }
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps(content))


def axis_of(folder):
    """Returns the axes that are drawn of the sweeps."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = []
        patch.setattr(Figure, "savefig", lambda figure, _: drawn.append(figure))
        sweep_plot.draw_sweeps(sweep_report.read(folder), None)
    (axis,) = drawn[0].axes
    return axis


@pytest.fixture
def sweeps(tmp_path):
    both = "abc123, abc124"
    accuracies = [90.0, 91.0, 92.0], [90.0, 92.0, 94.0]
    write_sweep(tmp_path / "a/kd", *accuracies, revision=both)
    write_sweep(tmp_path / "a/rkd", [95.0, 95.0, 95.0], [93.0, 94.0, 95.0])
    write_sweep(tmp_path / "a/vid", [95.0, 95.0, 95.0], [])
    return tmp_path / "a"


def test_sweeps_stand_in_one_table_and_one_picture(sweeps, capsys):
    assert sweep_report.main([f"--sweeps={sweeps}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    # The highest accuracy is first; vid is not finished.
    assert printed[2].split() == [
        *("rkd", "weight", "1.0", "3", "95.00", "±", "0.00"),
        *("weight", "0.1", "94.00", "±", "1.00", "-1.00", "[-3.48,", "1.48]"),
    ]
    assert printed[3].split()[:4] == ["kd", "weight", "1.0", "3"]
    assert printed[4] == (
        "The budget of every sweep: 5 trials of 2 seeds, grid, scored on 25 % of the "
        "training images."
    )
    assert (sweeps / "sweeps.png").stat().st_size > 0
    page = (sweeps / "sweeps.md").read_text()
    assert "- Devices: 1 x cpu\n" in page
    assert "- Git revision: abc123, abc124\n" in page
    # The file of all sweeps gives the same page elsewhere.
    out = sweeps.parent / "b"
    assert sweep_report.main([f"--sweeps={sweeps}", f"--out={out}"]) == 0
    again = sweeps.parent / "c"
    assert sweep_report.main([f"--sweeps={out}", f"--out={again}"]) == 0
    assert (again / "sweeps.md").read_text() == page
    assert (again / "sweeps.jsonl").read_text() == (sweeps / "sweeps.jsonl").read_text()


def test_a_student_that_has_not_learnt_leaves_the_others_apart(sweeps):
    """The axis is logarithmic in the error then."""
    near = axis_of(sweeps)
    assert near.get_xscale() == "linear"
    write_sweep(sweeps / "pkt", [9.0, 92.0, 90.0], [97.0, 98.0, 99.5])
    far = axis_of(sweeps)
    assert far.get_xlabel().endswith("by the logarithm of the error")
    place = far.transData.transform([(x, 0) for x in (50, 90, 95, 99)])[:, 0]
    share = (place[1:] - place[:-1]) / (place[-1] - place[0])
    errors = [50, 10, 5, 1]
    expected = [math.log(a / b, 50) for a, b in itertools.pairwise(errors)]
    assert share == pytest.approx(expected)


def test_unequal_budgets_are_named(sweeps, capsys):
    write_sweep(sweeps / "pkt", [90.0], [91.0], trials=6)
    assert sweep_report.main([f"--sweeps={sweeps}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "The budgets differ, so the sweeps cannot be compared: "
        "5 trials of 2 seeds, grid, scored on 25 % of the training images; "
        "6 trials of 2 seeds, grid, scored on 25 % of the training images."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "sweep.json is no sweep of this version: JSONDecodeError"),
        ("{}", "sweep.json is no sweep of this version: KeyError"),
        (None, "has no finished sweep"),
    ],
)
def test_what_is_no_sweep_is_refused(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    assert sweep_report.main([f"--sweeps={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweeps.md").exists()
