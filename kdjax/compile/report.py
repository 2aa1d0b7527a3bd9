"""Says what a compiled experiment needs, as text or JSON."""

import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from kdjax.compile.kernels import ASSUMED_ROUNDS
from kdjax.compile.measure import Measured
from kdjax.compile.targets import Target

#: Kinds of kernels in the order of the text.
_KINDS = (
    "convolution",
    "matrix product",
    "decomposition",
    "fusion",
    "collective",
    "copy",
    "custom call",
    "other",
)


def record(
    measured: Measured, target: Target, *, num_devices: int, batch_size: int, dtype: str
) -> dict[str, Any]:
    """Returns all figures of a phase by name, for JSON."""
    seconds = measured.seconds(target, dtype)
    work, memory = measured.work, measured.memory
    return {
        "phase": measured.phase,
        "replicas": measured.runs,
        "target": target.name,
        "devices": num_devices,
        "batch_size": batch_size,
        "dtype": dtype,
        "compile_s": round(measured.compile_s, 1),
        "parameters": measured.parameters,
        "memory_bytes": memory._asdict(),
        "device_bytes": target.memory,
        "usable_bytes": int(target.memory * target.usable),
        "fits": memory.total <= target.memory * target.usable,
        "largest_batch": measured.largest_batch,
        "kernels": sum(work.kernels.values()),
        "kernels_by_kind": dict(work.kernels),
        "data_dependent_loops": work.data_dependent_loops,
        "collectives": work.kernels.get("collective", 0),
        "collective_bytes": work.collective_bytes,
        "flops": measured.flops,
        "traffic_bytes": work.traffic,
        "roofline_ms": {name: round(1e3 * s, 3) for name, s in seconds.items()},
        "bound_by": max(seconds, key=seconds.get),
    }


def text(found: dict[str, Any], target: Target) -> str:
    """Returns what `record` holds as lines of a table."""
    memory = found["memory_bytes"]
    usable = found["usable_bytes"]
    kinds = found["kernels_by_kind"]
    roofline = found["roofline_ms"]
    others = ", ".join(
        f"{name} {ms:.3g}"
        for name, ms in roofline.items()
        if name != found["bound_by"] and ms
    )
    rows = [
        ("compiled in", f"{found['compile_s']:.0f} s"),
        ("trained parameters", f"{found['parameters']:,}"),
        (
            "memory a device",
            f"{_size(memory['total'])} of {_size(usable)}: state "
            f"{_size(memory['state'])}, teacher and constants "
            f"{_size(memory['frozen'])}, data {_size(memory['data'])}, temporaries "
            f"{_size(memory['temporaries'])}",
        ),
        (
            "fits",
            ("yes" if found["fits"] else "NO") + _largest(found["largest_batch"]),
        ),
        (
            "kernels a step" if target.launch_s else "operations a step",
            f"{found['kernels']:,}: "
            + ", ".join(f"{kinds[k]} {k}" for k in _KINDS if kinds.get(k)),
        ),
        ("loops on data", _loops(found["data_dependent_loops"])),
        (
            "collectives a step",
            f"{found['collectives']}, {_size(found['collective_bytes'])} a device",
        ),
        (
            "work a device",
            f"{found['flops'] / 1e9:,.1f} GFLOP, {_size(found['traffic_bytes'])} of "
            "memory traffic",
        ),
        (
            "a step takes",
            f"at least {roofline[found['bound_by']]:.3g} ms, bound by "
            f"{found['bound_by']}" + f" ({others})" * bool(others),
        ),
    ]
    several = f"{found['replicas']} runs, " * (found["replicas"] > 1)
    title = (
        f"{found['phase']}: {several}{found['devices']} x {target.description}, "
        f"batches of {found['batch_size']}, {found['dtype']}"
    )
    table = tabulate(
        [(name, textwrap.fill(value, 58)) for name, value in rows],
        tablefmt="plain",
        disable_numparse=True,
    )
    return f"{title}\n\n{table}"


def _largest(batch_size: int | None) -> str:
    if batch_size is None:
        return ""
    return f"; the largest batch is about {batch_size:,} images"


def _loops(count: int) -> str:
    if not count:
        return "none"
    return f"{count}, each counted as {ASSUMED_ROUNDS} rounds; the host waits in them"


def _size(count: float) -> str:
    """Returns a number of bytes in the unit that suits it."""
    units: Sequence[str] = ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if count < 1024 or unit == units[-1]:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    raise AssertionError
