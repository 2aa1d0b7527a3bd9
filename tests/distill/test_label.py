"""What each method says of the label is what its loss does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from kdjax import distill, models, objective
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import __main__ as table
from kdjax.distill import compatibility

NETWORK, CLASSES, IMAGE = "wrn_10_1", 100, (32, 32, 3)


def depends_on_label(name):
    """Traces the objective, and looks for a path from the label to what is found.

    Terms, whose sum the loss is, and running statistics: all else follows from these.
    """
    method = table.build(name)
    network = models.build(NETWORK, CLASSES)
    outputs = compatibility.outputs(NETWORK, CLASSES, IMAGE)
    key, image = jax.random.key(0), jnp.zeros((4, *IMAGE))

    def ones(shapes):
        return jax.tree.map(lambda x: jnp.asarray(np.ones(x.shape), x.dtype), shapes)

    def made(init):
        return {"params": {}, "batch_stats": {}} | ones(jax.eval_shape(init, key))

    variables = made(lambda key: network.init(key, image, train=False))
    taught = method.needs_teacher
    precomputed = {}
    if taught:
        teacher = distill.Teacher(
            NETWORK,
            variables,
            lambda: iter([ones(outputs)]),
            lambda: np.arange(50) % CLASSES,
        )
        precomputed = dict(method.precompute(teacher))
    if method.pretrains:
        precomputed["pretrained"] = made(lambda key: method.pretrain_init(key, outputs))
    learned = made(lambda key: method.init(key, outputs, outputs if taught else None))
    demand = objective.student_objective(
        network, network if taught else None, {name: method}, teacher_train=False
    )
    frozen = objective.Frozen(variables if taught else None, {name: precomputed})

    stats = learned["batch_stats"]
    states = {}
    if "method_state" in learned:
        states = {"method_state": {name: learned["method_state"]}}

    def terms(label):
        found = demand(
            {"student": variables["params"], "methods": {name: learned["params"]}},
            {"student": variables["batch_stats"], "methods": {name: stats}} | states,
            frozen,
            Batch(image, label, jnp.ones(4), jnp.arange(4)),
            key,
            jnp.zeros((), jnp.int32),
        )
        own = {k: v for k, v in found.values.items() if k.startswith(f"{name}/")}
        assert own
        del found.batch_stats["student"]
        return own, found.batch_stats

    traced = jax.make_jaxpr(terms)(jnp.zeros(4, jnp.int32)).jaxpr
    _, (used,) = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return used


@pytest.mark.parametrize("name", sorted(distill.METHODS))
def test_a_method_needs_the_label_if_and_only_if_it_says_so(name):
    method = distill.METHODS[name]
    assert depends_on_label(name) == method.needs_label
    assert method.needs_label or not method.needs_input_gradient
