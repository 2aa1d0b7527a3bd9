import jax
import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.attention_transfer import AttentionTransfer
from tests.distill import peers


def test_terms_are_the_losses_of_the_stages():
    maps = peers.maps_of(30, peers.OTHER), peers.maps_of(20)
    student, teacher = map(peers.outputs_of, maps)
    method = AttentionTransfer()
    assert method.init(None, student, teacher) == {}
    loss = jax.jit(lambda *sides: method.loss({}, {}, *sides, None))
    terms, stats = loss(student, teacher)
    assert stats == {}
    assert list(terms) == ["stage_1", "stage_2", "stage_3"]
    for term, *both in zip(terms.values(), *maps, strict=True):
        np.testing.assert_allclose(
            term, jax.jit(losses.attention_transfer)(*both), rtol=1e-5
        )


def test_rejects_another_position_or_number_of_stages():
    with pytest.raises(ValueError, match=r"methods\.attention_transfer\.position='x'"):
        AttentionTransfer(position="x")
    student, teacher = (peers.outputs_of(peers.maps_of(10)[:n]) for n in (1, 2))
    with pytest.raises(ValueError, match="attention_transfer needs as many stages"):
        AttentionTransfer().init(None, student, teacher)
