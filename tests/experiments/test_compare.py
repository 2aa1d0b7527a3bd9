import os
import pathlib
import subprocess
import sys

import pytest

from experiments import compare
from kdjax import distill, recipes
from kdjax.runs import trained, workdirs
from tests import small_runs

ROOT = pathlib.Path(__file__).parent.parent.parent
HERE = os.path.relpath(ROOT / "configs")

OUT = pathlib.Path("out")


def plan(**settings):
    defaults = {
        "data": "digits",
        "pairs": ["wrn_16_2-wrn_10_1"],
        "methods": ["none", "overhaul"],
        "seeds": 2,
    }
    return compare.plan(OUT, **(defaults | settings))


def folders(cells):
    return [cell.workdir.relative_to(OUT / "digits").as_posix() for cell in cells]


def test_plan_lists_teachers_students_and_methods():
    cells = plan()
    assert folders(cells) == [
        "teachers/wrn_16_2/seed_0",
        "students/wrn_10_1/seed_0",
        "teachers/wrn_16_2/seed_1",
        "students/wrn_10_1/seed_1",
        "wrn_16_2-wrn_10_1/overhaul/seed_0",
        "wrn_16_2-wrn_10_1/overhaul/seed_1",
    ]
    assert [cell.teacher for cell in cells[-2:]] == [
        OUT / "digits/teachers/wrn_16_2/seed_0",
        OUT / "digits/teachers/wrn_16_2/seed_1",
    ]


def test_pairs_share_teachers_and_students():
    found = folders(
        plan(
            pairs=["wrn_16_2-wrn_10_1", "wrn_16_2-resnet8", "wrn_16_1-wrn_10_1"],
            seeds=1,
        )
    )
    assert len(found) == len(set(found)) == 2 + 2 + 3


def test_teachers_can_be_fewer():
    cells = plan(teacher_seeds=1)
    assert len(cells) == 5
    assert len({cell.teacher for cell in cells if cell.teacher}) == 1


@pytest.mark.parametrize("file", [workdirs.RESULT, trained.SOURCE])
def test_a_finished_run_or_an_import_is_a_teacher(tmp_path, file):
    workdirs.create(tmp_path, recipes.alone("wrn_16_2,digits"))
    message = f"teacher={tmp_path} is neither a finished run nor an import"
    with pytest.raises(ValueError, match=message):
        plan(teacher=tmp_path)
    workdirs.write_json(tmp_path / file, small_runs.RESULT)
    given = plan(teacher=tmp_path)
    assert folders(given)[0] == "students/wrn_10_1/seed_0"
    assert given[-1].teacher == tmp_path
    for pairs in (["wrn_16_1-wrn_10_1"], ["wrn_16_2-wrn_10_1", "wrn_16_1-wrn_10_1"]):
        with pytest.raises(ValueError, match="holds a wrn_16_2, and the pairs ask"):
            plan(teacher=tmp_path, pairs=pairs)


def test_seeds_with_one_teacher_are_one_process(tmp_path):
    """Whose runs lie where they would alone; those with other teachers stay alone."""
    settings = {
        "data": "digits",
        "pairs": ["wrn_10_1-wrn_10_1"],
        "methods": ["none", "kd"],
        "seeds": 3,
    }
    single = compare.plan(tmp_path, **settings, teacher_seeds=1)
    teacher, alone, kd = compare.in_one_program(single)
    assert [cell.folders[0] for cell in single[:1]] == list(teacher.folders)
    assert sorted(c.workdir for c in single[1:]) == sorted(alone.folders + kd.folders)
    assert kd.name == "kd seeds 0 to 2"
    command = kd.command([])
    assert {"--config.seed=0", "--config.replicas=3"} < set(command)
    assert f"--workdir={kd.workdir}" in command
    for folder in kd.folders[:2]:
        workdirs.create(folder, recipes.alone("wrn_10_1,digits"))
        workdirs.write_result(folder, small_runs.RESULT)
    assert (kd.num_done, kd.done, teacher.done) == (2, False, False)
    each = compare.in_one_program(compare.plan(tmp_path, **settings))
    assert [cell.replicas for cell in each] == [3, 3, 1, 1, 1]


def test_students_alone_need_no_teacher():
    assert folders(plan(methods=["none"], seeds=1)) == ["students/wrn_10_1/seed_0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["overhual"]}, "methods: 'overhual' is none of .*, kd, .*short, "),
        ({"methods": ["kd+xx"]}, r"methods: 'kd\+xx' is none of"),
        ({"pairs": ["wrn_16_2"]}, "'wrn_16_2' is not of the form teacher-student"),
        ({"pairs": ["wrn_99_x-wrn_10_1"]}, "no network is called 'wrn_99_x'"),
        ({"data": "foo"}, "data='foo' is none of cifar10, cifar100, digits, "),
        ({"recipe": "foo"}, "recipe='foo' is none of crd, mhgd, ofd, review"),
        ({"own_configs": pathlib.Path("nowhere")}, "configs=nowhere is not a folder"),
        ({"teacher": pathlib.Path("x")}, "teacher=x is neither a finished run nor an"),
    ],
)
def test_plans_that_make_no_sense_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        plan(**settings)


def test_methods_are_files_registered_methods_or_aliases(tmp_path):
    (tmp_path / "mine.py").touch()
    (tmp_path / "mhgd.py").touch()
    cells = plan(
        methods=["ofd", "at+kd", "kd_svd", "mhgd_distill_first", "mine", "mhgd"],
        seeds=1,
        own_configs=tmp_path,
        recipe="crd",
    )
    pair = "wrn_16_2-wrn_10_1,digits,crd"
    configs = {cell.workdir.parent.name: cell.config for cell in cells}
    assert {k: v.removeprefix(f"{HERE}/") for k, v in configs.items()} == {
        "wrn_16_2": "teacher.py:wrn_16_2,digits,crd",
        "overhaul": f"overhaul.py:{pair}",
        "attention_transfer+kd": f"distill.py:attention_transfer+kd,{pair}",
        "kd_svd": f"kd_svd.py:{pair}",
        "mhgd_distill_first": f"mhgd_distill_first.py:{pair}",
        "mine": f"{tmp_path}/mine.py:{pair}",
        "mhgd": f"{tmp_path}/mhgd.py:{pair}",
    }
    assert [cell.name for cell in cells][:2] == [
        "teacher wrn_16_2 seed 0",
        "overhaul seed 0",
    ]


def test_dry_run_prints_the_commands_and_runs_nothing(tmp_path, capsys):
    status = compare.main(
        [
            *("--data=digits", "--pairs=wrn_10_1-wrn_10_1", "--seeds=1"),
            *(f"--out={tmp_path}", "--dry_run", "--", "--config.epochs=1"),
        ]
    )
    assert status == 0
    teacher, student, overhaul = capsys.readouterr().out.splitlines()
    assert teacher == (
        f"python -m kdjax.main --config={HERE}/teacher.py:wrn_10_1,digits "
        f"--workdir={tmp_path}/digits/teachers/wrn_10_1/seed_0 --config.seed=0 "
        "--config.epochs=1"
    )
    assert "/student.py:wrn_10_1,digits" in student
    assert "/overhaul.py:wrn_10_1-wrn_10_1,digits" in overhaul
    assert f"--config.teacher.checkpoint={tmp_path}/digits/teachers/" in overhaul
    assert not list(tmp_path.iterdir())


_OWN = """
import dataclasses
from kdjax import distill, recipes

@distill.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(distill.Method):
    name = "mine_of_a_file"
    taxonomy = distill.Taxonomy("none", "none", "logits", "mean", "none")
    weight: float = 1.0

    def loss(self, variables, precomputed, student, teacher, inputs):
        return {"all": ((student.logits - teacher.logits) ** 2).mean(-1)}, {}

def get_config(argument):
    return recipes.distillation(argument, {"mine_of_a_file": {}})
"""


# ml_collections loads a configuration by it.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("mine", [], None),
        ("mine", ["--config.epochs=0"], r"teacher.py:.*epochs=0 is not at least 1"),
        ("mine", ["--config.epohcs=3"], r"teacher.py:.*epohcs=3: no such field"),
        ("mine", ["--config.epochs=x"], r"teacher.py:.*epochs"),
        ("crd", ["--config.data.mixup=1.0"], r"crd,wrn.*data.mixup=1.0 mixes images"),
    ],
)
def test_all_configurations_are_checked_before_the_first_run(
    method, overrides, message, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text(_OWN)
    monkeypatch.setattr(distill.registry, "METHODS", dict(distill.METHODS))
    cells = plan(methods=["none", method], own_configs=tmp_path)
    if message is None:
        compare.check(cells, overrides)
        return
    with pytest.raises(ValueError, match=message) as error:
        compare.check(cells, overrides)
    assert "\n" not in str(error.value)


def test_a_comparison_runs_and_ends_with_its_table(tmp_path):
    """In processes of their own, as from a shell."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.compare", "--data=digits"),
            *("--pairs=wrn_10_1-wrn_10_1", "--methods=none", "--seeds=1"),
            *(f"--out={tmp_path}", "--", "--config.epochs=1"),
            "--config.batch_size=96",
        ],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[1/1] student wrn_10_1 seed 0: " in done.stdout
    assert "1 of 1 runs done" in done.stdout
    assert done.stdout.count("networks from scratch") == 1
    for name in ("table.md", "table.csv", "curves.png"):
        assert (tmp_path / name).stat().st_size > 0
