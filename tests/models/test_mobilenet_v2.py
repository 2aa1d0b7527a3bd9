import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.interop import torch_layout
from tests.models import abstract


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("mobilenet_v2", 100, 812_836),
        ("mobilenet_v2@64", 100, 812_836),
        ("mobilenet_v2@224", 1000, 3_504_872),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, num_classes, count):
    assert abstract.parameters(name, num_classes) == count


@pytest.mark.parametrize(
    ("name", "sizes", "widths", "pooled"),
    [
        ("mobilenet_v2", (16, 16, 8, 4, 2), (16, 12, 16, 48, 160), 1280),
        ("mobilenet_v2@64", (32, 32, 16, 8, 4), (16, 12, 16, 48, 160), 1280),
        ("mobilenet_v2@224", (112, 56, 28, 14, 7), (32, 24, 32, 96, 320), 1280),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths, pooled):
    abstract.check_features(name, sizes, widths, pooled)


def test_the_state_dict_is_that_of_repdistiller():
    """By names and shapes: its public teachers can be read."""
    written = abstract.state_dict_shapes("mobilenet_v2", "repdistiller")
    assert written == abstract.public_state_dict("MobileNetV2")


def test_the_imagenet_form_has_the_layout_of_torchvision():
    network = models.build("mobilenet_v2@224", 10)
    assert torch_layout.layouts(network) == ("torchvision",)
    _, variables = abstract.shapes("mobilenet_v2@224", 10)
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
