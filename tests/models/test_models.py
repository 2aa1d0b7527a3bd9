import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models

IMAGE = jnp.zeros((2, 32, 32, 3))


def shapes(name, num_classes=100):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, num_classes)
    return jax.eval_shape(
        lambda key: network.init_with_output(key, IMAGE, train=False),
        jax.random.key(0),
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wrn_28_4", 5_872_180),
        ("wrn_16_4", 2_772_020),
        ("wrn_28_2", 1_479_220),
        ("wrn_16_2", 703_284),
        ("wrn_40_1", 569_780),
        ("wrn_40_2", 2_255_156),
        ("wrn_16_1", 180_916),
        ("wrn_10_1", 83_700),
        ("resnet20", 278_324),
        ("resnet32", 472_756),
        ("resnet44", 667_188),
        ("resnet56", 861_620),
        ("resnet110", 1_736_564),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, parameters):
    _, variables = shapes(name)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found == parameters


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("wrn_16_2", (32, 64, 128)),
        ("wrn_10_1", (16, 32, 64)),
        ("resnet8", (16, 32, 64)),
    ],
)
def test_features_have_the_published_shapes(name, widths):
    (logits, features), variables = shapes(name)
    expected = [
        (2, size, size, width) for size, width in zip((32, 16, 8), widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert [x.shape for x in features.pre] == expected
    assert [x.shape for x in features.post] == expected
    assert features.pooled.shape == (2, widths[-1])
    for path, width in zip(models.margin_batch_norms(name), widths, strict=True):
        norm = variables["params"]
        for key in path:
            norm = norm[key]
        assert norm["scale"].shape == norm["bias"].shape == (width,)


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet8"])
def test_post_is_the_relu_of_pre_and_training_moves_the_statistics(name):
    network = models.build(name, 10)
    image = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = network.init(jax.random.key(1), image, train=False)
    (_, features), updates = network.apply(
        variables, image, train=True, mutable=["batch_stats"]
    )
    for pre, post in zip(features.pre, features.post, strict=True):
        assert np.any(pre < 0)
        np.testing.assert_array_equal(post, np.maximum(pre, 0))
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        updates["batch_stats"],
        variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet8"])
def test_networks_start_as_the_authors_do(name):
    """Kaiming normal over fan-out, not truncated; linear layers as PyTorch has them."""
    network = models.build(name, 100)
    params = network.init(jax.random.key(0), IMAGE, train=False)["params"]
    kernel = np.asarray(params["group3_block0"]["conv2"]["kernel"])
    expected = np.sqrt(2 / (3 * 3 * 64))
    assert kernel.std() == pytest.approx(expected, rel=0.02)
    # A truncated normal ends at 2.3 of its standard deviations.
    assert np.abs(kernel).max() > 3.5 * expected
    classifier = np.asarray(params["classifier"]["kernel"])
    assert np.abs(classifier).max() <= 1 / 8
    assert classifier.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.02)
    bias = np.asarray(params["classifier"]["bias"])
    assert bool(np.any(bias)) == (name == "resnet8")
    assert np.abs(bias).max() <= 1 / 8


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet8"])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_variables(name):
    network = models.build(name, 10, dtype=jnp.bfloat16)
    image = jnp.zeros((2, 8, 8, 3))
    (logits, features), variables = network.init_with_output(
        jax.random.key(0), image, train=False
    )
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert {x.dtype for x in features.pre} == {jnp.dtype(jnp.bfloat16)}
    assert logits.dtype == features.pooled.dtype == np.float32


@pytest.mark.parametrize(
    "name", ["wrn_17_2", "wrn_16_0", "wrn_4_1", "resnet21", "resnet", "lenet", ""]
)
def test_unknown_networks_are_refused(name):
    with pytest.raises(ValueError, match=f"no network is called '{name}'"):
        models.build(name, 10)
