import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from tests.models import abstract


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg8", 3_965_028),
        ("vgg8@64", 3_965_028),
        ("vgg13", 9_462_180),
        ("vgg13@64", 9_462_180),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, count):
    assert abstract.parameters(name) == count


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("vgg11", (64, 128, 256, 256, 512, 512, 512, 512)),
        ("vgg16", (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6),
        ("vgg19", (64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8),
    ],
)
def test_networks_have_the_parameters_of_their_layers(name, convolutions):
    """Each convolution has a bias, and the scale and offset of a batch norm."""
    pairs = itertools.pairwise((3, *convolutions))
    by_hand = sum((9 * before + 3) * after for before, after in pairs)
    assert abstract.parameters(name) == by_hand + (512 + 1) * 100


@pytest.mark.parametrize(
    ("name", "sizes", "widths", "pooled"),
    [
        ("vgg8", (32, 16, 8, 4, 4), (64, 128, 256, 512, 512), 512),
        ("vgg13", (32, 16, 8, 4, 4), (64, 128, 256, 512, 512), 512),
        ("vgg8@64", (64, 32, 16, 8, 4), (64, 128, 256, 512, 512), 512),
        ("vgg19@64", (64, 32, 16, 8, 4), (64, 128, 256, 512, 512), 512),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths, pooled):
    abstract.check_features(name, sizes, widths, pooled)


@pytest.mark.parametrize("name", ["vgg8", "vgg13"])
def test_the_state_dict_is_that_of_repdistiller(name):
    """By names and shapes: its public teachers can be read."""
    written = abstract.state_dict_shapes(name, "repdistiller")
    assert written == abstract.public_state_dict(name)


def test_features_are_taken_around_the_relu_and_before_the_pool():
    network = models.build("vgg8", 10)
    image = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    (_, features), variables = network.init_with_output(
        jax.random.key(1), image, train=False
    )
    outputs = (features.stem, *features.post[:-1])
    for block, (post, pre) in enumerate(
        zip(outputs, features.pre, strict=True), start=1
    ):
        pooled = nn.max_pool(post, (2, 2), (2, 2)) if block < 4 else post
        layer = variables["params"][f"block{block}_conv0"]
        expected = nn.Conv(pre.shape[-1], (3, 3), padding=1).apply(
            {"params": layer}, pooled
        )
        # A batch norm that starts with running statistics of 0 and 1.
        np.testing.assert_allclose(pre, expected / np.sqrt(1 + 1e-5), atol=1e-5)
    for pre, post in zip(features.pre, features.post, strict=True):
        np.testing.assert_array_equal(post, np.maximum(pre, 0))


def test_weights_start_as_in_repdistiller():
    network = models.build("vgg8", 100)
    params = jax.jit(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )()["params"]
    kernel = params["block2_conv0"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
    assert np.std(params["classifier"]["kernel"]) == pytest.approx(0.01, rel=0.02)
    assert not np.any(params["block2_conv0"]["bias"])
    assert not np.any(params["classifier"]["bias"])


@pytest.mark.parametrize("name", ["vgg", "vgg9", "vgg8_bn", "vgg8@224", "vgg16@32"])
def test_unknown_networks_are_refused(name):
    with pytest.raises(
        ValueError, match=rf"no network is called '{name}'.*vgg<depth>\[@64\]"
    ):
        models.build(name, 10)
