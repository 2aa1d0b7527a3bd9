"""The clock of images per second, with a clock of its own."""

import types

import pytest

from kdjax.runs import clock


@pytest.fixture
def now(monkeypatch):
    now = types.SimpleNamespace(s=0.0)
    monkeypatch.setattr(clock.time, "monotonic", lambda: now.s)
    return now


def test_compilation_and_pauses_are_no_training(now):
    run = clock.Clock(total_images=1000)
    assert run.images_per_s is None
    now.s = 60  # Compiles.
    run.step_done(10)
    assert run.images_per_s is None
    assert run.seconds_left(10) is None
    now.s += 2
    run.step_done(30)
    assert run.images_per_s == 10
    assert run.seconds_left(30) == 97
    run.pause(30)
    now.s += 50  # Compiles and evaluates.
    run.step_done(40)
    assert run.images_per_s == 10
    now.s += 2
    run.step_done(60)
    assert run.images_per_s == 10
    assert run.seconds_left(60) == 94


def test_the_time_left_counts_pauses_but_for_the_first(now):
    run = clock.Clock(total_images=1000)
    images = 0
    for pause_s in (50, 4, 6):
        for _ in range(11):
            now.s += 1
            images += 10
            run.step_done(images)
        run.pause(images)
        now.s += pause_s
    run.step_done(images + 10)
    assert run.images_per_s == 10
    # From the first pause to the last 220 images, and 11 s until steps went on.
    assert run.seconds_left(images + 10) == pytest.approx(660 * (0.1 + 11 / 220))


def test_a_pause_before_any_step_changes_nothing(now):
    run = clock.Clock(total_images=10)
    run.pause(0)
    run.step_done(10)
    assert run.images_per_s is None
