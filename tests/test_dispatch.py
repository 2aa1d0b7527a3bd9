import jax
import pytest

from kdjax import dispatch
from kdjax.data.pipeline.batch_plan import BatchPlan


def plan(num_examples=50_000, batch_size=128):
    return BatchPlan(num_examples, batch_size, 1, drop_remainder=False, seed=0)


@pytest.mark.parametrize(
    ("backend", "given", "in_memory", "batches", "expected"),
    [
        ("cpu", 0, True, plan(), 1),
        ("gpu", 0, True, plan(), 15),  # 390 full batches.
        ("tpu", 0, True, plan(batch_size=64), 11),  # 781.
        ("gpu", 0, False, plan(), 1),
        ("gpu", 0, True, plan(batch_size=50_000), 1),
        ("gpu", 0, True, plan(50, batch_size=64), 1),  # One batch, not full.
        ("cpu", 7, True, plan(), 7),
        ("gpu", 1, False, plan(), 1),
    ],
)
def test_steps_are_chosen_to_fill_an_epoch(
    monkeypatch, backend, given, in_memory, batches, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    chosen = dispatch.steps_per_dispatch(given, batches, in_memory=in_memory)
    assert chosen == expected


def test_streamed_images_are_refused():
    with pytest.raises(ValueError, match="steps_per_dispatch=2 needs the images in"):
        dispatch.steps_per_dispatch(2, plan(), in_memory=False)


def programs(start, per_dispatch, *multiples, last, batches):
    """Returns the steps that come between two programs."""
    steps = [start]
    while steps[-1] < last:
        size = dispatch.next_steps(
            steps[-1], per_dispatch, batches, *multiples, last=last
        )
        steps.append(steps[-1] + size)
    return steps


@pytest.mark.parametrize("multiples", [(), (0, 0), (33, 7)])
@pytest.mark.parametrize("per_dispatch", [1, 2, 4, 5, 100])
def test_programs_end_where_something_else_is_done(per_dispatch, multiples):
    batches = plan(103, batch_size=10)  # Ten full batches and one of 3.
    steps = programs(0, per_dispatch, *multiples, last=40, batches=batches)
    assert steps[-1] == 40
    for epoch in range(1, 4):
        # The smaller batch is of another program.
        assert {11 * epoch - 1, 11 * epoch} <= set(steps)
    for multiple in filter(None, multiples):
        assert set(range(0, 41, multiple)) <= set(steps)
    # A run that stops between two programs goes on with the programs of the other.
    for start in steps:
        resumed = programs(start, per_dispatch, *multiples, last=40, batches=batches)
        assert resumed == steps[steps.index(start) :]
    if per_dispatch == 4 and not any(multiples):
        assert steps[:6] == [0, 4, 8, 9, 10, 11]
