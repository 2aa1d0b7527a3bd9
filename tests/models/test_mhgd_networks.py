import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.distill import overhaul
from kdjax.distill.method import Outputs, Teacher


def shapes(name, size):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, 100)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


@pytest.mark.parametrize(
    ("name", "convolutions", "linear", "parameters"),
    [
        (
            "mhgd_vgg16",
            (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
            (2 * 2 * 512, 1024, 1024, 100),
            17_964_964,
        ),
        (
            "mhgd_vgg7",
            (3, 64, 128, 256, 512, 512),
            (2 * 2 * 512, 1024, 100),
            6_111_460,
        ),
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_networks_have_the_parameters_of_their_layers(
    name, convolutions, linear, parameters, size
):
    """With biases; the fourth pool, of 64x64 images alone, leaves as many inputs."""
    by_hand = sum(
        (9 * before + 1) * after for before, after in itertools.pairwise(convolutions)
    )
    by_hand += sum((before + 1) * after for before, after in itertools.pairwise(linear))
    assert by_hand == parameters
    _, variables = shapes(name if size == 32 else f"{name}@64", size)
    assert variables.keys() == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == by_hand


@pytest.mark.parametrize("name", ["mhgd_vgg16", "mhgd_vgg7"])
@pytest.mark.parametrize(
    ("suffix", "size", "sizes"),
    [("", 32, (16, 8, 4, 4, 2)), ("@64", 64, (32, 16, 8, 4, 2))],
)
def test_features_are_the_outputs_of_the_groups(name, suffix, size, sizes):
    (logits, features), _ = shapes(name + suffix, size)
    expected = [
        (2, size, size, width)
        for size, width in zip(sizes, (64, 128, 256, 512, 512), strict=True)
    ]
    assert logits.shape == (2, 100)
    assert [x.shape for x in features.pre] == expected
    assert [x.shape for x in features.post] == expected
    assert features.pooled.shape == (2, 1024)


def test_weights_start_by_their_fan_in_and_biases_at_zero():
    network = models.build("mhgd_vgg7", 100)
    image = jnp.zeros((1, 16, 16, 3))
    params = network.init(jax.random.key(0), image, train=False)["params"]
    for layer in params.values():
        fan_in = np.prod(layer["kernel"].shape[:-1])
        expected = np.sqrt(2 / fan_in)
        assert np.std(layer["kernel"]) == pytest.approx(expected, rel=0.05)
        # Cut at two standard deviations of what is drawn.
        assert np.abs(layer["kernel"]).max() <= 2.28 * expected
        assert not np.any(layer["bias"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mhgd_vgg16", "needs images of 16x16 or more, not of 8x8"),
        ("mhgd_vgg7@64", "needs images of 32x32 or more, not of 8x8"),
    ],
)
def test_images_that_the_pools_use_up_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        shapes(name, 8)


def test_margins_are_measured_for_want_of_batch_norms():
    network = models.build("mhgd_vgg7", 10)
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    outputs, variables = network.init_with_output(jax.random.key(1), image, train=False)
    teacher = Teacher("mhgd_vgg7", variables, lambda: iter([Outputs(*outputs)]))
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin='measured'"):
        overhaul.Overhaul().precompute(teacher)
    margins = overhaul.Overhaul(margin="measured").precompute(teacher)["margins"]
    assert [x.shape for x in margins] == [(64,), (128,), (256,), (512,), (512,)]
    assert all(np.all(x <= 0) and np.any(x < 0) for x in margins)
