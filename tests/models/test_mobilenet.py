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
        ("mobilenet@224", 1000, 4_231_976),
        # Its classifier for 10 or 100 classes instead of 1000.
        ("mobilenet", 10, 4_231_976 - 990 * 1025),
        ("mobilenet@64", 100, 4_231_976 - 900 * 1025),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, num_classes, count):
    assert abstract.parameters(name, num_classes) == count


@pytest.mark.parametrize(
    ("name", "sizes", "widths", "pooled"),
    [
        ("mobilenet", (32, 16, 8, 4, 2), (32, 128, 256, 512, 1024), 1024),
        ("mobilenet@64", (64, 32, 16, 8, 4), (32, 128, 256, 512, 1024), 1024),
        ("mobilenet@224", (112, 56, 28, 14, 7), (32, 128, 256, 512, 1024), 1024),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths, pooled):
    abstract.check_features(name, sizes, widths, pooled)


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        (
            "mobilenet",
            "kuangliu",
            {
                "conv1.weight": (32, 3, 3, 3),
                "layers.0.conv1.weight": (32, 1, 3, 3),
                "layers.12.conv2.weight": (1024, 1024, 1, 1),
                "layers.12.bn2.running_mean": (1024,),
                "linear.weight": (10, 1024),
            },
        ),
        (
            "mobilenet@224",
            "overhaul",
            {
                "model.0.0.weight": (32, 3, 3, 3),
                "model.1.0.weight": (32, 1, 3, 3),
                "model.13.3.weight": (1024, 1024, 1, 1),
                "model.13.4.running_mean": (1024,),
                "fc.weight": (10, 1024),
            },
        ),
    ],
)
def test_each_form_has_the_layout_of_its_original(name, layout, expected):
    network = models.build(name, 10)
    assert torch_layout.layouts(network) == (layout,)
    _, variables = abstract.shapes(name, 10)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    written = torch_layout.to_state_dict(network, zeros, layout)
    # A stem and 13 units of two convolutions, each with a batch norm; the classifier.
    assert len(written) == (1 + 2 * 13) * 6 + 2
    assert {name: written[name].shape for name in expected} == expected


def test_weights_start_as_in_pytorch():
    """Uniform up to 1/sqrt(fan-in); a depthwise kernel's fan-in is its 9 places."""
    network = models.build("mobilenet", 10)
    params = jax.jit(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )()["params"]
    for kernel, fan_in in (
        (params["stem"]["kernel"], 27),
        (params["unit12"]["conv1"]["kernel"], 9),
        (params["unit12"]["conv2"]["kernel"], 512),
        (params["classifier"]["kernel"], 1024),
        (params["classifier"]["bias"], 1024),
    ):
        bound = fan_in**-0.5
        assert 0.8 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("name", ["mobilenet@32", "mobilenet@96", "mobilenet_v1"])
def test_unknown_networks_are_refused(name):
    with pytest.raises(
        ValueError, match=rf"no network is called '{name}'.*mobilenet\[@64\|@224\]"
    ):
        models.build(name, 10)
