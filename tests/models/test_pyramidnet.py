import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.models import pyramidnet


def shapes(name, **kwargs):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, 100, **kwargs)
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


@pytest.mark.parametrize(
    ("name", "parameters", "widths", "sums", "margin"),
    [
        ("pyramidnet_200_240", 26_844_952, (100, 180, 1024), (384, 704, 1024), "bn2"),
        ("pyramidnet_110_84", 3_913_536, (44, 72, 100), (44, 72, 100), "bn1"),
    ],
)
def test_networks_have_the_published_parameters_and_features(
    name, parameters, widths, sums, margin
):
    (logits, features), variables = shapes(name)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found == parameters
    expected = [
        (2, size, size, width) for size, width in zip((32, 16, 8), widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert features.stem.shape == (2, 32, 32, 16)
    assert [x.shape for x in features.pre] == expected
    assert [x.shape for x in features.post] == expected
    expected = [(2, 32, 32, sums[0]), (2, 16, 16, sums[1]), (2, 8, 8, sums[2])]
    assert [x.shape for x in features.block] == expected
    assert features.pooled.shape == (2, widths[-1])
    margins = models.margin_batch_norms(name)
    assert margins == (("group2_block0", margin), ("group3_block0", margin), ("bn",))
    for path, width in zip(margins, widths, strict=True):
        norm = variables["params"]
        for key in path:
            norm = norm[key]
        assert norm["scale"].shape == (width,)


def test_widths_grow_as_the_authors_do():
    widths = models.build("pyramidnet_200_240", 100).widths()
    assert len(widths) == 3 * 22
    assert widths[:23] == [
        *(20, 23, 27, 31, 34, 38, 41, 45, 49, 52, 56),
        *(60, 63, 67, 71, 74, 78, 81, 85, 89, 92, 96, 100),
    ]
    assert (widths[43], widths[44], widths[65]) == (176, 180, 256)
    widths = models.build("pyramidnet_110_84", 100).widths()
    assert len(widths) == 3 * 18
    assert widths[:19] == [
        *(18, 19, 21, 22, 24, 25, 27, 28, 30),
        *(32, 33, 35, 36, 38, 39, 41, 42, 44, 46),
    ]
    assert (widths[35], widths[36], widths[53]) == (72, 74, 100)


def test_a_shortcut_averages_and_appends_zeros():
    """The last row and column of an odd map are averaged by themselves."""
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    found = pyramidnet._shortcut(x, channels=3, stride=2)
    expected = [[[2, 0, 0], [3.5, 0, 0]], [[6.5, 0, 0], [8, 0, 0]]]
    np.testing.assert_array_equal(found, [expected])
    kept = pyramidnet._shortcut(x, channels=2, stride=1)
    np.testing.assert_array_equal(kept[..., :1], x)
    np.testing.assert_array_equal(kept[..., 1:], jnp.zeros_like(x))


def test_a_published_depth_says_of_which_blocks_a_network_is_made():
    parse = pyramidnet.PyramidNet.parse
    assert parse("pyramidnet_110_84", 32) == parse("pyramidnet_110_84_basic", 32)
    assert parse("pyramidnet_110_84_bottleneck", 32) == {
        "blocks": 12,
        "alpha": 84,
        "bottleneck": True,
    }
    for name in ("pyramidnet_164_270", "pyramidnet_200_240", "pyramidnet_272_200"):
        assert parse(name, 32) == parse(f"{name}_bottleneck", 32)
        assert parse(name, 32)["bottleneck"]


@pytest.mark.parametrize(
    "name",
    [
        # A depth that is not published, without a suffix.
        *("pyramidnet_20_6", "pyramidnet_38_48"),
        *(
            "pyramidnet_21_6_basic",
            "pyramidnet_14_6_bottleneck",
            "pyramidnet_2_6_basic",
        ),
        *("pyramidnet_20_0_basic", "pyramidnet_20_6_wide", "pyramidnet_110"),
        *("pyramidnet_110_84@64", "pyramidnet_200_240@224"),
    ],
)
def test_unknown_networks_are_refused(name):
    with pytest.raises(ValueError, match="no network is called"):
        models.build(name, 10)
