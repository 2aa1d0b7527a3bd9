"""Rules that look at two gradients as a whole, and how they follow one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill
from kdjax.distill import gradients
from kdjax.distill.gradients.min_norm import minimum_norm
from kdjax.distill.gradients.pcgrad import without_conflict


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def tree(vector):
    """Spreads a vector over parameters of two shapes."""
    return {"a": jnp.asarray(vector[:2]), "b": jnp.asarray(vector[2:]).reshape(2, -1)}


def flat(gradient):
    return np.concatenate([np.ravel(gradient["a"]), np.ravel(gradient["b"])])


def drawn(seed, size=8):
    return np.random.default_rng(seed).normal(size=(2, size))


@pytest.mark.parametrize(
    ("task", "added", "share"),
    [
        ([1, 0, 0, 0], [0, 2, 0, 0], 0.8),  # b^2 / (a^2 + b^2) if orthogonal
        ([1, 0, 0, 0], [0, 1, 0, 0], 0.5),
        ([1, 0, 0, 0], [3, 0, 0, 0], 1.0),  # the shorter of two that agree
        ([5, 0, 0, 0], [3, 1, 0, 0], 0.0),
        ([1, 0, 0, 0], [-3, 0, 0, 0], 0.75),  # opposite: they cancel
        ([0, 0, 0, 0], [1, 2, 3, 4], 1.0),
        ([1, 2, 3, 4], [0, 0, 0, 0], 0.0),
        ([1, 2, 3, 4], [1, 2, 3, 4], 0.0),
    ],
)
def test_the_shortest_mixture_in_closed_form(task, added, share):
    task, added = np.asarray(task, float), np.asarray(added, float)
    found = flat(minimum_norm(tree(task), tree(added), epoch=0))
    np.testing.assert_allclose(found, share * task + (1 - share) * added, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_mixture_is_shorter(seed):
    task, added = drawn(seed)
    found = flat(minimum_norm(tree(task), tree(3 * added), epoch=0))
    shares = np.linspace(0, 1, 10_001)[:, None]
    mixtures = shares * task + (1 - shares) * 3 * added
    shortest = np.linalg.norm(mixtures, axis=1).min()
    np.testing.assert_allclose(np.linalg.norm(found), shortest, rtol=1e-6)
    # A step lowers both losses.
    assert min(found @ task, found @ added) > 0


@pytest.mark.parametrize("sign", [1, -1])
def test_surgery_is_that_of_algorithm_1(sign):
    """Each gradient in turn, by the other as it was."""
    task, added = drawn(1)
    added *= sign * np.sign(task @ added)
    expected = task + added
    if sign < 0:
        expected -= task @ added / (added @ added) * added
        expected -= task @ added / (task @ task) * task
        assert not np.allclose(expected, task + added)
    found = flat(without_conflict(tree(task), tree(added), epoch=0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_surgery_leaves_a_gradient_alone_beside_none():
    task, none = drawn(0)[0], np.zeros(8)
    for pair in ((task, none), (none, task)):
        found = without_conflict(*map(tree, pair), epoch=0)
        np.testing.assert_array_equal(flat(found), task)


@pytest.mark.parametrize("rule", [minimum_norm, without_conflict])
def test_a_rule_keeps_the_type_of_the_gradients(rule):
    pair = (jnp.ones(3, jnp.float32), -jnp.ones(3, jnp.float32))
    assert rule(*pair, epoch=jnp.asarray(0)).dtype == jnp.float32


def test_a_method_that_sets_its_rule_without_an_annotation_is_refused():
    class Mine(distill.Method):
        name = "mine"
        taxonomy = distill.Taxonomy(*[""] * 5)
        gradient_combination = "clip"
        weight: float = 1.0

    mine = dataclasses.dataclass(frozen=True, kw_only=True)(Mine)
    with pytest.raises(ValueError, match="sets `gradient_combination` without an ann"):
        distill.register(mine)


def test_rules_follow_one_another_and_spare_what_methods_learn(monkeypatch):
    """In the order of the table, each on the student's gradient so far."""
    monkeypatch.setattr(gradients, "RULES", dict(gradients.RULES))

    @gradients.register("twice")
    def twice(task, distillation, *, epoch):
        return jax.tree.map(lambda a, b: 2 * a + epoch * b, task, distillation)

    def of(student, methods):
        return {"student": jnp.asarray(student), "methods": jnp.asarray(methods)}

    found, apart = gradients.combine(
        of(1.0, 10.0),
        {"dot": of(100.0, 20.0), "twice": of(5.0, 30.0), "sum": of(2.0, 40.0)}
        | {"deepkd/target_class": of(7.0, 0.0)},
        epoch=3,
    )
    assert jax.tree.map(float, found) == {"student": 2 * (1 + 2) + 15, "methods": 100}
    assert apart == {"dot": 100, "deepkd/target_class": 7}
    assert gradients.combine({"methods": 1.0}, {}, epoch=0) == ({"methods": 1.0}, {})


def test_momenta_that_methods_ask_for():
    def of(**rules):
        methods = {name: {"gradient_combination": rule} for name, rule in rules.items()}
        return gradients.deltas(distill.build(methods), 0.05)

    assert of(kd="sum") == {}
    assert of(kd="dot", dkd="sum") == {"task": -0.05, "dot": 0.05}
    assert of(dkd="by_term") == {
        "task": 0.075,
        "dkd/target_class": -0.075,
        "dkd/non_target_class": 0.075,
    }
    with pytest.raises(ValueError, match=r"kd\.gradient_combination='by_term' is for"):
        of(kd="by_term")
    with pytest.raises(ValueError, match=r"want -0\.05 and 0\.075 added to the momen"):
        of(kd="dot", dkd="by_term")
