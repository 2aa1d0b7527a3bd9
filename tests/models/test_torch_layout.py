import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.models import torch_layout


@pytest.fixture
def resnet8(golden):
    """The authors' ResNet8 and what it answers, in float64."""
    with jax.enable_x64(True):
        yield golden("resnet8", "mix/")


def state_dict(arrays):
    return {
        key.removeprefix("student/"): value
        for key, value in arrays.items()
        if key.startswith("student/")
    }


def network():
    return models.build("resnet8", 10, dtype=jnp.float64)


def test_resnet_answers_as_the_authors(resnet8):
    """The whole of wrn_16_1 and wrn_10_1 is compared in tests/test_step.py."""
    variables = torch_layout.from_state_dict(network(), state_dict(resnet8))
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
    image = jnp.asarray(resnet8["images"].transpose(0, 2, 3, 1), jnp.float64)
    logits, _ = network().apply(variables, image, train=False)
    np.testing.assert_allclose(logits, resnet8["eval/student_logits"], rtol=1e-9)
    (logits, features), _ = network().apply(
        variables, image, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(logits, resnet8["train/student_logits"], rtol=1e-9)
    for stage, feature in enumerate(features.pre, start=1):
        # The first image alone is stored, in float32.
        expected = resnet8[f"train/student_feat{stage}"].transpose(0, 2, 3, 1)
        atol = 1e-7 * np.abs(expected).max()
        np.testing.assert_allclose(feature[:1], expected, rtol=0, atol=atol)


def test_every_name_that_does_not_fit_is_listed(resnet8):
    arrays = state_dict(resnet8)
    del arrays["conv1.weight"]
    arrays["fc.weight"] = arrays["fc.weight"][:5]
    arrays["layer4.0.conv1.weight"] = np.zeros(3)
    with pytest.raises(ValueError, match="does not fit") as error:
        torch_layout.from_state_dict(network(), arrays)
    message = str(error.value)
    assert "conv1.weight is missing" in message
    assert "fc.weight has shape (5, 64), which becomes (64, 5) and not (64, 10)" in (
        message
    )
    assert "layer4.0.conv1.weight is not in the network" in message
    assert message.count(";") == 2


def test_counters_of_batch_norms_are_passed_over(resnet8):
    arrays = state_dict(resnet8) | {"bn1.num_batches_tracked": np.asarray(3)}
    torch_layout.from_state_dict(network(), arrays)


def test_networks_without_a_layout_are_refused():
    with pytest.raises(ValueError, match="MobileNet has no PyTorch layout"):
        torch_layout.from_state_dict(models.build("mhgd_mobilenet", 10), {})


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("wrn_10_1", "overhaul", "block1.layer.0.conv1.weight"),
        ("resnet8", "overhaul", "layer2.0.downsample.0.weight"),
        ("resnet8", "linear", "layer2.0.shortcut.0.weight"),
    ],
)
def test_variables_become_a_state_dict_and_come_back_bit_for_bit(
    name, layout, expected
):
    net = models.build(name, 10)
    variables = jax.tree.map(
        lambda leaf: np.random.default_rng(leaf.size).random(leaf.shape, np.float32),
        jax.eval_shape(
            lambda: net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
        ),
    )
    written = torch_layout.to_state_dict(net, variables, layout)
    assert expected in written
    assert written["bn1.num_batches_tracked"].shape == ()
    jax.tree.map(
        np.testing.assert_array_equal,
        torch_layout.from_state_dict(net, written),
        dict(variables),
    )


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"layout='keras' is none of \('overhaul',\)"):
        torch_layout.to_state_dict(models.build("wrn_10_1", 10), {}, "keras")
