import dataclasses
import pathlib

import pytest

from experiments import ablation_report, ablations, compare
from experiments.ablation_table import ABLATIONS, ALONE, QUICK, REAL
from kdjax.data.split import Description
from tests.commands import refused, run

from .run_folders import OVERHAUL, write_run

# ml_collections loads a configuration by it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

OUT = pathlib.Path("out")
PAIR = "digits/wrn_10_2-wrn_10_1"


def plan(*names, form=QUICK, seeds=1):
    return ablations.plan(OUT, {name: ABLATIONS[name] for name in names}, form, seeds)


def folders(cells):
    return [cell.workdir.relative_to(OUT).as_posix() for cell in cells]


def test_questions_share_the_teacher_the_student_alone_and_equal_settings():
    assert folders(plan("ofd_position", "ofd_batch_norm")) == [
        "digits/teachers/wrn_10_2/seed_0",
        f"{PAIR}/alone/seed_0",
        f"{PAIR}/overhaul/seed_0",
        f"{PAIR}/overhaul,position=post/seed_0",
        f"{PAIR}/overhaul,batch_norm=running/seed_0",
    ]


def test_a_trained_teacher_and_another_pair_replace_those_of_the_question(tmp_path):
    write_run(tmp_path / "teacher", 0.9, model="wrn_16_2")
    form = REAL._replace(pair="wrn_16_2-wrn_10_1")
    chosen = {"ofd_position": ABLATIONS["ofd_position"]}
    cells = ablations.plan(OUT, chosen, form, 1, tmp_path / "teacher")
    pair = "cifar100/ofd/wrn_16_2-wrn_10_1"
    assert folders(cells) == [
        f"{pair}/alone/seed_0",
        f"{pair}/overhaul/seed_0",
        f"{pair}/overhaul,position=post/seed_0",
    ]
    taught = [None] + [tmp_path / "teacher"] * 2
    assert [cell.teacher for cell in cells] == taught
    assert cells[1].config.endswith("overhaul.py:wrn_16_2-wrn_10_1,cifar100,ofd")


def test_one_seed_of_every_setting_comes_before_the_next():
    """All of them learn from one teacher."""
    cells = plan("ofd_position", seeds=2)
    assert [cell.seed for cell in cells] == [0, 0, 0, 0, 1, 1, 1]
    taught = [cell.teacher for cell in cells if cell.teacher]
    assert set(taught) == {cells[0].workdir}
    assert len(taught) == 4


def test_the_seeds_of_a_setting_can_share_a_program(capsys):
    flags = ["ofd_position", "--quick", "--seeds=2", "--replicas", "--dry_run"]
    status, out, err = run(ablations.main, capsys, *flags, "--out=out")
    assert (status, err) == (0, "")
    teacher, *students = out.splitlines()
    assert "replicas" not in teacher
    assert [line.count("--config.replicas=2") for line in students] == [1] * 3
    assert f"--workdir=out/{PAIR}/overhaul " in students[1]


def test_the_real_form_has_the_networks_and_the_recipe_of_the_paper():
    cells = plan("fractions", form=REAL)
    assert cells[0].config.endswith("teacher.py:wrn_40_4,cifar100,mhgd")
    assert len(cells) == 1 + 5 * 4
    kd = next(c for c in cells if "kd,train_fraction=0.25" in str(c.workdir))
    assert kd.workdir.parts[1:3] == ("cifar100", "mhgd")
    assert kd.config.endswith("distill.py:kd,wrn_40_4-wrn_16_4,cifar100,mhgd")
    assert kd.overrides == ("--config.data.train_fraction=0.25",)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        pytest.param(QUICK, ["kd_svd_vectors", "mhgd_clipping"], id="quick"),
        pytest.param(REAL, ABLATIONS, id="real", marks=pytest.mark.slow),
    ],
)
def test_every_configuration_is_possible(form, names, tmp_path, monkeypatch):
    """By what is checked before the first run, without the images of CIFAR-100."""
    if form is REAL:
        names = tuple(map(str, range(100)))
        description = Description(100, (32, 32, 3), 60_000, 50_000, names)
        monkeypatch.setattr("kdjax.data.datasets.describe", lambda data: description)
    chosen = {name: ABLATIONS[name] for name in names}
    compare.check(ablations.plan(tmp_path, chosen, form, seeds=1), [])


def test_equal_configurations_with_other_flags_are_all_checked():
    *cells, last = plan("ofd_margin")
    wrong = dataclasses.replace(
        last, overrides=("--config.methods.overhaul.margin=guess",)
    )
    with pytest.raises(ValueError, match="margin='guess' is none of"):
        compare.check([*cells, wrong], [])


def write_runs(root, label_to_accuracies, name="ofd_position", form=QUICK):
    """Writes finished runs of the settings of a question, by label."""
    ablation = ABLATIONS[name]
    for setting in ablations.settings(ablation, form):
        folder = root / ablations.folder(ablation, setting, form)
        for seed, accuracy in enumerate(label_to_accuracies[setting.label]):
            write_run(
                folder / f"seed_{seed}",
                accuracy,
                seed=seed,
                model="wrn_10_1",
                methods={} if setting.method == ALONE else OVERHAUL,
                teacher="" if setting.method == ALONE else "wrn_10_2",
            )


def test_differences_are_paired_by_seed(tmp_path, capsys):
    """From the student alone and from the default, which may have other seeds."""
    accuracies = {
        "alone": (0.90, 0.92, 0.91),
        "before the ReLU": (0.95, 0.96, 0.97),
        "after the ReLU": (0.94, 0.96),
    }
    write_runs(tmp_path, accuracies)
    flags = ["ofd_position", "--quick", "--table", f"--out={tmp_path}"]
    status, out, err = run(ablations.main, capsys, *flags)
    assert (status, err) == (0, "")
    before, after = (
        next(line for line in out.splitlines() if line.startswith(label)).split("  ")
        for label in ("before", "after")
    )
    before, after = ([x.strip() for x in row if x.strip()] for row in (before, after))
    # Differences of 5, 4 and 6 points: 4.303 standard errors of 1 / sqrt(3).
    assert before == ["before the ReLU", "3", "96.00 ± 1.00", "+5.00 [2.52, 7.48]"]
    assert after == ["after the ReLU", "2", "94.00, 96.00", "+4.00", "-0.50"]
    page = (tmp_path / "ofd_position.md").read_text()
    assert "wrn_10_2 to wrn_10_1; 20 % of digits, 3 epochs, batch 64." in page
    assert "Test accuracy of the teacher: 96.11 %." in page
    assert "- Seeds: 0, 1, 2\n" in page
    assert "Made by: `python -m experiments.ablations ofd_position --quick" in page


def test_a_page_is_made_again_by_the_command_that_it_names(tmp_path, capsys):
    accuracies = {"alone": (0.9,), "before the ReLU": (0.95,), "after the ReLU": (0.9,)}
    form = QUICK._replace(pair="wrn_16_2-wrn_10_1")
    write_runs(tmp_path, accuracies, form=form)
    flags = ["--quick", "--pair=wrn_16_2-wrn_10_1"]
    overrides = ["--", "--config.data.mean=(1, 2, 3)"]
    out = ["--table", f"--out={tmp_path}"]
    status, *_ = run(ablations.main, capsys, "ofd_position", *flags, *out, *overrides)
    page = (tmp_path / "ofd_position.md").read_text()
    assert status == 0
    assert f"ofd_position {' '.join(flags)} --out=DIR -- '{overrides[1]}'`\n" in page
    (again,) = ablations.rewritten(tmp_path).values()
    assert again.text == page


def test_alone_is_that_on_the_same_images(tmp_path):
    settings = ablations.settings(ABLATIONS["fractions"], QUICK)
    write_runs(
        tmp_path,
        {
            s.label: (0.5 + 0.1 * (s.method != ALONE) + i / 100,)
            for i, s in enumerate(settings)
        },
        "fractions",
    )
    ablation = ABLATIONS["fractions"]
    folders = [(s, ablations.folder(ablation, s, QUICK).as_posix()) for s in settings]
    made = {r.label: r for r in ablation_report.collect(tmp_path, ablation, folders)}
    assert made["MHGD, 5 %"].over_alone.mean == pytest.approx(13)
    assert made["KD, 100 %"].over_alone.mean == pytest.approx(11)
    assert made["alone, 100 %"].over_alone is None
    assert made["KD, 100 %"].over_default is None


def test_published_figures_stand_beside_runs_of_their_networks_and_length(tmp_path):
    run_ = {"model": "mhgd_vgg7", "teacher": "mhgd_vgg16", "data": "cifar100"}
    write_run(tmp_path / "a/seed_0", 0.6, methods={"mhgd": {}}, epochs=100, **run_)
    write_run(tmp_path / "b/seed_0", 0.6, methods={"mhgd": {}}, epochs=9, **run_)
    ablation = ABLATIONS["mhgd_heads"]
    by_label = {s.label: s for s in ablations.settings(ablation, REAL)}
    four = by_label["4 heads"]
    for folder, figure in (("a", 67.01), ("b", None)):
        (row,) = ablation_report.collect(tmp_path, ablation, [(four, folder)])
        assert row.published == figure


def test_mistakes_are_named_in_one_line(tmp_path, capsys):
    message = f"out={tmp_path} has no finished run of this question and form"
    flags = ["ofd_margin", "--quick", "--table", f"--out={tmp_path}"]
    assert refused(ablations.main, capsys, *flags) == message
    flags = ["ofd_margin", f"--teacher={tmp_path}", f"--out={tmp_path}"]
    message = f"teacher={tmp_path} needs --pair"
    assert refused(ablations.main, capsys, *flags) == message
    message = "pairs: 'lenet' is not of the form teacher-student"
    assert refused(ablations.main, capsys, *flags, "--pair=lenet") == message
    message = f"teacher={tmp_path} is neither a finished run nor an import"
    pair = "--pair=wrn_16_2-wrn_10_1"
    assert refused(ablations.main, capsys, *flags, pair) == message
    with pytest.raises(SystemExit):
        ablations.main(["ofd_magrin", f"--out={tmp_path}"])
    assert "'ofd_magrin' is none of ofd_position, " in capsys.readouterr().err


def test_dry_run_hands_on_what_follows_the_dashes(tmp_path, capsys):
    flags = ["kd_svd_vectors", "--quick", f"--out={tmp_path}", "--dry_run", "--seeds=1"]
    status, out, _ = run(ablations.main, capsys, *flags, "--", "--config.epochs=1")
    lines = out.splitlines()
    assert (status, len(lines)) == (0, 1 + 1 + 3)
    assert all(" --config.epochs=1 " in line for line in lines)
    flags = ("teacher_vectors=2", "student_vectors=4")
    assert all(f"--config.methods.kd_svd.{flag}" in lines[3] for flag in flags)
    assert not list(tmp_path.iterdir())
