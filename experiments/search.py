"""Which values of hyperparameters a sweep tries."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

#: The values of a trial, by the field that they are set in.
Trial = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A field and the values that it may have.

    Attributes:
      field: its dotted name in a configuration.
      kind: "log" and "uniform" draw from an interval, evenly in the logarithm or in the
        value; "times" is "log" with ends that are multiples of the configuration's own
        value; "int" draws integers; "choice" takes one of several texts.
      values: both ends of the interval, or the choices.
    """

    field: str
    kind: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Dimension":
        """Reads FIELD=KIND:LOW:HIGH or FIELD=choice:A,B,...

        Raises:
          ValueError: says what is wrong with the text.
        """
        field, equals, rest = text.partition("=")
        kind, _, values = rest.partition(":")
        if not (field and equals and values) or kind not in _KINDS:
            raise ValueError(
                f"--over={text!r} is not FIELD=KIND:VALUES, as in "
                "methods.kd.weight=log:0.1:10; kinds are " + ", ".join(_KINDS)
            )
        if kind == "choice":
            return cls(field, kind, tuple(values.split(",")))
        try:
            low, high = map(float, values.split(":"))
        except ValueError:
            raise ValueError(f"--over={text!r} has no two numbers LOW:HIGH") from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"--over={text!r}: {low:g} is not less than {high:g}")
        if kind in ("log", "times") and low <= 0:
            raise ValueError(f"--over={text!r}: {low:g} has no logarithm")
        return cls(field, kind, tuple(values.split(":")))

    def around(self, own: object) -> "Dimension":
        """Returns the dimension whose values do not depend on the configuration's own.

        Raises:
          ValueError: if multiples are asked for of what has none.
        """
        if self.kind != "times":
            return self
        if isinstance(own, bool) or not isinstance(own, int | float) or own <= 0:
            raise ValueError(
                f"--over={self.field}=times:...: the configuration's own value is "
                f"{own!r}, and multiples are of numbers above 0"
            )
        ends = tuple(repr(own * float(value)) for value in self.values)
        return dataclasses.replace(self, kind="log", values=ends)

    def at(self, place: float) -> str:
        """Returns the value at a place from 0 to 1, less than 1; not of multiples."""
        if self.kind == "choice":
            return self.values[int(place * len(self.values))]
        low, high = map(float, self.values)
        if self.kind == "int":
            return str(int(low) + int(place * (int(high) - int(low) + 1)))
        if self.kind == "log":
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            value = low + place * (high - low)
        return f"{value:.4g}"

    def grid(self, points: int) -> list[str]:
        """Returns all choices, or values at equal distances with both ends."""
        if self.kind == "choice":
            return list(self.values)
        ends = (0.0, math.nextafter(1, 0))
        return list(dict.fromkeys(map(self.at, np.linspace(*ends, points))))


_KINDS = ("log", "times", "uniform", "int", "choice")


def random(dimensions: Sequence[Dimension], trials: int, seed: int) -> list[Trial]:
    """Draws trials independently; the first of more trials are those of fewer."""
    rng = np.random.default_rng(seed)
    places = rng.random((trials, len(dimensions)))
    return [
        {d.field: d.at(place) for d, place in zip(dimensions, row, strict=True)}
        for row in places
    ]


def grid(dimensions: Sequence[Dimension], trials: int) -> list[Trial]:
    """Returns every combination of values, with equally many of each interval.

    Raises:
      ValueError: if there are more than `trials` with two values of each interval.
    """
    choices = math.prod(len(d.values) for d in dimensions if d.kind == "choice")
    intervals = sum(d.kind != "choice" for d in dimensions)
    points = 2
    while intervals and choices * (points + 1) ** intervals <= trials:
        points += 1
    columns = [dimension.grid(points) for dimension in dimensions]
    if (size := math.prod(map(len, columns))) > trials:
        raise ValueError(f"the smallest grid has {size} trials, more than {trials}")
    fields = [dimension.field for dimension in dimensions]
    return [dict(zip(fields, row, strict=True)) for row in itertools.product(*columns)]


def rungs(trials: int, epochs: int, factor: int) -> list[tuple[int, int]]:
    """Plans successive halving (Jamieson and Talwalkar, AISTATS 2016).

    Args:
      trials: to begin with.
      epochs: of the last trials.
      factor: one of so many trials of a rung goes on, with so many times its epochs.

    Returns:
      Trials and epochs of each rung; every rung trains about as many epochs in all.
    """
    count = 1
    while trials // factor**count >= 1 and epochs // factor**count >= 1:
        count += 1
    return [
        (trials // factor**rung, epochs // factor ** (count - 1 - rung))
        for rung in range(count)
    ]


def best(scores: Mapping[int, float], count: int) -> list[int]:
    """Returns the trials of the highest scores, of equal ones the first."""
    return sorted(scores, key=lambda trial: (-scores[trial], trial))[:count]
