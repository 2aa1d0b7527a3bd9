"""Methods that relate the examples of a batch to one another."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax import step as step_lib
from kdjax.distill import (
    correlation_congruence,
    dist,
    mlkd,
    pkt,
    rkd,
    similarity_preserving,
)
from tests.distill import relations
from tests.losses import batches

RKD = {"form": "mhgd", "distance_weight": 2.0, "angle_weight": 3.0}

#: Methods without learned variables, with the losses that they compute.
LOSSES = {
    "dist": (dist.Dist(), losses.dist),
    "mlkd": (mlkd.Mlkd(), losses.mlkd),
    "pkt": (pkt.Pkt(), losses.pkt),
    "rkd": (rkd.Rkd(**RKD), functools.partial(losses.rkd, **RKD)),
    "similarity_preserving": (
        similarity_preserving.SimilarityPreserving(),
        losses.similarity_preserving,
    ),
}


def compared(method, outputs):
    """Returns what a method compares of a network."""
    if method.name in ("dist", "mlkd"):
        return outputs.logits
    if method.name == "similarity_preserving":
        return outputs.features.block[-1]
    return outputs.features.pooled


def networks():
    """Returns outputs of student and teacher for 8 examples."""
    return [
        relations.outputs_of(
            batches.drawn(seed, 8, width, dtype="float32"),
            batches.drawn(seed + 9, 8, 2, 2, width, dtype="float32"),
        )._replace(logits=jnp.asarray(batches.drawn(seed, 8, 3, dtype="float32")))
        for seed, width in ((1, 5), (2, 7))
    ]


def total(method, student, teacher):
    terms, stats = method.loss({}, {}, student, teacher, None)
    assert stats == {}
    return sum(terms.values())


@pytest.mark.parametrize("name", LOSSES)
def test_scope(name):
    """On four devices, "global" relates all examples, "per_device" those of one."""
    method, loss = LOSSES[name]
    student, teacher = networks()
    arrays = [compared(method, x) for x in (student, teacher)]
    parts = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), (student, teacher))
    expected = {
        "global": loss(*arrays),
        "per_device": jnp.concatenate(
            [loss(*(x[i : i + 2] for x in arrays)) for i in range(0, 8, 2)]
        ),
    }
    np.testing.assert_allclose(
        total(method, student, teacher), expected["global"], 1e-6
    )
    for scope, value in expected.items():
        spread = dataclasses.replace(method, scope=scope, data_axis=step_lib.DEVICES)
        run = step_lib.data_parallel(
            functools.partial(total, spread),
            jax.devices()[:4],
            in_axes=(0, 0),
            out_axes=0,
        )
        np.testing.assert_allclose(run(*parts).reshape(8), value, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (rkd.Rkd, "form"),
        (rkd.Rkd, "scope"),
        (pkt.Pkt, "scope"),
        (similarity_preserving.SimilarityPreserving, "scope"),
        (correlation_congruence.CorrelationCongruence, "relation"),
        (correlation_congruence.CorrelationCongruence, "scope"),
    ],
)
def test_rejects_invalid_settings(method, field):
    message = rf"methods\.{method.name}\.{field}='x' is none of"
    with pytest.raises(ValueError, match=message):
        method(**{field: "x"})
