"""Commands whose output is closed, full, or holds what a terminal would act on."""

import os
import subprocess
import sys

import pytest

#: Prints, and says on stderr whether its own streams are still there.
PROGRAM = """
import os, sys
from kdjax.cli import command_line
def main():
    file = os.open(os.devnull, os.O_RDONLY)
    assert file > 2, "a file took the place of a closed stream"
    print("one")
    print("two \\x1b[31m\\ttab \\u00e9 \\udcff", flush=True)
    return {status}
command_line.run(main)
"""


def run(redirected, status=0, before="", **environment):
    """Runs the program in a shell that redirects its streams."""
    program = before + PROGRAM.format(status=status)
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirected}', sys.executable, program],
        capture_output=True,
        # Where Python does not buffer, nothing is left to be written at the end.
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
    )


def test_what_a_terminal_would_act_on_is_escaped():
    done = run("", status=3)
    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout.decode() == "one\ntwo \\x1b[31m    tab \u00e9 \\udcff\n"


def test_letters_that_the_encoding_lacks_are_escaped():
    done = run("", PYTHONIOENCODING="ascii")
    assert done.stdout == b"one\ntwo \\x1b[31m    tab \\xe9 \\udcff\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(closed):
    done = run(closed, status=3)
    assert (done.returncode, done.stderr) == (3, b"")


def test_a_reader_that_has_seen_enough_changes_nothing():
    """Python itself would fail to write the rest at its end, with status 120."""
    done = run(
        "| sleep 0; exit ${PIPESTATUS[0]}", before="import time; time.sleep(0.3)"
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_output_is_one_line():
    done = run(">/dev/full")
    assert done.returncode == 2
    assert done.stderr == b"kdjax: standard output: No space left on device\n"


def test_a_full_error_stream_ends_no_run():
    code = "from kdjax.runs import console; console.say('a'); console.warn('b')"
    command = f"'{sys.executable}' -c \"{code}\" 2>/dev/full"
    assert subprocess.run(["bash", "-c", command]).returncode == 0
