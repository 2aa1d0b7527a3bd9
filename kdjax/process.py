"""The process that runs."""

import os
import pathlib
import time

_IMPORTED = time.monotonic()


def age_s() -> float:
    """Returns the seconds since the process began.

    Elsewhere than on Linux they are counted from the import of this file.
    """
    stat = pathlib.Path("/proc/self/stat")
    if not stat.exists():
        return time.monotonic() - _IMPORTED
    # Fields are counted after the name of the program, which may hold spaces.
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
