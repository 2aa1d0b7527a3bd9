import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.models import shufflenet
from tests.models import abstract


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v1@64"])
def test_networks_have_as_many_parameters_as_published(name):
    assert abstract.parameters(name) == 949_258


@pytest.mark.parametrize(
    ("name", "sizes", "widths", "pooled"),
    [
        ("shufflenet_v1", (32, 16, 8, 4), (24, 240, 480, 960), 960),
        ("shufflenet_v1@64", (64, 32, 16, 8), (24, 240, 480, 960), 960),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths, pooled):
    abstract.check_features(name, sizes, widths, pooled, margins=False)


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v1@64"])
def test_margins_are_to_be_measured(name):
    message = r"shufflenet_v1: it needs methods\.overhaul\.margin='measured'"
    with pytest.raises(ValueError, match=message):
        models.margin_batch_norms(name)


def test_the_state_dict_is_that_of_repdistiller():
    """By names and shapes: its public teachers can be read."""
    written = abstract.state_dict_shapes("shufflenet_v1", "repdistiller")
    assert written == abstract.public_state_dict("ShuffleV1")


def test_channels_are_dealt_out_one_of_each_group_in_turn():
    x = jnp.arange(12.0).reshape(1, 1, 1, 12)
    shuffled = shufflenet.shuffle_channels(x, 3)
    expected = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    np.testing.assert_array_equal(shuffled.ravel(), expected)
    np.testing.assert_array_equal(shufflenet.shuffle_channels(x, 1), x)


def test_weights_start_as_in_pytorch():
    """Uniform up to 1/sqrt(fan-in), which counts the channels of one group."""
    network = models.build("shufflenet_v1", 10)
    params = jax.jit(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )()["params"]
    block = params["stage3_block1"]
    for kernel, fan_in in (
        (block["conv1"]["kernel"], 320),
        (block["conv2"]["kernel"], 9),
        (params["classifier"]["kernel"], 960),
        (params["classifier"]["bias"], 960),
    ):
        bound = fan_in**-0.5
        assert 0.8 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("name", ["shufflenet_v1@224", "shufflenet_v1_1", "shufflenet"])
def test_unknown_networks_are_refused(name):
    with pytest.raises(
        ValueError, match=rf"no network is called '{name}'.*shufflenet_v1\[@64\]"
    ):
        models.build(name, 10)
