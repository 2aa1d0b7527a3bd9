import os
import socket
import subprocess
import sys

import pytest

from kdjax.runs import lock

#: Holds the lock of a directory until it is killed.
HOLDER = """
import pathlib, sys, time
from kdjax.runs import lock
with lock.acquire(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_locked_directory_is_rejected_and_the_holder_named(tmp_path, holder):
    who = f"in use by process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(ValueError, match=who):
        lock.ensure_unlocked(tmp_path)
    with pytest.raises(ValueError, match=who), lock.acquire(tmp_path):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / lock.NAME).exists()
    lock.ensure_unlocked(tmp_path)
    with lock.acquire(tmp_path):
        assert str(os.getpid()) in (tmp_path / lock.HOLDER).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock.acquire(tmp_path / "new"):
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []
    with lock.acquire(tmp_path / "new"):
        pass
