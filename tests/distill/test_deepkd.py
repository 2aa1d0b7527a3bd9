"""DeepKD as a method: its two gradients, and the classes that it compares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses, objective
from kdjax.distill.deepkd import Deepkd
from kdjax.distill.dkd import Dkd
from kdjax.distill.method import Inputs, Outputs
from tests.distill.logits import LABEL
from tests.losses import batches
from tests.test_objective import LABEL as FEW
from tests.test_objective import Linear, batch_of


@pytest.mark.parametrize("kind", [Deepkd, Dkd])
def test_each_term_has_a_gradient_of_its_own(kind):
    """Which add up to that of the rule "sum"; the losses and metrics are the same."""
    network, batch = Linear(), batch_of(FEW)
    student = network.init(jax.random.key(0), batch.image, train=True)["params"]
    teacher = {"params": jax.tree.map(lambda x: 3 * x + 0.1, student)}
    found = {}
    for rule in ("sum", "by_term"):
        method = kind(gradient_combination=rule, weight=2.0, warm_up=0)
        loss = objective.student_objective(
            network, network, {"kd": method}, teacher_train=False, task_weight=0.3
        )
        found[rule] = jax.jit(loss)(
            {"student": student, "methods": {"kd": {}}},
            {"student": {}, "methods": {"kd": {}}},
            objective.Frozen(teacher, {"kd": {}}),
            batch,
            jax.random.key(0),
            jnp.zeros((), jnp.int32),
        )
    whole, apart = found["sum"], found["by_term"]
    assert set(apart.by_rule) == {"kd/target_class", "kd/non_target_class"}
    assert whole.by_rule == {}
    parts = [tree["student"] for tree in (apart.summed, *apart.by_rule.values())]
    jax.tree.map(
        lambda expected, *x: np.testing.assert_allclose(sum(x), expected, atol=1e-5),
        whole.summed["student"],
        *parts,
    )
    for part in parts:
        assert all(np.any(x) for x in jax.tree.leaves(part))
    np.testing.assert_allclose(apart.loss, whole.loss, rtol=1e-5)
    assert apart.values.keys() == whole.values.keys()


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.05), (0.5, 0.525), (1.0, 1.0)])
def test_the_share_of_the_classes_grows_by_a_line(progress, share):
    given = batches.logits()
    outputs = [Outputs(jnp.asarray(x), None) for x in given]
    inputs = Inputs(None, LABEL, None, None, progress=jnp.asarray(progress))
    terms, _ = Deepkd(first_share=0.05).loss({}, {}, *outputs, inputs)
    expected = losses.deepkd_terms(*given, LABEL, share=share)
    for name, term in terms.items():
        np.testing.assert_allclose(term, expected[name], rtol=1e-5)


def test_rejects_a_share_and_momenta_that_are_none():
    with pytest.raises(ValueError, match=r"deepkd.first_share=0.0 is not in \(0, 1\]"):
        Deepkd(first_share=0.0)
    with pytest.raises(ValueError, match=r"dkd.target_delta=-1.0 is not between -1"):
        Dkd(target_delta=-1.0)
