"""Reads the text of a compiled XLA program.

XLA has no public interface to the instructions of an executable; its text has been
stable for years, and only what is needed here is read of it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r" ?([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLEE = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation|"
    r"branch_computations|called_computations)="
    r"(?:%?([\w.\-]+)|\{([^}]*)\})"
)
_ROLE = re.compile(r"\b(body|condition)=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_NAME = re.compile(r"%([\w.\-]+)")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: unique in the program.
      opcode: such as "fusion".
      shape: type of the result as text, such as "f32[8,16]{1,0}".
      operands: names of the instructions whose results it reads.
      callees: names of the computations that it calls.
      trip_count: rounds of a loop; None if they depend on data, or it is no loop.
      target: of a custom call, else "".
      is_root: whether its result is that of the computation.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    callees: tuple[str, ...]
    trip_count: int | None
    target: str
    is_root: bool


class Program(NamedTuple):
    """The computations of a program.

    Attributes:
      computations: instructions in order, by the name of the computation.
      entry: name of the computation that is run.
      loops: name of the body and of the condition, by the name of a `while`.
    """

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str
    loops: Mapping[str, Mapping[str, str]]

    def reached(self) -> Iterator[Instruction]:
        """Yields the instructions of the entry and of all that it calls."""
        waiting, seen = [self.entry], set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for instruction in self.computations[name]:
                yield instruction
                waiting += instruction.callees


def parse(text: str) -> Program:
    """Reads `jax.stages.Compiled.as_text()`.

    Raises:
      ValueError: if the text is not that of a program.
    """
    computations: dict[str, list[Instruction]] = {}
    loops: dict[str, dict[str, str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = computations.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            instruction = _instruction(match[2], match[3], is_root=bool(match[1]))
            current.append(instruction)
            if instruction.opcode == "while":
                loops[instruction.name] = dict(_ROLE.findall(match[3]))
    if not entry:
        raise ValueError("the text has no ENTRY computation: it is no XLA program")
    known = {name: tuple(lines) for name, lines in computations.items()}
    return Program(known, entry, loops)


def num_bytes(shape: str) -> int:
    """Returns the size of an array, or of a tuple of arrays, from its type as text."""
    return sum(
        math.prod(int(n) for n in sizes.split(",") if n) * _itemsize(dtype)
        for dtype, sizes in _ARRAY.findall(shape)
    )


def _itemsize(dtype: str) -> float:
    if dtype == "pred":
        return 1
    if dtype in ("token", "opaque"):
        return 0
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 1


def _instruction(name: str, text: str, *, is_root: bool) -> Instruction:
    """Reads what follows the equals sign of an instruction."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:]
    opcode = _OPCODE.match(rest)
    close = _closing(rest, opcode.end() - 1)
    attributes = rest[close + 1 :]
    callees = []
    for one, several in _CALLEE.findall(attributes):
        callees += [one] if one else re.findall(r"[\w.\-]+", several)
    trips = _TRIP_COUNT.search(attributes)
    target = _TARGET.search(attributes)
    return Instruction(
        name=name,
        opcode=opcode[1],
        shape=shape,
        operands=tuple(_NAME.findall(rest[opcode.end() : close])),
        callees=tuple(callees),
        trip_count=int(trips[1]) if trips else None,
        target=target[1] if target else "",
        is_root=is_root,
    )


def _closing(text: str, start: int) -> int:
    """Returns the position of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"a parenthesis is not closed: {text[:80]!r}")
