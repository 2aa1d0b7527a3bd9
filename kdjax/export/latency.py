"""Times a program on this machine's CPU."""

import os
import platform
import time
from pathlib import Path

import numpy as np

from kdjax.export.program import Program

#: Calls that quartiles are taken of, and those made before.
CALLS, _WARM_UP = 100, 10


def milliseconds(call: Program, image: np.ndarray) -> tuple[float, float, float]:
    """Returns the quartiles of the times of calls of a program, in ms."""
    times = []
    for _ in range(_WARM_UP + CALLS):
        start = time.perf_counter()
        call(image)
        times.append(1e3 * (time.perf_counter() - start))
    return tuple(np.percentile(times[_WARM_UP:], (25, 50, 75)))


def processor() -> str:
    """Returns the name of the CPU, if the system has it, and its number of cores."""
    name = platform.processor() or platform.machine()
    # Linux has the model only here; the name above is that of the architecture.
    if (listing := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in listing.read_text().splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}
        name = found.get("model name", name)
    return f"{name}, {os.cpu_count()} cores"
