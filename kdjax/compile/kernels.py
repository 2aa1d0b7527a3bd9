"""Counts what a compiled program gives a device to do."""

import collections
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kdjax.compile import hlo
from kdjax.compile.hlo import Instruction, Program

#: Rounds that a loop is counted with if its end depends on data.
ASSUMED_ROUNDS = 8

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

#: Instructions that name memory and run nothing.
_FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "add-dependency",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "domain",
    )
)

#: Start of a custom call's target, and what it is.
_CUSTOM_CALLS = {
    "__cudnn$conv": "convolution",
    "__cublas": "matrix product",
    "cublas": "matrix product",
    "cusolver": "decomposition",
    "__triton": "fusion",
}

#: Custom calls that run nothing.
_FREE_CALLS = ("AllocateBuffer", "AssumeGatherIndicesInBound", "Sharding")

#: Reads of a part of their first operand.
_PARTIAL_READS = ("dynamic-slice", "gather", "slice")


class Work(NamedTuple):
    """What a program asks of one device.

    Attributes:
      kernels: number of launches by kind; those in a loop count once a round.
      traffic: bytes read and written by all of them, if each reads its operands from
        memory and writes its results there.
      collective_bytes: that the device gives to collectives.
      data_dependent_loops: loops whose end depends on data, so that the host waits for
        the device each round; counted with `ASSUMED_ROUNDS`.
    """

    kernels: Mapping[str, int]
    traffic: int
    collective_bytes: int
    data_dependent_loops: int


def count(program: Program) -> Work:
    """Counts the work of a program from its entry on."""
    return _Counter(program).count()


class _Counter:
    def __init__(self, program: Program):
        self._program = program
        self._shapes = {
            instruction.name: instruction.shape
            for lines in program.computations.values()
            for instruction in lines
        }
        self._work: dict[str, Work] = {}

    def count(self) -> Work:
        # A loop in a loop is one loop.
        loops = {
            instruction.name
            for instruction in self._program.reached()
            if instruction.opcode == "while" and instruction.trip_count is None
        }
        work = self._computation(self._program.entry)
        return work._replace(data_dependent_loops=len(loops))

    def _computation(self, name: str) -> Work:
        """Counts a computation and what it calls."""
        if name not in self._work:
            parts = map(self._instruction, self._program.computations[name])
            self._work[name] = _sum(parts)
        return self._work[name]

    def _instruction(self, line: Instruction) -> Work:
        if line.opcode == "while":
            roles = self._program.loops[line.name]
            if line.trip_count is not None:
                return _times(self._computation(roles["body"]), line.trip_count)
            parts = map(self._computation, roles.values())
            return _times(_sum(parts), ASSUMED_ROUNDS)
        if line.opcode == "conditional":
            branches = map(self._computation, line.callees)
            return max(branches, key=lambda work: sum(work.kernels.values()))
        if line.opcode in ("call", "async-start"):
            return _sum(map(self._computation, line.callees))
        if _runs_nothing(line):
            return _sum(())
        kind = self._kind(line)
        operands = sum(hlo.num_bytes(self._shapes.get(o, "")) for o in line.operands)
        return Work(
            {kind: 1},
            self._traffic(line),
            int(operands) if kind == "collective" else 0,
            0,
        )

    def _kind(self, line: Instruction) -> str:
        """Returns what a kernel computes."""
        name = line.opcode.removesuffix("-start")
        if name in _COLLECTIVES:
            return "collective"
        if line.opcode == "custom-call":
            known = (k for start, k in _CUSTOM_CALLS.items() if start in line.target)
            return next(known, "custom call")
        opcodes = {line.opcode}
        if line.opcode == "fusion":
            opcodes |= self._opcodes(line.callees)
        if "convolution" in opcodes:
            return "convolution"
        if "dot" in opcodes:
            return "matrix product"
        return {"fusion": "fusion", "copy": "copy"}.get(name, "other")

    def _opcodes(self, names: tuple[str, ...]) -> set[str]:
        """Returns the opcodes in computations and in those that they call."""
        found = set()
        for name in names:
            for line in self._program.computations[name]:
                found |= {line.opcode} | self._opcodes(line.callees)
        return found

    def _traffic(self, line: Instruction) -> int:
        """Returns the bytes that a kernel reads and writes."""
        written = hlo.num_bytes(line.shape)
        if line.opcode != "fusion":
            sizes = [hlo.num_bytes(self._shapes.get(o, "")) for o in line.operands]
            if line.opcode in _PARTIAL_READS:
                sizes[:1] = [written]
            if line.opcode == "dynamic-update-slice":
                # In place: the update is read and written.
                return int(2 * sizes[1] + sum(sizes[2:]))
            return int(written + sum(sizes))
        (body,) = line.callees
        lines = self._program.computations[body]
        root = next(x for x in lines if x.is_root)
        in_place = None
        if root.opcode == "dynamic-update-slice":
            written = hlo.num_bytes(self._shapes[root.operands[1]])
            in_place = root.operands[0]
        read = 0
        for parameter in (x for x in lines if x.opcode == "parameter"):
            users = [x for x in lines if parameter.name in x.operands]
            if parameter.name == in_place and users == [root]:
                continue
            partial = [
                x
                for x in users
                if x.opcode in _PARTIAL_READS and x.operands[0] == parameter.name
            ]
            whole = hlo.num_bytes(parameter.shape)
            if users and len(partial) == len(users):
                whole = min(whole, sum(hlo.num_bytes(x.shape) for x in partial))
            read += whole
        return int(written + read)


def _runs_nothing(line: Instruction) -> bool:
    if line.opcode == "custom-call":
        return line.target.startswith(_FREE_CALLS)
    return line.opcode in _FREE or line.opcode.endswith(("-done", "-update"))


def _sum(parts: Iterable[Work]) -> Work:
    kernels: collections.Counter[str] = collections.Counter()
    traffic = collective_bytes = 0
    for work in parts:
        kernels.update(work.kernels)
        traffic += work.traffic
        collective_bytes += work.collective_bytes
    return Work(kernels, traffic, collective_bytes, 0)


def _times(work: Work, rounds: int) -> Work:
    kernels = {kind: n * rounds for kind, n in work.kernels.items()}
    return Work(kernels, work.traffic * rounds, work.collective_bytes * rounds, 0)
