"""Compiles an experiment for an accelerator that is not there, and says what it needs.

    python -m kdjax.compile --config=configs/distill.py:ofd,wrn_28_4-wrn_16_2
    python -m kdjax.compile --config=configs/distill.py:mhgd,wrn_28_4-wrn_16_2 \\
      --target=v5e:2x2 --config.dtype=bfloat16 --json

--config   as for kdjax.main, and --config.FIELD=VALUE likewise. Data and teacher are
           not read, nor need they exist.
--target   h100, h200, a100, a100-40gb, l4, or a slice of TPUs: v4:2x2x1, v5e:2x2,
           v5p:2x2x1, v6e:2x2. Default: h100.
--devices  number of GPUs; --config.batch_size is over all of them. Default: 1.
--nolargest_batch  does not look for the largest batch that fits, which compiles twice.
--json     prints one object a line, one for each phase of the training.

It needs the compilers of requirements-targets.txt, and neither a driver nor a device.
docs/accelerators.md explains the figures.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence

from kdjax.cli import command_line
from kdjax.runs import console

#: In lines that the compilers print where there is no driver, or before they log.
_NOTICES = ("cudart_stub.cc", "absl::InitializeLog()", "InitGoogle()")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after an error of the user.

    It compiles in a process of its own, since a compiler that meets what it cannot do
    may end its process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"--help", "-help", "-h"} & set(arguments):
        print(__doc__)
        return 0
    with console.progress("compiling"):
        child = subprocess.run(
            [sys.executable, "-m", "kdjax.compile.command", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    print(child.stdout, end="")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        console.print_error(
            "compile",
            f"XLA's compiler was ended by {name}; it cannot compile this program for "
            "this target, or there was too little memory",
        )
        return 2
    for line in child.stderr.splitlines():
        if not any(notice in line for notice in _NOTICES):
            print(line, file=sys.stderr)
    return child.returncode


if __name__ == "__main__":
    command_line.run(main)
