import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.elementwise import l2
from kdjax.losses.nst import channel_unit, polynomial_mmd
from tests.losses import feature_maps


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("NST/same", (10, feature_maps.SAME)),
        ("NST/student_half_res_other_width", (30, feature_maps.OTHER)),
    ],
)
def test_matches_repdistiller(name, student):
    feature_maps.assert_matches_reference(
        losses.nst, name, feature_maps.drawn(*student), feature_maps.drawn(20)
    )


def test_discrepancy_is_that_of_mean_outer_products():
    """With k(x, y) = (x . y)^2 = <x x', y y'> it is the length of a difference."""
    student, teacher = (
        jax.random.normal(jax.random.key(n), (2, 6, width))
        for n, width in enumerate((3, 5))
    )
    outer = [jnp.einsum("bnc,bmc->bnm", x, x) / x.shape[-1] for x in (student, teacher)]
    np.testing.assert_allclose(polynomial_mmd(student, teacher), l2(*outer), rtol=1e-4)


def test_invariant_to_channel_order():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8))
    np.testing.assert_allclose(losses.nst(x[..., ::-1], x), np.zeros(2), atol=1e-6)
    lengths = jnp.linalg.norm(channel_unit(x), axis=1)
    np.testing.assert_allclose(lengths, np.ones((2, 8)), 1e-5)


def test_rejects_different_sizes():
    with pytest.raises(ValueError, match="differ in more than channels"):
        polynomial_mmd(jnp.zeros((2, 4, 3)), jnp.zeros((2, 5, 3)))


def test_degenerate_inputs():
    feature_maps.assert_robust_to_degenerate_inputs(
        losses.nst, feature_maps.drawn(10)[1], feature_maps.drawn(20)[1]
    )
