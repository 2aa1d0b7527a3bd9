import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.interop import torch_layout
from kdjax.models import resnet

STATE_DICTS = pathlib.Path(__file__).parents[1] / "golden" / "state_dict_shapes.json"


def shapes(name, num_classes=100, size=32):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, num_classes)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [
        ("resnet18", 100, 11_220_132),
        ("resnet50", 100, 23_705_252),
        # 200 classes instead of 100.
        ("resnet50@64", 200, 23_705_252 + 2049 * 100),
        ("resnet18@224", 1000, 11_689_512),
        ("resnet34@224", 1000, 21_797_672),
        ("resnet50@224", 1000, 25_557_032),
        ("resnet101@224", 1000, 44_549_160),
        ("resnet152@224", 1000, 60_192_808),
        # 7x7 against 3x3 in the stem, 900 classes more.
        ("resnet34", 100, 21_797_672 - 40 * 3 * 64 - 513 * 900),
        ("resnet101", 100, 44_549_160 - 40 * 3 * 64 - 2049 * 900),
        ("resnet152", 100, 60_192_808 - 40 * 3 * 64 - 2049 * 900),
        # The published 0.27, 0.46, 0.66, 0.85 and 1.7 million of He et al.
        ("resnet20_zero_padded", 10, 269_722),
        ("resnet32_zero_padded", 10, 464_154),
        ("resnet44_zero_padded", 10, 658_586),
        ("resnet56_zero_padded", 10, 853_018),
        ("resnet110_zero_padded", 10, 1_727_962),
        # Two projections and their batch norms less.
        ("resnet56_zero_padded", 100, 861_620 - 18 * 32 - 34 * 64),
        ("resnet110_zero_padded", 100, 1_736_564 - 18 * 32 - 34 * 64),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, num_classes, parameters):
    _, variables = shapes(name, num_classes)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found == parameters


THIN, WIDE, BOTTLENECKS = (16, 32, 64), (64, 128, 256, 512), (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("name", "stem", "sizes", "widths"),
    [
        ("resnet20", (32, 16), (32, 16, 8), THIN),
        ("resnet8x4", (32, 32), (32, 16, 8), WIDE[:3]),
        ("resnet56_zero_padded", (32, 16), (32, 16, 8), THIN),
        ("resnet50_zero_padded", (32, 16), (32, 16, 8), THIN),
        ("resnet18", (32, 64), (32, 16, 8, 4), WIDE),
        ("resnet34@64", (64, 64), (64, 32, 16, 8), WIDE),
        ("resnet50", (32, 64), (32, 16, 8, 4), BOTTLENECKS),
        ("resnet18@224", (56, 64), (56, 28, 14, 7), WIDE),
        ("resnet50@224", (56, 64), (56, 28, 14, 7), BOTTLENECKS),
    ],
)
def test_features_have_the_published_shapes(name, stem, sizes, widths):
    (logits, features), variables = shapes(name, size=models.image_size(name))
    size, width = stem
    expected = [
        (2, size, size, width) for size, width in zip(sizes, widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert features.stem.shape == (2, size, size, width)
    assert [x.shape for x in features.pre] == expected
    assert [x.shape for x in features.post] == expected
    assert features.pooled.shape == (2, widths[-1])
    for (block, norm), width in zip(
        models.margin_batch_norms(name), widths, strict=True
    ):
        assert norm == ("bn3" if widths == BOTTLENECKS else "bn2")
        assert variables["params"][block][norm]["scale"].shape == (width,)
        group, index = block.removeprefix("group").split("_block")
        assert f"group{group}_block{int(index) + 1}" not in variables["params"]


@pytest.mark.parametrize(
    ("name", "public", "layout"),
    [
        *((name, name, "overhaul") for name in ("resnet20", "resnet8x4", "resnet32x4")),
        ("resnet50", "ResNet50", "linear"),
        *((name, name, "overhaul") for name in ("wrn_16_2", "wrn_40_2")),
    ],
)
def test_state_dicts_have_the_names_and_shapes_of_public_ones(name, public, layout):
    expected = json.loads(STATE_DICTS.read_text())[public]
    _, variables = shapes(name)
    variables = jax.tree.map(
        lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables
    )
    network = models.build(name, 100)
    found = torch_layout.to_state_dict(network, variables, layout)
    assert {name: list(array.shape) for name, array in found.items()} == expected


def test_a_zero_padded_shortcut_thins_out_and_adds_zeros_on_both_sides():
    x = jnp.arange(1.0, 19.0).reshape(1, 3, 3, 2)
    found = resnet.zero_padded_shortcut(x, channels=6, stride=2)
    expected = [
        [[0, 0, 1, 2, 0, 0], [0, 0, 5, 6, 0, 0]],
        [[0, 0, 13, 14, 0, 0], [0, 0, 17, 18, 0, 0]],
    ]
    np.testing.assert_array_equal(found, [expected])


def test_zero_padded_shortcuts_have_no_parameters():
    _, variables = shapes("resnet8_zero_padded")
    assert variables["params"]["group2_block0"].keys() == {
        *("conv1", "bn1", "conv2", "bn2")
    }


@pytest.mark.parametrize(
    "name",
    [
        *("resnet19", "resnet2", "resnet36", "resnet18x4", "resnet18_zero_padded"),
        *("resnet20@64", "resnet20@224", "resnet20_zero_padded@64", "resnet8x4@224"),
        *("resnet18@32", "resnet50@128", "mhgd_resnet@224", "resnet9_zero_padded"),
    ],
)
def test_unknown_networks_are_refused(name):
    with pytest.raises(ValueError, match="no network is called"):
        models.build(name, 10)


def test_a_family_refuses_sizes_that_it_does_not_serve():
    assert resnet.ResNet.parse("resnet18", 64)
    for name in ("resnet18", "resnet20", "resnet8x4", "mhgd_resnet"):
        assert resnet.ResNet.parse(name, 299) is None
