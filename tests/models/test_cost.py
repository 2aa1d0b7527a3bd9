"""Counts of parameters and multiply-adds, by hand and by XLA."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from kdjax import models
from kdjax.models import cost


class Loop(nn.Module):
    """Runs a linear layer some number of times."""

    @nn.compact
    def __call__(self, image, train):
        weights = self.param("weights", nn.initializers.ones, (3, 3))
        x = image.mean((1, 2))
        return jax.lax.fori_loop(0, 5, lambda _, x: x @ weights, x), None


class Grouped(nn.Module):
    """A compiled part, a grouped convolution, a 1x1 and a layer on one vector."""

    @nn.compact
    def __call__(self, image, train):
        x = jax.jit(nn.relu)(nn.Conv(8, (3, 3), (2, 2), padding="SAME")(image))
        x = nn.Conv(16, (3, 3), padding="VALID", feature_group_count=4)(x)
        return nn.Dense(5)(nn.Conv(8, (1, 1))(x).mean((1, 2))), None


def count(name, size):
    return cost.multiply_adds(models.build(name, 10), (size, size, 3))


def test_wrn_10_1_by_hand():
    stem = 32 * 32 * 9 * 3 * 16
    group1 = 32 * 32 * 9 * (16 * 16 + 16 * 16)
    group2 = 16 * 16 * (9 * (16 * 32 + 32 * 32) + 16 * 32)
    group3 = 8 * 8 * (9 * (32 * 64 + 64 * 64) + 32 * 64)
    assert count("wrn_10_1", 32) == stem + group1 + group2 + group3 + 64 * 10
    # No layer of it but the last knows the size of the images.
    assert count("wrn_10_1", 8) == (stem + group1 + group2 + group3) // 16 + 64 * 10


def test_published_counts():
    """Those of He et al. (2016), section 4.2, and of Zagoruyko and Komodakis (2016)."""
    assert count("resnet56", 32) == pytest.approx(125e6, rel=0.02)
    assert count("wrn_28_10", 32) == pytest.approx(5.2e9, rel=0.02)


def test_groups_and_compiled_parts():
    network = Grouped()
    first = 4 * 4 * 9 * 3 * 8
    second = 2 * 2 * 9 * (8 // 4) * 16
    assert cost.multiply_adds(network, (8, 8, 3)) == (
        first + second + 2 * 2 * 16 * 8 + 8 * 5
    )
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    assert cost.parameters(variables) == (
        (9 * 3 * 8 + 8) + (9 * 2 * 16 + 16) + (16 * 8 + 8) + (8 * 5 + 5)
    )


def test_depthwise():
    stem = 32 * 32 * 9 * 3 * 16
    blocks = [(32, 16, 64), (16, 64, 128), (16, 128, 128), (8, 128, 256), (8, 256, 256)]
    separable = [
        size**2 * (9 * before + before * after) for size, before, after in blocks
    ]
    assert count("mhgd_mobilenet", 32) == stem + sum(separable) + 256 * 10


def test_hidden_layers_and_no_batch_norms():
    groups = [(32, 3, 64), (16, 64, 128), (8, 128, 256), (4, 256, 512), (4, 512, 512)]
    convolutions = [size**2 * 9 * before * after for size, before, after in groups]
    linear = 2 * 2 * 512 * 1024 + 1024 * 10
    assert count("mhgd_vgg7", 32) == sum(convolutions) + linear


def test_statistics_are_no_parameters():
    network, image = models.build("wrn_10_1", 10), jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), image, train=False)
    )
    # As in the table of the README.
    assert cost.parameters(variables) == 77_850


def test_a_loop_is_refused():
    with pytest.raises(ValueError, match=r"multiply-adds within '(scan|while)'"):
        cost.multiply_adds(Loop(), (8, 8, 3))
