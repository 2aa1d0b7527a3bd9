import math
from collections import Counter

import pytest

from experiments import search
from experiments.search import Dimension


def test_random_trials_spread_as_their_kind_says():
    dimensions = [
        Dimension.parse("a=log:0.01:100"),
        Dimension.parse("b=uniform:-1:1"),
        Dimension.parse("c=int:1:4"),
        Dimension.parse("d=choice:x,y"),
    ]
    trials = search.random(dimensions, 4000, seed=1)
    logs = [math.log10(float(trial["a"])) for trial in trials]
    # Means of uniform draws, within five standard errors.
    assert sum(logs) / 4000 == pytest.approx(0, abs=5 * 4 / math.sqrt(12 * 4000))
    assert -2 <= min(logs) < -1.99
    assert 1.99 < max(logs) <= 2
    values = [float(trial["b"]) for trial in trials]
    assert sum(values) / 4000 == pytest.approx(0, abs=5 * 2 / math.sqrt(12 * 4000))
    counts = Counter(trial["c"] for trial in trials)
    assert set(counts) == {"1", "2", "3", "4"}
    assert all(abs(count - 1000) < 5 * math.sqrt(750) for count in counts.values())
    assert set(Counter(trial["d"] for trial in trials)) == {"x", "y"}
    # More trials begin with those of fewer.
    assert search.random(dimensions, 7, seed=1) == trials[:7]
    assert search.random(dimensions, 7, seed=2) != trials[:7]


def test_a_grid_has_the_ends_and_all_combinations():
    dimensions = [Dimension.parse("a=log:0.1:10"), Dimension.parse("b=choice:x,y")]
    trials = search.grid(dimensions, 7)
    assert [trial["a"] for trial in trials[::2]] == ["0.1", "1", "10"]
    assert [trial["b"] for trial in trials] == ["x", "y"] * 3
    assert Dimension.parse("a=int:2:4").grid(9) == ["2", "3", "4"]
    with pytest.raises(ValueError, match="the smallest grid has 4 trials, more than 3"):
        search.grid(dimensions, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "is not FIELD=KIND:VALUES, as in"),
        ("a=normal:0:1", "kinds are log, times, uniform, int, choice"),
        ("a=log:1", "has no two numbers LOW:HIGH"),
        ("a=uniform:2:1", "2 is not less than 1"),
        ("a=uniform:0:nan", "0 is not less than nan"),
        ("a=log:0:1", "0 has no logarithm"),
        ("a=times:0:1", "0 has no logarithm"),
    ],
)
def test_values_that_make_no_sense_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Dimension.parse(text)


def test_multiples_are_of_the_configurations_own_value():
    times = Dimension.parse("a=times:0.1:10")
    assert times.around(0.9).grid(5) == ["0.09", "0.2846", "0.9", "2.846", "9"]
    others = Dimension.parse("a=log:0.1:10")
    assert others.around("any") is others
    for own in (0, -1.0, True, "high", None):
        with pytest.raises(ValueError, match=f"own value is {own!r}, and multiples"):
            times.around(own)


def test_every_rung_trains_about_as_many_epochs():
    assert search.rungs(27, 90, 3) == [(27, 3), (9, 10), (3, 30), (1, 90)]
    assert search.rungs(4, 6, 3) == [(4, 2), (1, 6)]
    assert search.rungs(9, 2, 3) == [(9, 2)]


def test_of_equal_scores_the_first_is_better():
    assert search.best({0: 1.0, 1: 3.0, 2: 3.0, 3: 2.0}, 3) == [1, 2, 3]
