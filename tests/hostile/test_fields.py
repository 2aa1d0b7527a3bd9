"""Every hostile value of every field is refused in one line, or is a possible value."""

import itertools
import math
import re

import pytest

from kdjax.config.fields import FIELDS
from tests.hostile import overrides

#: Seconds until a refusal; a limit that a busy machine keeps, too.
LONGEST_S = 5.0


@pytest.fixture(scope="module")
def answers():
    return list(overrides.answers())


def test_refusals_are_one_short_line_that_names_the_field(answers):
    for answer in answers:
        if answer.refusal is None:
            continue
        assert not answer.refusal.startswith(overrides.TRACEBACK), answer
        assert answer.refusal.isprintable(), answer
        # A method of the field's may miss something else first.
        *section, _ = answer.field.split(".")
        named = ".".join(section) if section[:1] == ["methods"] else answer.field
        assert named in answer.refusal, answer
        assert len(answer.refusal) < 1_500, answer
        assert answer.seconds < LONGEST_S, answer


def test_what_is_accepted_is_of_the_field_s_type_and_finite(answers):
    fields = FIELDS | overrides.hyperparameters()
    accepted = [answer for answer in answers if answer.refusal is None]
    assert len(answers) > len(accepted) > len(fields)
    for answer in accepted:
        if answer.field not in fields:
            assert (answer.field, answer.value) == ("methods", "{}")
            continue
        default, kept = fields[answer.field].default, answer.kept
        assert type(kept) is type(default), answer
        for value in kept if isinstance(kept, tuple) else (kept,):
            if isinstance(value, str):
                assert "\0" not in value, answer
                assert len(value) < 5_000, answer
            elif isinstance(default, int):
                assert abs(value) < 2**32, answer
            else:
                assert math.isfinite(value), answer
                assert abs(value) < 3.5e38, answer
            if isinstance(value, int | float) and "mean" not in answer.field:
                # What is added to a momentum may be negative, and -1 stands for `seed`.
                signed = answer.field.endswith("_delta") or answer.field == "data.seed"
                assert value >= 0 or signed, answer
        if answer.field.endswith("lr_milestones"):
            assert all(a < b for a, b in itertools.pairwise(kept)), answer


@pytest.mark.parametrize("name", FIELDS)
def test_the_recipe_s_own_value_is_accepted(name):
    value = overrides.recipe(name)
    for part in name.split("."):
        value = value[part]
    assert overrides.answer(name, str(value)).refusal is None


def test_the_table_shows_every_answer(answers):
    line = overrides.summary(answers)
    count = re.match(r"(\d+) tried, (\d+) refused, (\d+) accepted; ", line).groups()
    tried, refused, accepted = map(int, count)
    assert tried == refused + accepted == len(answers)
