import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.models import torch_layout

#: Names and shapes of the state dicts of RepDistiller's networks for 100 classes.
PUBLIC = pathlib.Path(__file__).parents[1] / "golden" / "state_dict_shapes.json"


def shapes(name, num_classes=100):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, num_classes)
    size = models.image_size(name)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


def parameters(name, num_classes=100):
    """Counts the parameters."""
    _, variables = shapes(name, num_classes)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("mobilenet_v2", 100, 812_836),
        ("mobilenet_v2@64", 100, 812_836),
        ("mobilenet_v2@224", 1000, 3_504_872),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, num_classes, count):
    assert parameters(name, num_classes) == count


@pytest.mark.parametrize(
    ("name", "sizes", "widths", "pooled"),
    [
        ("mobilenet_v2", (16, 16, 8, 4, 2), (16, 12, 16, 48, 160), 1280),
        ("mobilenet_v2@64", (32, 32, 16, 8, 4), (16, 12, 16, 48, 160), 1280),
        ("mobilenet_v2@224", (112, 56, 28, 14, 7), (32, 24, 32, 96, 320), 1280),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths, pooled):
    """The stem comes first."""
    (logits, features), variables = shapes(name)
    expected = [
        (2, size, size, width) for size, width in zip(sizes, widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert [x.shape for x in (features.stem, *features.pre)] == expected
    assert [x.shape for x in (features.stem, *features.post)] == expected
    assert features.pooled.shape == (2, pooled)
    paths = models.margin_batch_norms(name)
    for path, width in zip(paths, widths[1:], strict=True):
        norm = variables["params"]
        for key in path:
            norm = norm[key]
        assert norm["scale"].shape == norm["bias"].shape == (width,)


def test_the_state_dict_is_that_of_repdistiller():
    """By names and shapes: its public teachers can be read."""
    network = models.build("mobilenet_v2", 100)
    _, variables = shapes("mobilenet_v2")
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    written = torch_layout.to_state_dict(network, zeros, "repdistiller")
    public = json.loads(PUBLIC.read_text())["MobileNetV2"]
    assert {name: list(leaf.shape) for name, leaf in written.items()} == public


def test_the_imagenet_form_has_the_layout_of_torchvision():
    network = models.build("mobilenet_v2@224", 10)
    assert torch_layout.layouts(network) == ("torchvision",)
    _, variables = shapes("mobilenet_v2@224", 10)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    written = torch_layout.to_state_dict(network, zeros, "torchvision")
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.weight": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.17.conv.3.running_var": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (10, 1280),
    }
    # Stem, first block, 16 blocks and head, six arrays a convolution; the classifier.
    assert len(written) == (1 + 2 + 3 * 16 + 1) * 6 + 2
    assert {name: written[name].shape for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "limit"), [("mobilenet_v2", np.inf), ("mobilenet_v2@224", 6)]
)
def test_relus_end_at_six_in_torchvision_alone(name, limit):
    network = models.build(name, 10)
    image = 100 * jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    (_, features), _ = jax.jit(
        lambda: network.init_with_output(jax.random.key(1), image, train=False)
    )()
    assert bool(features.stem.max() > 6) == (limit == np.inf)
    assert features.stem.max() <= limit
    for pre, post in zip(features.pre, features.post, strict=True):
        # No ReLU follows a linear bottleneck.
        assert np.any(pre < 0)
        np.testing.assert_array_equal(post, pre)


def test_weights_start_as_in_repdistiller():
    """A depthwise kernel's fan-out counts all of its channels."""
    network = models.build("mobilenet_v2", 100)
    params = jax.jit(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )()["params"]
    block = params["stage5_block2"]
    for name, fan_out in (("expand", 480), ("depthwise", 9 * 480), ("project", 80)):
        std = np.std(block[name]["kernel"])
        assert std == pytest.approx(np.sqrt(2 / fan_out), rel=0.05)
    assert np.std(params["classifier"]["kernel"]) == pytest.approx(0.01, rel=0.02)
    assert not np.any(params["classifier"]["bias"])


@pytest.mark.parametrize("name", ["mobilenet_v2@32", "mobilenetv2", "mobilenet_v3"])
def test_unknown_networks_are_refused(name):
    with pytest.raises(
        ValueError, match=rf"no network is called '{name}'.*mobilenet_v2\[@64\|@224\]"
    ):
        models.build(name, 10)
