import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import distances, transforms
from kdjax.distill.nst import Nst
from tests.distill import peers


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("NST/same", (10, peers.SAME)),
        ("NST/student_half_res_other_width", (30, peers.OTHER)),
    ],
)
def test_matches_repdistiller(name, student):
    student, teacher = peers.maps_of(*student), peers.maps_of(20)
    method = Nst()
    assert not method.init(
        jax.random.key(0), peers.outputs_of(student), peers.outputs_of(teacher)
    )
    peers.assert_matches_reference(method, name, student, teacher)


def test_discrepancy_is_that_of_mean_outer_products():
    """With k(x, y) = (x . y)^2 = <x x', y y'> it is the length of a difference."""
    student, teacher = (
        jax.random.normal(jax.random.key(n), (2, 6, width))
        for n, width in enumerate((3, 5))
    )
    outer = [jnp.einsum("bnc,bmc->bnm", x, x) / x.shape[-1] for x in (student, teacher)]
    found = distances.polynomial_mmd(student, teacher)
    np.testing.assert_allclose(found, distances.l2(*outer), rtol=1e-4)


def test_invariant_to_channel_order():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8))
    unit = transforms.channel_unit(x)
    np.testing.assert_allclose(
        distances.polynomial_mmd(unit[..., ::-1], unit), np.zeros(2), atol=1e-6
    )
    np.testing.assert_allclose(jnp.linalg.norm(unit, axis=1), np.ones((2, 8)), 1e-5)


def test_rejects_other_sizes():
    with pytest.raises(ValueError, match="differ in more than channels"):
        distances.polynomial_mmd(jnp.zeros((2, 4, 3)), jnp.zeros((2, 5, 3)))
    student, teacher = peers.maps_of(30, peers.OTHER), peers.maps_of(20)
    with pytest.raises(ValueError, match=r"methods\.nst: stage 1 has"):
        Nst(distance="l2").init(
            jax.random.key(0), peers.outputs_of(student), peers.outputs_of(teacher)
        )


def test_degenerate_inputs():
    peers.assert_robust_to_degenerate_inputs(Nst())
