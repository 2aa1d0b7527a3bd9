import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import feature_maps


def test_matches_repdistiller():
    feature_maps.assert_matches_reference(
        losses.factor_transfer,
        "FT/p1_2_p2_1",
        feature_maps.drawn(10)[2:],
        feature_maps.drawn(20)[2:],
    )


def test_flat_unit_compares_every_entry_as_the_authors():
    student, teacher = (
        feature_maps.drawn(seed)[2].astype("float32") for seed in (10, 20)
    )
    found = losses.factor_transfer(student, teacher, transform="flat_unit")
    flat = [x.reshape(8, -1) for x in (student, teacher)]
    flat = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in flat]
    np.testing.assert_allclose(found, np.abs(flat[0] - flat[1]).mean(1), rtol=1e-5)


def test_the_larger_factor_is_averaged_down():
    student, teacher = feature_maps.drawn(30)[1], feature_maps.drawn(20)[2]
    pooled = student.reshape(8, 4, 2, 4, 2, 32).mean((2, 4))
    np.testing.assert_allclose(
        losses.factor_transfer(student, teacher),
        losses.factor_transfer(pooled, teacher),
        rtol=1e-5,
    )


@pytest.mark.parametrize("transform", ["attention_map", "flat_unit"])
def test_degenerate_inputs(transform):
    feature_maps.assert_robust_to_degenerate_inputs(
        lambda s, t: losses.factor_transfer(s, t, transform=transform),
        feature_maps.drawn(10)[2],
        feature_maps.drawn(20)[2],
    )


def test_rejects_different_widths_of_flat_factors():
    maps = [jnp.zeros((2, 4, 4, width)) for width in (3, 5)]
    with pytest.raises(ValueError, match=r"student \(2, 48\) and teacher \(2, 80\)"):
        losses.factor_transfer(*maps, transform="flat_unit")
