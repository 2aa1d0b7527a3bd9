"""ConvNeXts: sizes, features, what they start from and what they drop."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models, optim
from kdjax.models import convnext, cost
from tests.models import abstract


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        # Liu et al. (2022), table 1: 29, 50 and 89 million, 4.5, 8.7 and 15.4 GMACs.
        ("convnext_tiny@224", 28_589_128, 4.46e9),
        ("convnext_small@224", 50_223_688, 8.7e9),
        ("convnext_base@224", 88_591_464, 15.4e9),
        # timm.
        ("convnext_atto@224", 3_695_520, 0.55e9),
        ("convnext_femto@224", 5_217_784, 0.78e9),
        ("convnext_pico@224", 9_045_672, 1.37e9),
        ("convnext_nano@224", 15_593_560, 2.45e9),
    ],
)
def test_parameters_are_as_many_as_published(name, parameters, multiply_adds):
    found = cost.of(models.build(name, 1000), (224, 224, 3))
    assert found.parameters == parameters
    assert found.multiply_adds == pytest.approx(multiply_adds, rel=0.01)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("convnext_tiny@224", (56, 56, 28, 14, 7)),
        ("convnext_tiny@64", (16, 16, 8, 4, 2)),
        ("convnext_tiny", (16, 16, 8, 4, 2)),
    ],
)
def test_features_are_the_sums_that_end_the_stages(name, sizes):
    widths = (96, 96, 192, 384, 768)
    abstract.check_features(name, sizes, widths, 768, margins=False)
    (_, features), variables = abstract.shapes(name)
    assert features.last is None
    assert variables.keys() == {"params"}


def test_margins_and_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"no batch norms.*margin='measured'"):
        models.margin_batch_norms("convnext_tiny")
    for name in ("convnext", "convnext_mini", "convnext_tiny_1", "convnext_tiny@48"):
        with pytest.raises(ValueError, match="no network is called"):
            models.build(name, 10)


@pytest.fixture(scope="module")
def block():
    """Maps of 32 examples, and a block's variables as they start."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 3, 3, 8)), "float32")
    init = convnext.Block(jnp.float32).init
    return x, jax.jit(lambda key: init(key, x, train=False))(jax.random.key(0))


def test_a_block_starts_as_nearly_nothing(block):
    x, variables = block
    found = convnext.Block(jnp.float32).apply(variables, x, train=True)
    np.testing.assert_allclose(found, x, atol=1e-5)
    assert np.any(found != x)
    kernel = variables["params"]["fc1"]["kernel"]
    assert np.std(kernel) == pytest.approx(0.02, rel=0.1)
    decays = optim.kernels(variables["params"])
    assert decays["depthwise"]["kernel"]
    assert not decays["layer_scale"]


def test_stochastic_depth_leaves_out_or_scales_up_branches(block):
    x, variables = block
    params = variables["params"] | {"layer_scale": jnp.ones(8)}

    def branch(rate, train):
        module = convnext.Block(jnp.float32, stochastic_depth=rate)
        key = {"dropout": jax.random.key(1)}
        return np.asarray(module.apply({"params": params}, x, train, rngs=key) - x)

    whole, dropped = branch(0.0, True), branch(0.25, True)
    kept = np.any(dropped, axis=(1, 2, 3))
    assert 16 <= kept.sum() < 32
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(branch(0.25, False), branch(0.0, False))


def test_stochastic_depth_rises_over_all_stages():
    rates = []

    def note(run, args, kwargs, context):
        if isinstance(context.module, convnext.Block):
            rates.append(context.module.stochastic_depth)
        return run(*args, **kwargs)

    assert models.rates("convnext_atto") == ("stochastic_depth",)
    network = models.build("convnext_atto", 10, stochastic_depth=0.22)
    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda x: network.init(jax.random.key(0), x, train=False),
            jnp.zeros((1, 32, 32, 3)),
        )
    np.testing.assert_allclose(rates, np.arange(12) * 0.02)
