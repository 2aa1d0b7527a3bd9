"""What values a field of a configuration may have."""

import dataclasses
import difflib
import math
import reprlib
from typing import Any

#: Largest magnitudes: of an integer in 32 bits, and of a number in float32, in which
#: the training computes.
_LARGEST_INTEGER = 2**31 - 1
_LARGEST_NUMBER = 3.4028234663852886e38

#: Longest text, as of a path in Linux.
_LONGEST_TEXT = 4096

#: Writes values in messages; cuts long ones.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a configuration.

    Attributes:
      default: the value in `kdjax.config.default`; its type is the field's.
      doc: what the field means, in Markdown.
      choices: values that it may have; None for any.
      or_integer: whether a text may be the digits of an integer instead of a choice.
      least: smallest number that it may be; None for any.
      most: largest number that it may be; None for any.
      below: number that it must be less than; None for any.
      above: number that it must be more than; None for any.
      length: of a tuple; None for any.
      ascending: whether the numbers of a tuple must ascend, each once.
      resume_may_differ: whether a run may be resumed with another value.
      in_recipe: whether runs that differ in it are different experiments rather than
        repeats of one.
    """

    default: Any
    doc: str
    choices: tuple[Any, ...] | None = None
    or_integer: bool = False
    least: float | None = None
    most: float | None = None
    below: float | None = None
    above: float | None = None
    length: int | None = None
    ascending: bool = False
    resume_may_differ: bool = False
    in_recipe: bool = True

    @property
    def type(self) -> str:
        """The type in words."""
        if isinstance(self.default, tuple):
            return "tuple of numbers"
        return {bool: "true or false", int: "integer", float: "number", str: "text"}[
            type(self.default)
        ]

    @property
    def allowed(self) -> str:
        """The allowed values in words; empty for all of the type."""
        if self.choices is not None:
            choices = [f"{choice!r}".replace("'", '"') for choice in self.choices]
            return ", ".join(choices + ["an integer"] * self.or_integer)
        lower = f"[{self.least:.10g}" if self.least is not None else ""
        lower = f"({self.above:.10g}" if self.above is not None else lower
        upper = f"{self.most:.10g}]" if self.most is not None else ""
        upper = f"{self.below:.10g})" if self.below is not None else upper
        if lower and upper:
            return f"{lower}, {upper}"
        if lower:
            return (
                f"at least {self.least:g}"
                if self.above is None
                else (f"more than {self.above:g}")
            )
        return ""

    def problem(self, value: Any) -> str | None:
        """Says what is wrong with a value; None if nothing is."""
        if isinstance(self.default, tuple):
            return self._problem_of_tuple(value)
        if problem := self._problem_of_type(value):
            return problem
        if isinstance(value, str):
            return self._problem_of_text(value) or self._problem_of_choice(value)
        if isinstance(value, bool):
            return self._problem_of_choice(value)
        return self._problem_of_number(value)

    def _problem_of_type(self, value: Any) -> str | None:
        kind = type(self.default)
        # An integer will do where a number is asked for; a bool is neither.
        fits = isinstance(value, int | float) if kind is float else type(value) is kind
        if not fits or (kind is float and isinstance(value, bool)):
            return f"is not {_article(self.type)}"
        return None

    def _problem_of_text(self, value: str) -> str | None:
        if "\0" in value:
            return "has a null character"
        if len(value) > _LONGEST_TEXT:
            return f"is longer than {_LONGEST_TEXT} characters"
        return None

    def _problem_of_choice(self, value: Any) -> str | None:
        if self.choices is None or value in self.choices:
            return None
        if self.or_integer and value.isascii() and value.isdecimal():
            return None
        close = difflib.get_close_matches(str(value), map(str, self.choices), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"is none of {self.allowed}{hint}"

    def _problem_of_number(self, value: float) -> str | None:
        # An integer of hundreds of digits cannot be converted to a float.
        if isinstance(value, float) and not math.isfinite(value):
            return "is not finite"
        within = (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
            and (self.above is None or value > self.above)
        )
        if within:
            return self._problem_of_size(value)
        if self.allowed.startswith(("[", "(")):
            return f"is not in {self.allowed}"
        return f"is not {self.allowed}"

    def _problem_of_size(self, value: float) -> str | None:
        if isinstance(self.default, int):
            bounded = self.most is not None or self.below is not None
            too_large = abs(value) > _LARGEST_INTEGER and not bounded
            return "does not fit in 32 bits" if too_large else None
        return "is not finite in float32" if abs(value) > _LARGEST_NUMBER else None

    def _problem_of_tuple(self, value: Any) -> str | None:
        if not isinstance(value, tuple | list):
            return f"is not {_article(self.type)}"
        if self.length is not None and len(value) != self.length:
            return f"must have {self.length} values"
        for number in value:
            if isinstance(number, bool) or not isinstance(number, int | float):
                return f"is not {_article(self.type)}"
            if problem := self._problem_of_number(number):
                short = f"{number:g}" if isinstance(number, float) else shown(number)
                return f"has {short}, which {problem}"
        if self.ascending and list(value) != sorted(set(value)):
            return "must ascend, each once"
        return None


def shown(value: Any) -> str:
    """Returns the value of a field for a message, cut if it is long."""
    return _SHOWN.repr(value)


def _article(noun: str) -> str:
    if noun == "text":
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
