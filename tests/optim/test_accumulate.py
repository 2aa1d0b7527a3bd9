"""The step of a batch in parts is that of the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, objective
from kdjax.data.augment.mixup import Mixed
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.pipeline.batches import Batch
from kdjax.optim import accumulate

SIZE, CLASSES = 8, 3


class Network(nn.Module):
    """One layer, after a batch norm or not, and no features."""

    norm: bool = False

    @nn.compact
    def __call__(self, image, train):
        x = image.reshape(len(image), -1)
        if self.norm:
            x = nn.BatchNorm(not train, momentum=0.5, param_dtype=x.dtype)(x)
        return nn.Dense(CLASSES, param_dtype=x.dtype, name="classifier")(x), None


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def batch():
    rng = np.random.default_rng(0)
    label, other = rng.integers(0, CLASSES, (2, SIZE))
    return Batch(
        jnp.asarray(rng.normal(size=(SIZE, 2, 2, 3))),
        jnp.asarray(label),
        jnp.ones(SIZE),
        jnp.arange(SIZE),
        Mixed(jnp.asarray(other), jnp.full(SIZE, 0.3)),
    )


def found(network, methods, parts):
    """Returns losses and gradients of a batch computed in parts."""
    methods = distill.build(methods)
    variables = network.init(jax.random.key(0), batch().image, train=True)
    variables = jax.tree.map(jnp.float64, variables)
    loss = objective.student_objective(network, network, methods, teacher_train=False)
    teacher = jax.tree.map(lambda x: 2 * x, variables)
    empty = {name: {} for name in methods}
    return jax.jit(accumulate.in_parts(loss, parts))(
        {"student": variables["params"], "methods": empty},
        {"student": variables.get("batch_stats", {}), "methods": empty},
        objective.Frozen(teacher, empty),
        batch(),
        jax.random.key(0),
        jnp.asarray(3),
        0.5,
    )


def assert_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15),
        actual,
        expected,
    )


@pytest.mark.parametrize("parts", [2, 4])
def test_gradients_and_values_are_those_of_the_batch(parts):
    """Those by rules too, which are combined after all parts."""
    methods = {"kd": {"gradient_combination": "pcgrad"}}
    whole = found(Network(), methods, 1)
    assert whole.by_rule["pcgrad"]
    assert_close(found(Network(), methods, parts), whole)


def test_running_statistics_go_from_part_to_part():
    (mean,) = (
        stats["mean"]
        for stats in found(Network(norm=True), {}, 2).batch_stats["student"].values()
    )
    flat = np.asarray(batch().image).reshape(SIZE, -1)
    first, second = flat[: SIZE // 2].mean(0), flat[SIZE // 2 :].mean(0)
    np.testing.assert_allclose(mean, 0.25 * first + 0.5 * second, rtol=1e-12)


@pytest.mark.parametrize(
    ("examples", "parts", "message"),
    [
        (64, 3, "a batch of 32 images, .* accumulate=3 on 4 devices$"),
        (
            68,
            2,
            "a last batch of 4 images, .* devices; data.drop_remainder=True leaves",
        ),
    ],
)
def test_batches_that_parts_do_not_divide_are_refused(examples, parts, message):
    plan = BatchPlan(examples, 32, 4, drop_remainder=False, seed=0)
    accumulate.check(plan, 1)
    with pytest.raises(ValueError, match=message):
        accumulate.check(plan, parts)
