"""Folded networks: the same logits from fewer operations, and what must stay."""

import re

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.export import fold

IMAGE = (8, 8, 3)


def trained(network, shape=IMAGE):
    """Makes variables whose batch norms all do something."""
    image = jnp.zeros((1, *shape))
    made = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1] in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = 1 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5
        return random.normal(0, spread, leaf.shape).astype(np.float32)

    flat = flax.traverse_util.flatten_dict(made)
    return flax.traverse_util.unflatten_dict({p: draw(p, x) for p, x in flat.items()})


def images(shape=IMAGE):
    return np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)


def logits(network):
    return lambda variables, image: network.apply(variables, image, train=False)[0]


def assert_same(network, variables, folded, shape=IMAGE):
    image = images(shape)
    wanted = jax.jit(logits(network))(variables, image)
    found = jax.jit(folded.apply)(folded.variables, image)
    assert found.dtype == wanted.dtype
    assert np.max(np.abs(found - wanted)) <= 1e-5 * np.max(np.abs(wanted))


def operations(apply, variables):
    """Counts the operations of a program by name."""
    text = jax.jit(apply).lower(variables, images()).as_text()
    return len(re.findall(r"stablehlo\.\w+", text))


class Layers(nn.Module):
    """A convolution, then what `body` makes of its output."""

    body: object
    conv: object = nn.Conv

    @nn.compact
    def __call__(self, image, train):
        conv = self.conv(4, (3, 3), name="conv")
        return self.body(self, conv, image).mean((1, 2)), None

    def norm(self, name="bn", **kwargs):
        return nn.BatchNorm(use_running_average=True, name=name, **kwargs)


def fold_layers(body, **kwargs):
    network = Layers(body, **kwargs)
    variables = trained(network)
    folded = fold.fold_batch_norms(network, variables, IMAGE)
    assert_same(network, variables, folded)
    return folded


@pytest.mark.parametrize(
    ("name", "norms", "into"),
    [
        # Those inside the blocks; the others stand behind sums, and that of the first
        # block behind the stem, which the shortcut reads too.
        ("wrn_10_1", 7, 3),
        # There the first shortcut is a convolution, and only one reads the stem.
        ("wrn_10_2", 7, 4),
        ("resnet8", 9, 9),
        ("mhgd_vgg_strided", 7, 7),
        ("mhgd_mobilenet", 11, 11),
        # The first of every block stands behind a sum, or behind the stem's, and so
        # does the last of all.
        ("pyramidnet_14_20_basic", 20, 13),
    ],
)
def test_networks(name, norms, into):
    network = models.build(name, 10)
    variables = trained(network)
    folded = fold.fold_batch_norms(network, variables, IMAGE)
    assert_same(network, variables, folded)
    assert len(folded.convolutions) == len(set(folded.convolutions.values())) == into
    before = operations(logits(network), variables)
    after = operations(folded.apply, folded.variables)
    # A batch norm has ten operations and more; a bias, or a scale and a bias, have
    # three for each.
    assert after <= before - 4 * norms
    assert not folded.variables["batch_stats"]


def test_which_convolution():
    network = models.build("wrn_10_1", 10)
    folded = fold.fold_batch_norms(network, trained(network), IMAGE)
    blocks = [f"group{group}_block0" for group in (1, 2, 3)]
    assert folded.convolutions == {(b, "bn2"): (b, "conv1") for b in blocks}
    params = folded.variables["params"]
    assert set(params["group1_block0"]) == {"bn1", "conv1", "conv2"}
    assert set(params["group1_block0"]["bn1"]) == {"scale", "bias"}
    assert set(params["group1_block0"]["conv1"]) == {"kernel", "bias"}
    assert set(params["stem"]) == {"kernel"}


def test_a_network_without_batch_norms_is_left_alone():
    network = models.build("mhgd_vgg7", 10)
    variables = trained(network, (32, 32, 3))
    folded = fold.fold_batch_norms(network, variables, (32, 32, 3))
    assert not folded.convolutions
    jax.tree.map(
        np.testing.assert_array_equal, folded.variables["params"], variables["params"]
    )
    assert_same(network, variables, folded, (32, 32, 3))


def test_what_was_given_is_left_alone():
    network = models.build("resnet8", 10)
    variables = trained(network)
    copy = jax.tree.map(np.copy, variables)
    fold.fold_batch_norms(network, variables, IMAGE)
    jax.tree.map(np.testing.assert_array_equal, variables, copy)


def test_without_scale_and_bias():
    plain = {"use_scale": False, "use_bias": False}
    folded = fold_layers(lambda m, conv, x: m.norm(**plain)(conv(x)))
    assert folded.convolutions == {("bn",): ("conv",)}
    folded = fold_layers(lambda m, conv, x: m.norm(**plain)(conv(x) + x.mean()))
    assert not folded.convolutions


def test_depthwise_with_and_without_bias():
    for bias in (True, False):

        def body(m, conv, x, bias=bias):
            conv = nn.Conv(
                6, (3, 3), feature_group_count=3, use_bias=bias, name="depthwise"
            )
            return m.norm()(conv(x))

        assert fold_layers(body).convolutions == {("bn",): ("depthwise",)}


# What must not be folded.


def test_convolution_read_elsewhere():
    def body(m, conv, x):
        y = conv(x)
        return nn.relu(m.norm()(y)) + y

    assert not fold_layers(body).convolutions


def test_convolution_read_by_two_batch_norms():
    def body(m, conv, x):
        y = conv(x)
        return m.norm("bn")(y) * nn.relu(m.norm("bn_too")(y))

    assert not fold_layers(body).convolutions


def test_convolution_read_only_for_nothing():
    """What does not lead to the logits does not count."""

    def body(m, conv, x):
        y = conv(x)
        nn.relu(y).sum()
        return m.norm()(y)

    assert fold_layers(body).convolutions


def test_something_between():
    assert not fold_layers(lambda m, conv, x: m.norm()(nn.relu(conv(x)))).convolutions


def test_layers_that_run_twice():
    def conv_twice(m, conv, x):
        return m.norm()(conv(x)) + conv(x[:, ::-1])

    def norm_twice(m, conv, x):
        norm = m.norm()
        return norm(nn.relu(norm(conv(x))))

    assert not fold_layers(conv_twice).convolutions
    assert not fold_layers(norm_twice).convolutions


def test_norm_of_another_axis():
    folded = fold_layers(lambda m, conv, x: m.norm(axis=1)(conv(x)))
    assert not folded.convolutions
    assert folded.variables["batch_stats"]


def test_compiled_part():
    def body(m, conv, x):
        return m.norm()(nn.jit(nn.Conv)(4, (3, 3), name="compiled")(x))

    # Not seen there; right all the same.
    assert not fold_layers(body).convolutions
