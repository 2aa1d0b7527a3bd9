import pathlib

import pytest

from experiments import published, reproduce
from experiments.reproduce import TABLES

from .run_folders import OVERHAUL, write_run

OUT = pathlib.Path("out")


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_has_published_figures_of_its_recipe(name):
    table = TABLES[name]
    for pair in table.cells.values():
        figures = {
            figure.method
            for figure in published.read()
            if (figure.pair, figure.recipe) == (pair, table.recipe)
        }
        assert figures & set(table.methods), pair


def test_one_seed_of_every_cell_comes_before_the_next():
    cells = reproduce.plan(OUT, TABLES["ofd"], ["c", "d"], data="cifar100", seeds=2)
    assert [cell.name for cell in cells] == [
        "teacher wrn_28_4 seed 0",
        "student wrn_16_2 seed 0",
        "overhaul seed 0",
        "student resnet56 seed 0",
        "overhaul seed 0",
        "student wrn_16_2 seed 1",
        "overhaul seed 1",
        "student resnet56 seed 1",
        "overhaul seed 1",
    ]
    assert {cell.config.split(",", 1)[1] for cell in cells} == {"cifar100,ofd"}
    assert len({cell.teacher for cell in cells}) == 2
    with pytest.raises(ValueError, match="cell='g' is none of a, b, c, d, e, f"):
        reproduce.plan(OUT, TABLES["ofd"], ["g"], data="cifar100", seeds=1)


def test_published_figures_stand_beside_those_of_the_last_epoch(tmp_path, capsys):
    """Of a shorter training and three seeds, of which no best epoch is shown."""
    teacher = tmp_path / "cifar100/teachers/wrn_28_4/seed_0"
    common = {"data": "cifar100", "epochs": 4}
    write_run(teacher, 0.78, model="wrn_28_4", **common)
    for seed, accuracy in enumerate((0.74, 0.75, 0.76)):
        write_run(
            tmp_path / f"cifar100/wrn_28_4-wrn_16_2/overhaul/seed_{seed}",
            accuracy,
            seed=seed,
            model="wrn_16_2",
            methods=OVERHAUL,
            teacher="wrn_28_4",
            **common,
        )
    table = TABLES["ofd"]
    taught, distilled = reproduce.rows(tmp_path, table, ["c"], "cifar100")
    assert (taught["trained"], taught["published"], taught["here"]) == (
        "teacher",
        "78.91",
        "78.00",
    )
    assert distilled["trained"] == "overhaul"
    assert (distilled["published"], distilled["n"]) == ("75.92", "3")
    # 4.303 standard errors of 1 / sqrt(3).
    assert distilled["here"] == "75.00 ± 2.48"
    assert distilled["difference"] == "-0.92"
    assert (distilled["published epochs"], distilled["epochs here"]) == ("200", "4")


def test_a_time_that_is_none_is_refused(tmp_path, capsys):
    arguments = ["ofd", "--cell=c", f"--out={tmp_path}", "--budget_minutes=nan"]
    assert reproduce.main(arguments) == 2
    assert "budget_minutes=nan is not positive" in capsys.readouterr().err
