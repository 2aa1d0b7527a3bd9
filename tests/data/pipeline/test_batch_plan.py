import numpy as np
import pytest

from kdjax import recipes
from kdjax.data import sampling
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.split import Split


def plan(number, batch_size, *, drop_remainder=False, devices=1, seed=0):
    return BatchPlan(number, batch_size, devices, drop_remainder, seed)


def test_every_epoch_is_another_permutation_of_all_examples():
    found = plan(50, 16)
    first, second = (np.asarray(found.order(epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(np.sort(first), np.arange(50))
    np.testing.assert_array_equal(np.sort(second), np.arange(50))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(plan(50, 16).order(0), first)
    assert not np.array_equal(plan(50, 16, seed=1).order(0), first)
    assert not np.array_equal(found.with_stream("pretrain").order(0), first)


def test_a_sampled_epoch_is_as_long_and_a_function_of_seed_phase_and_epoch():
    label = np.repeat([0, 1], [45, 5])
    split = Split(np.zeros((50, 1, 1, 3), np.uint8), label)
    config = recipes.compose().data
    config.sampling = "balanced"
    found = BatchPlan(50, 16, 1, False, 0, sampler=sampling.sampler(config, split))
    again = BatchPlan(50, 16, 1, False, 0, sampler=sampling.sampler(config, split))
    assert (found.steps_per_epoch, found.size(3)) == (4, 2)
    orders = [
        np.asarray(plan.order(epoch))
        for plan in (found, found.with_stream("pretrain"))
        for epoch in (0, 1)
    ]
    assert {len(order) for order in orders} == {50}
    assert len({order.tobytes() for order in orders}) == 4
    np.testing.assert_array_equal(again.order(1), orders[1])
    assert all(15 < label[order].sum() < 35 for order in orders)


def test_the_last_batch_is_kept_as_a_smaller_one():
    found = plan(50, 16)
    assert found.steps_per_epoch == 4
    assert [found.size(step) for step in range(5)] == [16, 16, 16, 2, 16]
    assert [found.images_before(step) for step in (0, 3, 4, 6)] == [0, 48, 50, 82]


def test_the_last_batch_can_be_dropped():
    found = plan(50, 16, drop_remainder=True)
    assert found.steps_per_epoch == 3
    assert found.rest_size == 0
    assert found.images_before(4) == 64


def test_a_split_smaller_than_a_batch_is_one_batch():
    found = plan(10, 16)
    assert found.steps_per_epoch == 1
    assert found.size(0) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"number": 48, "batch_size": 18, "devices": 4},
            "batch_size=18 gives a batch of 18 images, .* by the 4 devices",
        ),
        (
            {"number": 50, "batch_size": 16, "devices": 4},
            r"a last batch of 2 images, .* by the 4 devices.*data\.drop_remainder=True",
        ),
        (
            {"number": 10, "batch_size": 16, "drop_remainder": True},
            r"batch_size=16 is more than the 10 training images",
        ),
    ],
)
def test_a_batch_size_that_does_not_fit_is_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan(**arguments)
