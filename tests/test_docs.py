"""The scripts of docs/examples run."""

import pathlib
import re
import sys

from kdjax import train

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
