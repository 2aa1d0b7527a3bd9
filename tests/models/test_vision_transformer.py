"""Vision transformers: sizes, positions, what they drop, and what they refuse."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models, optim
from kdjax.config import checks
from kdjax.distill import __main__ as table
from kdjax.models import cost, vision_transformer
from kdjax.recipes import alone
from tests.models import abstract


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        # Touvron et al. (2021), tables 1 and 5: 5, 22 and 86 million. To the last digit
        # they are those of timm, and for vit_base of torchvision's vit_b_16.
        ("deit_tiny@224", 5_717_416, 1.25e9),
        ("vit_tiny@224", 5_717_416, 1.25e9),
        ("deit_small@224", 22_050_664, 4.6e9),
        ("vit_base@224", 86_567_656, 17.6e9),
        ("deit_tiny_distilled@224", 5_910_800, 1.26e9),
        ("deit_small_distilled@224", 22_436_432, 4.6e9),
    ],
)
def test_parameters_are_as_many_as_published(name, parameters, multiply_adds):
    found = cost.of(models.build(name, 1000), (224, 224, 3))
    assert found.parameters == parameters
    assert found.multiply_adds == pytest.approx(multiply_adds, rel=0.01)


def test_multiply_adds_by_hand():
    """Queries, keys, values, projection and two layers; attention's two products."""
    tokens, width = 65, 64
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    by_hand = 64 * 4 * 4 * 3 * width + 4 * block + width * 10
    assert cost.multiply_adds(models.build("vit_4_64", 10), (32, 32, 3)) == by_hand


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("vit_4_64", (8,) * 4), ("vit_6_128@64", (8,) * 4), ("deit_tiny@224", (14,) * 5)],
)
def test_features_are_the_tokens_of_the_patches(name, sizes):
    width = {"vit_4_64": 64, "vit_6_128@64": 128}.get(name, 192)
    abstract.check_features(name, sizes, (width,) * len(sizes), width, margins=False)
    (_, features), _ = abstract.shapes(name)
    assert features.last is None
    assert features.heads == ()


@pytest.mark.parametrize("name", ["vit_3_64", "vit_4_96", "vit_4_0", "vit_tiny@48"])
def test_other_depths_and_widths_are_refused(name):
    with pytest.raises(ValueError, match="no network is called"):
        models.build(name, 10)


def test_images_that_are_not_whole_patches_are_refused_before_the_training():
    config = alone("vit_tiny,digits")
    checks.check(config)
    with pytest.raises(ValueError, match="multiples of its patch, 4, not 30x32"):
        jax.eval_shape(
            lambda x: models.build("vit_4_64", 10).init(jax.random.key(0), x, False),
            jnp.zeros((1, 30, 32, 3)),
        )
    config.model = "vit_tiny@224"
    with pytest.raises(ValueError, match="multiples of its patch, 16, not 8x8"):
        checks.check(config)


def test_what_is_refused_names_the_reason():
    network = models.build("vit_4_64", 10)
    with pytest.raises(ValueError, match=r"no batch norms.*margin='measured'"):
        network.margin_batch_norms()
    for method in ("cat_kd", "sdd"):
        found = table.refusal(table.build(method), "vit_4_64-resnet8")
        assert found.startswith(f"methods.{method} applies a classifier to the last m")


@pytest.fixture(scope="module")
def distilled():
    """A small network with a distillation token, images of 16x16, and its variables."""
    network = models.build("vit_4_64_distilled", 10)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), "float32")
    init = jax.jit(lambda key: network.init(key, image, train=False))
    return network, image, init(jax.random.key(0))


def test_everything_starts_small_and_nothing_from_the_size_of_the_images(distilled):
    _, _, variables = distilled
    assert variables.keys() == {"params"}
    params = variables["params"]
    assert params["position_embedding"].shape == (1, 2 + 64, 64)
    for leaf in (params["position_embedding"], params["block3"]["fc1"]["kernel"]):
        assert np.std(leaf) == pytest.approx(0.02, rel=0.05)
    assert not np.any(params["block0"]["qkv"]["bias"])


def test_logits_are_the_mean_of_two_heads_that_read_two_tokens(distilled):
    network, image, variables = distilled
    params = variables["params"]

    def of(params):
        return network.apply({"params": params}, image, train=False)

    logits, features = jax.jit(of)(params)
    np.testing.assert_allclose(logits, sum(features.heads) / 2, rtol=1e-6)
    layer = params["classifier"]
    first = features.pooled @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(features.heads[0], first, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(of(p)[1].heads[1])))(params)
    read = jax.tree.map(lambda x: bool(np.any(x)), gradient)
    assert not any(read.pop("classifier").values())
    # What is added to the keys changes no softmax, and the sum of all queries' biases
    # is in the gradient of a third of `qkv`.
    assert all(jax.tree.leaves(read))


@pytest.fixture(scope="module")
def block():
    """Tokens of 64 examples, and variables of a block."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 64)), "float32")
    variables = vision_transformer.Block(jnp.float32).init(jax.random.key(0), x, False)
    return x, jax.tree.map(lambda leaf: leaf + 0.1, variables)


@pytest.mark.parametrize("rate", models.rates("vit_4_64"))
def test_rates_change_nothing_but_the_training(rate, block):
    x, variables = block
    plain = vision_transformer.Block(jnp.float32)
    dropping = vision_transformer.Block(jnp.float32, **{rate: 0.5})

    def trained(seed):
        key = {"dropout": jax.random.key(seed)}
        return dropping.apply(variables, x, train=True, rngs=key)

    np.testing.assert_array_equal(trained(0), trained(0))
    assert not np.allclose(trained(0), trained(1))
    expected = plain.apply(variables, x, train=False)
    np.testing.assert_array_equal(dropping.apply(variables, x, train=False), expected)
    # One in four examples loses both branches as a whole.
    unchanged = np.all(trained(0) == x, axis=(1, 2)).sum()
    assert 8 <= unchanged <= 24 if rate == "stochastic_depth" else unchanged == 0


def test_stochastic_depth_rises_from_none_in_the_first_block():
    network = models.build("vit_4_64", 10, stochastic_depth=0.3, dropout=0.1)
    found = {}

    def note(run, args, kwargs, context):
        if isinstance(module := context.module, vision_transformer.Block):
            found[module.name] = module.stochastic_depth, module.dropout
        return run(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda x: network.init(jax.random.key(0), x, train=False),
            jnp.zeros((1, 8, 8, 3)),
        )
    rates, dropout = zip(*(found[f"block{n}"] for n in range(4)), strict=True)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3])
    assert set(dropout) == {0.1}


def test_positions_are_interpolated_for_images_of_another_size(distilled):
    """To the positions themselves where they rise evenly, away from the border."""
    rows, columns = np.mgrid[:8, :8].reshape(2, 64)
    table = jnp.stack([rows, columns], -1)[None].astype(jnp.float32)
    np.testing.assert_array_equal(
        vision_transformer.resized_positions(table, 8, 8), table
    )
    found = vision_transformer.resized_positions(table, 16, 4).reshape(16, 4, 2)
    np.testing.assert_allclose(found[4:12, 1, 0], np.arange(1.75, 5.5, 0.5), atol=1e-5)
    np.testing.assert_allclose(found[5, 1:3, 1], [2.5, 4.5], atol=0.1)
    network, _, variables = distilled
    image = jnp.ones((2, 24, 8, 3))
    _, features = jax.eval_shape(lambda x: network.apply(variables, x, False), image)
    assert features.post[0].shape == (2, 6, 2, 64)


def test_tokens_and_positions_do_not_decay(distilled):
    _, _, variables = distilled
    decays = optim.kernels(variables["params"])
    assert decays["block0"]["fc1"]["kernel"]
    names = ("class_token", "distillation_token", "position_embedding")
    assert not any(decays[name] for name in names)
    assert sum(jax.tree.leaves(decays)) == 1 + 4 * 4 + 2
