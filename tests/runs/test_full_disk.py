"""A save that fails for want of room, and what a process says of it."""

import subprocess
import sys

import pytest

from kdjax.runs import checkpoint

#: Saves 20 arrays, and again when no file can grow larger than so many bytes.
PROGRAM = """
import pathlib, resource, sys
from multiprocessing import shared_memory
import jax
from absl import flags
from kdjax import main
from kdjax.runs import checkpoint
flags.FLAGS(["test"]); main._FLAGS(["test"])
main._set_up_process(jax.config)
# Left to Python's tracker, which warns of it unless told otherwise.
shared = shared_memory.SharedMemory(create=True, size=8)
state = {f"array{i}": jax.random.normal(jax.random.key(i), (60, 60)) for i in range(20)}
try:
    with checkpoint.Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
        checkpoints.save(1, state, {})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        checkpoints.save(2, state, {})
        checkpoints.save(3, state, {})
except OSError as error:
    main._refuse(error)
"""


@pytest.mark.parametrize("size", [0, 20_000])
def test_a_full_disk_is_one_line(tmp_path, size):
    """TensorStore's other writes fail after the first, and report to a closed loop."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, str(size)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"kdjax: {tmp_path / 'checkpoints'}: saving failed: File too large; the "
        "checkpoint of step 1 is complete\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        'OUT_OF_RANGE: Error writing "k1": Failed writing: "/a/b": Failed to write '
        "9552 bytes to file 4: File too large [os_error_code='27']",
        "INTERNAL: writing: File too large [source locations='a.cc:1'] [os_error_code="
        "'27'] [details='{retry: 1, failed: true}']",
    ],
)
def test_the_reason_is_that_of_the_system(text):
    assert checkpoint._reason(ValueError(text)) == "File too large"
    outer = RuntimeError("saving failed")
    outer.__cause__ = ValueError(text)
    assert checkpoint._reason(outer) == "File too large"
    assert checkpoint._reason(OSError(28, "No space left on device")) == (
        "No space left on device"
    )
    assert checkpoint._reason(KeyError("a\nb")) == "KeyError: 'a\\nb'"
