"""The scripts of docs/examples run."""

import pathlib
import re
import sys

import pytest

from kdjax import recipes, train
from kdjax.data import datasets

EXAMPLES = pathlib.Path(__file__).parent.parent / "docs" / "examples"


def test_from_python(tmp_path, monkeypatch, capsys):
    """Runs the script with a smaller teacher and one epoch of each training."""
    full = train.train_and_evaluate

    def short(config, workdir):
        config.epochs = 1
        return full(config, workdir)

    monkeypatch.setattr(train, "train_and_evaluate", short)
    monkeypatch.setattr(sys, "argv", ["from_python.py", str(tmp_path)])
    source = (EXAMPLES / "from_python.py").read_text()
    exec(source.replace("wrn_16_2", "wrn_10_1"), {"__name__": "from_python"})
    printed = capsys.readouterr().out
    assert re.search(r"teacher: [\d.]+%\n", printed)
    assert re.search(r"predicted: \[[\d ]+\] true: \[[\d ]+\]", printed)


def test_the_untidy_folder_is_read_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec((EXAMPLES / "make_images.py").read_text(), {"__name__": "make_images"})
    config = recipes.alone("wrn_10_1,cifar100").data
    config.name, config.data_dir, config.image_size = "folder", "insects", 16
    found = datasets.describe(config)
    assert found.class_names == ("Ants", "Käfer", "moths", "wasps")
    page = " ".join((EXAMPLES.parent / "own_images.md").read_text().split())
    with pytest.raises(ValueError, match="4 of 248 files") as error:
        datasets.fingerprint(config, found)
    assert str(error.value) in page
    config.bad_images = "skip"
    data = datasets.load(config)
    assert (data.train.num_examples, data.test.num_examples) == (184, 60)
    test, *_, without_test = capsys.readouterr().err.splitlines()
    assert test in page
    assert without_test in page
