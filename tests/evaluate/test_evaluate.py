"""The command on a small run with a teacher, and errors."""

import csv
import functools
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from kdjax import models
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.evaluate import __main__ as evaluate
from kdjax.interop import torch_export, torch_import
from kdjax.runs import trained
from tests import commands, small_runs
from tests.small_runs import STEPS, set_fields, write_images

#: Enough for an accuracy from 0.3 to 0.9.
EPOCHS = 15

command = functools.partial(commands.run, evaluate.main)
refused = functools.partial(commands.refused, evaluate.main)


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    with small_runs.shortcuts():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run that is better than chance; its teacher normalizes otherwise."""
    teacher, workdir = (tmp_path_factory.mktemp(name) for name in ("teacher", "run"))
    small_runs.distill(teacher, workdir, EPOCHS)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def alone(copy):
    """A run without a teacher."""
    set_fields(copy, "teacher", checkpoint="")
    return copy


@pytest.fixture(scope="module")
def logits(run):
    """Logits of the network on the test images, by Flax alone."""
    found = trained.load(run)
    network = models.build("wrn_10_1", 10)
    data = found.config["data"]
    image = digits.load()["test"].image
    image = normalization.normalize(image, mean=data["mean"], std=data["std"])
    return np.asarray(network.apply(found.variables, image, train=False)[0])


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def figures(out):
    """Reads the first table: numbers by the names of the rows."""
    rows = re.findall(r"^([a-z][\w -]+?) {2,}([\d.]+)%?$", out, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def percent(fraction):
    return pytest.approx(100 * fraction, abs=0.0051)


def read_csv(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write_digits(folder, classes):
    """Writes the test images of some classes as FOLDER/<class>/*.png."""
    image, label = digits.load()["test"]
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in np.flatnonzero(label == int(name)):
            Image.fromarray(image[index]).save(folder / name / f"{index}.png")


@pytest.mark.parametrize("pipeline", ["in_memory", "streaming"])
def test_figures_are_those_of_the_run(copy, logits, capsys, tmp_path, pipeline):
    set_fields(copy, "data", pipeline=pipeline)
    before, file = listing(copy), tmp_path / "predictions.csv"
    flags = (f"--workdir={copy}", f"--predictions={file}")
    status, said, _ = command(capsys, *flags)
    assert status == 0
    assert listing(copy) == before
    what = f"the wrn_10_1 after step {EPOCHS * STEPS} on 96 test images of digits\n"
    assert said.startswith(f"{copy}: {what}")
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    evaluated = [line for line in map(json.loads, lines) if "agreement" in line]
    found, last = figures(said), evaluated[-1]
    for name, key in (
        ("top-1 accuracy", "accuracy"),
        ("agreement with the teacher",) * 2,
    ):
        wanted = last.get(key, last["agreement"])
        assert found[name] == percent(wanted)
    assert found["mean loss"] == pytest.approx(last["loss"], abs=1e-4)
    label = digits.load()["test"].label
    order = np.argsort(-logits, axis=1)[:, :5]
    top_5 = np.mean([k in row for k, row in zip(label, order, strict=True)])
    assert found["top-5 accuracy"] == percent(top_5)
    rows = read_csv(file)
    assert [row["image"] for row in rows] == list(map(str, range(96)))
    assert [int(row["true"]) for row in rows] == label.tolist()
    assert [int(row["predicted"]) for row in rows] == logits.argmax(axis=1).tolist()
    wanted = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    probability = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(probability, wanted, atol=1e-5)


def test_any_batch_size(alone, capsys):
    flags = ("--workdir", alone)
    texts = [command(capsys, *flags, f"--batch_size={n}")[1] for n in (7, 96, 1000)]
    assert len(set(texts)) == 1
    assert "on 96 test images" in texts[0]


def test_other_splits(alone, capsys):
    status, said, _ = command(capsys, "--workdir", alone, "--split=train")
    assert status == 0
    assert "on 96 train images of digits" in said
    line = refused(capsys, "--workdir", alone, "--split=validation")
    assert line == (
        "--split=validation but data.validation_fraction=0.0: the run held out no"
        " validation images"
    )
    set_fields(alone, "data", validation_fraction=0.25)
    status, said, _ = command(capsys, "--workdir", alone, "--split=validation")
    assert status == 0
    assert "on 24 validation images of digits" in said


def test_a_teacher_that_is_gone(copy, capsys):
    set_fields(copy, "teacher", checkpoint=str(copy / "gone"))
    status, said, _ = command(capsys, "--workdir", copy)
    assert status == 0
    assert "agreement with the teacher" not in figures(said)
    assert said.endswith(
        f"The agreement with the teacher is not known: teacher.checkpoint="
        f"'{copy / 'gone'}' is not the work directory of a run\n"
    )


# Other images.


def test_classes_are_matched_by_name(alone, logits, tmp_path, capsys):
    """Classes may be missing: their folders' order is not that of the labels."""
    write_digits(tmp_path / "images", ("7", "2"))
    file = tmp_path / "out.csv"
    status, said, _ = command(
        capsys,
        "--workdir",
        alone,
        f"--data_dir={tmp_path / 'images'}",
        f"--predictions={file}",
    )
    assert status == 0
    label = digits.load()["test"].label
    chosen = np.isin(label, (2, 7))
    correct = np.mean(logits.argmax(axis=1)[chosen] == label[chosen])
    assert figures(said)["top-1 accuracy"] == percent(correct)
    assert f"on {chosen.sum()} images in {tmp_path / 'images'}\n" in said
    for row in read_csv(file):
        name, index = re.fullmatch(r"(\d)/(\d+)\.png", row["image"]).groups()
        assert row["true"] == name
        assert int(row["predicted"]) == logits[int(index)].argmax()


def test_other_classes_are_refused(alone, tmp_path, capsys):
    write_digits(tmp_path, ("7", "2"))
    (tmp_path / "2").rename(tmp_path / "two")
    line = refused(capsys, "--workdir", alone, f"--data_dir={tmp_path}")
    assert line == (
        f"data.data_dir='{tmp_path}': 2 of 3 folders are no classes of the network:"
        " copy, two; its classes are 0, 1, 2, 3, 4 and 5 more"
    )


def test_a_data_set_that_has_moved(alone, tmp_path, capsys):
    gone, here = tmp_path / "gone", tmp_path / "here"
    set_fields(alone, "data", name="folder", data_dir=str(gone), image_size=8)
    (alone / "inputs.json").unlink()
    line = refused(capsys, "--workdir", alone)
    assert line.startswith(f"data.data_dir='{gone}' does not exist: ")
    assert "--data_dir says where the data set is now" in line
    write_images(here, "abcdefghij", {"train": 1, "val": 2})
    status, said, _ = command(capsys, "--workdir", alone, f"--data_dir={here}")
    assert status == 0
    assert f"on 20 test images of {here}" in said
    # Names that the run has stored count.
    stored = json.dumps({"class_names": list("abcdefghik")})
    (alone / "inputs.json").write_text(stored)
    line = refused(capsys, "--workdir", alone, f"--data_dir={here}")
    assert line.endswith("than the network: class 9 was 'k' and is 'j'")
    line = refused(capsys, "--workdir", alone, f"--data_dir={here / 'val'}")
    assert "1 of 10 folders are no classes of the network: j;" in line
    line = refused(
        capsys, "--workdir", alone, f"--data_dir={here / 'val'}", "--split=test"
    )
    assert line.endswith("holds folders of classes, no splits")


def test_images_without_classes(alone, logits, tmp_path, capsys):
    image = digits.load()["test"].image
    photos = tmp_path / "photos"
    (photos / "day 1").mkdir(parents=True)
    for name, index in (("day 1/b.png", 3), ("a,b.png", 5)):
        Image.fromarray(image[index]).save(photos / name)
    status, said, _ = command(capsys, "--workdir", alone, f"--images={photos}")
    assert status == 0
    rows = list(csv.reader(said.splitlines()))
    assert rows[0] == ["image", "true", "predicted", "probability"]
    assert [row[:3] for row in rows[1:]] == [
        ["a,b.png", "", str(logits[5].argmax())],
        ["day 1/b.png", "", str(logits[3].argmax())],
    ]
    file = tmp_path / "out.csv"
    status, said, _ = command(
        capsys,
        "--workdir",
        alone,
        f"--images={photos / 'a,b.png'}",
        f"--predictions={file}",
    )
    assert (status, said) == (0, f"1 prediction is in {file}\n")
    assert len(file.read_text().splitlines()) == 2


def test_files_that_are_no_images(alone, tmp_path, capsys):
    write_digits(tmp_path / "images", ("7",))
    (tmp_path / "images" / "7" / "a.txt").touch()
    (tmp_path / "images" / "7" / "b.png").touch()
    flags = ("--workdir", alone, f"--data_dir={tmp_path / 'images'}")
    assert "7/a.txt (is a .txt file" in refused(capsys, *flags)
    status, said, error = command(capsys, *flags, "--bad_images=skip")
    assert status == 0
    assert "2 of " in error
    assert f"on {np.sum(digits.load()['test'].label == 7)} images" in said


def test_an_imported_network(run, logits, tmp_path, capsys):
    """Of which only the number of classes is known."""
    weights, workdir = tmp_path / "net.safetensors", tmp_path / "imported"
    torch_export.export(run, weights)
    data = json.loads((run / "config.json").read_text())["data"]
    constants = map(str, [*data["mean"], *data["std"]])
    flags = [str(weights), "--model=wrn_10_1", f"--out={workdir}", "--data=none"]
    assert torch_import.main([*flags, "--mean_std", *constants]) == 0
    capsys.readouterr()
    write_digits(tmp_path / "images", "0123456789")
    flags = ("--workdir", workdir, f"--data_dir={tmp_path / 'images'}")
    line = refused(capsys, *flags)
    assert line.startswith("the size of the images is not known")
    status, said, _ = command(capsys, *flags, "--image_size=8")
    assert status == 0
    correct = np.mean(logits.argmax(axis=1) == digits.load()["test"].label)
    assert figures(said)["top-1 accuracy"] == percent(correct)
    assert "it has those in sorted order" in said
    shutil.rmtree(tmp_path / "images" / "4")
    line = refused(capsys, *flags, "--image_size=8")
    assert line.startswith("the network has 10 classes of unknown names")


# Errors.


def test_flags_that_cannot_work(alone, tmp_path, capsys):
    file = tmp_path / "file.csv"
    file.write_text("mine")
    nowhere = tmp_path / "nowhere"
    exists = f"--predictions={file}"
    for flag, line in {
        exists: f"{exists} exists: --overwrite replaces it",
        f"--predictions={tmp_path}": f"--predictions={tmp_path} is a folder",
        f"--predictions={nowhere / 'a.csv'}": f"--predictions={nowhere / 'a.csv'}: "
        f"{nowhere} is not a folder",
        "--batch_size=0": "--batch_size=0 is less than 1",
        f"--images={nowhere}": f"--images='{nowhere}' does not exist",
        f"--data_dir={nowhere}": f"--data_dir='{nowhere}' is not a folder",
        "--image_size=9": "data.image_size=9 but data.name='digits': its images are not"
        " resized: --data_dir says where the data set is now, or a folder"
        " FOLDER/<class>/*.jpg of other images",
    }.items():
        assert refused(capsys, "--workdir", alone, flag) == line
    line = refused(capsys, "--workdir", alone, f"--images={file}", "--split=test")
    assert line == "--images excludes --data_dir and --split"
    assert file.read_text() == "mine"
    line = refused(capsys, f"--workdir={nowhere}")
    assert line == f"workdir='{nowhere}' is not the work directory of a run"


def test_logits_that_are_not_finite(alone, capsys, monkeypatch):
    load = trained.load

    def broken(*args, **kwargs):
        run = load(*args, **kwargs)
        bias = run.variables["params"]["classifier"]["bias"]
        run.variables["params"]["classifier"]["bias"] = bias * np.nan
        return run

    monkeypatch.setattr(trained, "load", broken)
    line = refused(capsys, "--workdir", alone)
    assert line == (f"workdir='{alone}': the logits of 96 of 96 images are not finite")


def test_corrupted_images_have_an_accuracy_by_severity(run, capsys):
    flags = f"--workdir={run}", "--corruptions=contrast,impulse_noise"
    status, text, _ = command(capsys, *flags)
    assert status == 0
    table = text.rstrip().split("\n\n")[-1].splitlines()
    assert table[0].split() == ["corruption,", "severity", *"12345", "mean"]
    assert [line.split()[0] for line in table[2:]] == [
        "contrast",
        "impulse_noise",
        "mean",
    ]
    values = [
        [float(value.rstrip("%")) for value in line.split()[1:]] for line in table[2:]
    ]
    np.testing.assert_allclose(values[2], np.mean(values[:2], axis=0), atol=0.011)
    for row in values:
        assert row[-1] == pytest.approx(np.mean(row[:-1]), abs=0.011)
    # Little contrast is harder than some.
    assert values[0][4] < values[0][0]


def test_what_cannot_be_corrupted_is_refused(run, capsys):
    known = "gaussian_noise, shot_noise"
    message = refused(capsys, f"--workdir={run}", "--corruptions=fog")
    assert f"--corruptions='fog' is none of {known}" in message
    message = refused(capsys, f"--workdir={run}", "--corruptions", "--images=photos")
    assert "--corruptions needs images with classes, not --images" in message
