"""What a person sees, on a real terminal of a given width and in a pipe."""

import contextlib
import fcntl
import os
import re
import struct
import sys
import termios
import time

import numpy as np
import pytest

from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.runs import console, writers
from kdjax.runs.log import RunLog


@contextlib.contextmanager
def terminal(monkeypatch, columns):
    """Makes stderr a terminal; yields a function that returns what was written."""
    main, terminal = os.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    os.set_blocking(main, False)

    def read():
        text = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(main, 65536):
                text += chunk
        return text.decode()

    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        yield read
        monkeypatch.undo()
    os.close(main)


def plan():
    return BatchPlan(
        num_examples=50_000, batch_size=128, devices=1, drop_remainder=False, seed=0
    )


def final_lines(text):
    """Returns the lines of a terminal in the end, each as last overwritten."""
    lines = [re.sub(r"\x1b\[[A-Z]", "", line) for line in text.split("\n")]
    return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]


def drawn(text):
    """Returns everything that stood in one line at any time."""
    return [re.sub(r"\x1b\[[A-Z]", "", part) for part in re.split(r"[\r\n]+", text)]


@pytest.mark.parametrize("columns", [66, 80, 120])
def test_the_bar_fits_the_terminal_and_shows_the_test_accuracy(monkeypatch, columns):
    steps = 200 * plan().steps_per_epoch
    with terminal(monkeypatch, columns) as read:
        bar = writers.ProgressBar("mobilenet_v2", plan=plan(), total_steps=steps)
        bar.start(0)
        bar.show("train", {"loss": 1.23456, "accuracy": 0.5, "learning_rate": 0.05})
        bar.show("test", {"accuracy": 0.77})
        monkeypatch.setattr(writers, "_REDRAW_S", -1)
        bar.advance(1.5 * plan().steps_per_epoch, 12_345.6, 36_000.0)
        bar.note("evaluating and saving")
        assert max(map(len, drawn(bars := read()))) <= columns
        record = {"split": "test", "step": 782, "epoch": 2.0, "accuracy": 0.81}
        bar.write(record)
        bar.close()
        text = read()
    assert "mobilenet_v2: epoch 1.5/200 " in bars
    assert "10:00:00 left, test 77.0%" in bars
    assert ("12,346 images/s" in bars) == (columns == 120)
    line = "mobilenet_v2: epoch 2/200: test 81.0%, loss 1.235, train 50.0%, lr 0.05"
    assert line in final_lines(text)


def test_a_run_tells_in_lines_where_stderr_is_no_terminal(tmp_path, capsys):
    steps = 2 * plan().steps_per_epoch
    found = {"loss": np.float32(2.5), "accuracy": np.float32(0.25)}

    def open_log(resume_step, state):
        return RunLog(
            tmp_path,
            description="wrn",
            plan=plan(),
            total_steps=steps,
            log_every=1000,
            schedule=lambda step: 0.1,
            resume_step=resume_step,
            resume_state=state,
        )

    with open_log(None, None) as log:
        log.evaluated("teacher_test", 0, {"accuracy": 0.9})
        log.steps_done(1, found)
        log.pause(1)
        log.evaluated("test", 391, {"accuracy": 0.75})
        state = log.state
        # Of the second epoch alone, although the last train record is older.
        log.steps_done(392, {"loss": np.float32(0.5), "accuracy": np.float32(1)})
        log.evaluated("test", 782, {"accuracy": 0.8})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "wrn: teacher: test 90.0%"
    assert re.fullmatch(r"wrn: first step after \d\.\d s", lines[1])
    assert lines[2] == "wrn: epoch 1/2: test 75.0%, loss 2.500, train 25.0%, lr 0.1"
    assert lines[3] == "wrn: epoch 2/2: test 80.0%, loss 0.500, train 100.0%, lr 0.1"
    assert len(lines) == 4
    with open_log(391, state) as log:
        log.evaluated("test", 782, {"accuracy": 0.8})
    assert capsys.readouterr().err.splitlines() == [
        "wrn: resumed at step 391 (epoch 1)",
        "wrn: epoch 2/2: test 80.0%",
    ]


def test_progress_shows_seconds_and_disappears(monkeypatch, capsys):
    with terminal(monkeypatch, 80) as read:
        with console.progress("reading"):
            console.say("a line")
            time.sleep(1.2)
        console.warn("another")
        text = read()
    assert "reading ..." in text
    assert "reading ... 1 s" in text
    assert final_lines(text) == ["a line", "kdjax: warning: another", ""]
    with console.progress("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_control_characters_are_shown_escaped(capsys):
    console.say("runs/\x1b[31mred\nblue\u202e \udcff Größe")
    shown = "runs/\\x1b[31mred\\nblue\\u202e \\udcff Größe\n"
    assert capsys.readouterr().err == shown
