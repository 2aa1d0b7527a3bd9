"""Hostile values of a configuration's fields, and what kdjax answers to each.

    python -m tests.hostile.overrides

prints the table of field, value, answer, status and seconds. The values come from the
field table, so a new field is covered the day it is added.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import ml_collections
from absl import flags
from ml_collections import config_flags

from kdjax import distill, recipes
from kdjax.config import checks, fields
from kdjax.config.field import Field
from kdjax.config.fields import FIELDS
from kdjax.distill.bases.logit import LogitMethod
from kdjax.runs import messages

#: What a refusal starts with that is none.
TRACEBACK = "TRACEBACK "

_NUMBERS = ("nan", "inf", "-inf", "1e999", "-1", "0", "0.5", "1", "2", str(2**63))
_NUMBERS += ("1" + "0" * 400, "True")
_TEXTS = ("", "{}", "None", "()", "no_such_thing", "a\nb", "\x1b[31mred", "a\0b")
_TEXTS += ("/" + "x" * 5000,)
_TUPLES = ("(nan,)", "(inf, 1, 1)", "(0.7, 0.5)", "(0.5, 0.5)", "(True, 0.5)")
_TUPLES += ("('a',)", "((1,),)", "(-1, 0, 1)", f"({2**63}, 1, 1)", "0.5", "'0.5'")
_TUPLES += ("(1" + "0" * 400 + ", 1, 1)", "(0, 0, 0)", "[0.5]", "{1: 2}")

#: For the names of networks.
_NETWORKS = ("resnet99998", "resnet20@1000000", "wrn_10_9999", "resnt20", "vgg999999")
_NETWORKS += ("pyramidnet_110_99999999_basic", "wrn_" + "9" * 4000 + "_1")

#: For fields that are no texts.
_OTHER_TYPES = ("", "{}", "None", "()", "\x1b[31mred", "a\nb")


class Answer(NamedTuple):
    """What kdjax says to an override.

    Attributes:
      field: dotted name.
      value: as on the command line.
      refusal: the message, before it is brought on one line; None if it is accepted.
      seconds: until the answer.
      kept: the value in the checked configuration; None if it is refused.
    """

    field: str
    value: str
    refusal: str | None
    seconds: float
    kept: object = None


def values(name: str, entry: Field) -> tuple[str, ...]:
    """Returns hostile texts for a field: of its own type and of every other."""
    if isinstance(entry.default, str):
        networks = _NETWORKS if name.endswith(("model", "peer")) else ()
        return _TEXTS + _NUMBERS[:5] + networks
    limits = tuple(
        str(type_(limit))
        for limit in (entry.least, entry.most, entry.below, entry.above)
        if limit is not None
        for type_ in (type(entry.default),)
        if type_ in (int, float)
    )
    own = _TUPLES if isinstance(entry.default, tuple) else ()
    return tuple(dict.fromkeys(_NUMBERS + limits + own + _OTHER_TYPES))


def hyperparameters() -> dict[str, Field]:
    """Returns the hyperparameters of every method as fields, by dotted name.

    Those that methods inherit from `Method` or `LogitMethod` are there once.
    """
    inherited = {field.name for field in dataclasses.fields(LogitMethod)}
    return {
        f"methods.{method}.{name}": Field(default=default, doc="")
        for method in distill.METHODS
        for name, default in distill.hyperparameters(method).items()
        if method == "kd" or name not in inherited
    }


def recipe(field: str) -> ml_collections.ConfigDict:
    """Returns a recipe that has a field, and nothing that costs a check time."""
    parts = field.split(".")
    if parts[0] != "methods" or len(parts) == 1:
        return recipes.alone("resnet8,digits")
    token = distill.METHODS[parts[1]].needs_distillation_token
    student = "vit_4_64_distilled" if token else "resnet8"
    config = recipes.distillation(f"resnet8-{student},digits", {parts[1]: {}})
    config.teacher.checkpoint = "runs/teacher"
    return config


def answer(field: str, value: str) -> Answer:
    """Overrides one field of a recipe as the command line does, and checks it."""
    config, refusal, kept = recipe(field), None, None
    start = time.perf_counter()
    defined = flags.FlagValues()
    argv = ["kdjax", f"--config.{field}={value}"]
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=defined, sys_argv=argv
    )
    try:
        defined(argv)
    except Exception as error:  # As in `kdjax.main`.
        refusal = messages.parsing_error(error, argv)
    else:
        try:
            if field.startswith("methods."):
                # What follows is a matter of networks, not of values.
                distill.build(config.methods, num_classes=10, num_examples=50_000)
            else:
                checks.check(config)
            kept = fields.value(config, field)
        except (ValueError, OSError) as error:
            refusal = messages.one_line(error)
        except Exception as error:  # A traceback of the command.
            refusal = f"{TRACEBACK}{type(error).__name__}: {error}"
    return Answer(field, value, refusal, time.perf_counter() - start, kept)


def answers() -> Iterator[Answer]:
    """Yields the answer to every hostile value of every field, and to its sections."""
    # absl takes the text of a configuration twice, nine tenths of the time of all this.
    with mock.patch.object(ml_collections.ConfigDict, "__str__", object.__repr__):
        yield from _answers()


def _answers() -> Iterator[Answer]:
    for name, entry in (FIELDS | hyperparameters()).items():
        yield from (answer(name, value) for value in values(name, entry))
    sections = {name.rpartition(".")[0] for name in FIELDS} - {""} | {"methods"}
    for section in sorted(sections):
        yield from (answer(section, value) for value in ("{}", "", "1", "None", "()"))


def summary(found: list[Answer]) -> str:
    """Counts answers, and says how long the slowest refusal took."""
    refused = [answer for answer in found if answer.refusal is not None]
    slowest = max(refused, key=lambda answer: answer.seconds)
    return (
        f"{len(found)} tried, {len(refused)} refused, {len(found) - len(refused)} "
        f"accepted; the slowest refusal took {slowest.seconds:.2f} s: {slowest.field}"
    )


def main() -> None:
    """Prints the table."""
    found = list(answers())
    for field, value, refusal, seconds, _ in found:
        shown = value if len(value) < 40 else f"{value[:37]}..."
        status = 2 if refusal else 0
        print(f"{field}\t{shown!r}\t{refusal or 'accepted'}\t{status}\t{seconds:.2f} s")
    print(summary(found))


if __name__ == "__main__":
    main()
