"""Writers on a full disk."""

import pathlib

import pytest

from kdjax.runs import writers

RECORD = {"step": 1, "epoch": 1.0, "split": "train", "loss": 0.5}
FULL = pathlib.Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_record_that_cannot_be_written_names_the_file(tmp_path):
    file = writers.MetricsFile(tmp_path, resume_step=None)
    file.close()
    file._file = FULL.open("a")
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
        file.write(RECORD)
    with pytest.raises(OSError, match="No space left"):
        file.close()


def test_a_curve_that_cannot_be_written_names_the_folder(tmp_path, monkeypatch):
    board = writers.TensorBoard(tmp_path, resume_step=None)

    def full(_event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer, "write_event", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*tensorboard'"):
        board.write(RECORD)
    board.close()
