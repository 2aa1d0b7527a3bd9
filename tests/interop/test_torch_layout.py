import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.interop import torch_layout
from tests.models import abstract


@pytest.fixture
def resnet8(golden):
    """The authors' ResNet8; tests/test_step.py compares what it answers."""
    return golden("distiller_pyramid20_resnet8", "mix/")


def state_dict(arrays):
    return {
        key.removeprefix("student/"): value
        for key, value in arrays.items()
        if key.startswith("student/")
    }


def network():
    return models.build("resnet8", 10)


def test_names_that_do_not_fit_are_counted_and_listed(resnet8):
    arrays = state_dict(resnet8)
    del arrays["conv1.weight"]
    arrays["fc.weight"] = arrays["fc.weight"][:5]
    arrays["layer4.0.conv1.weight"] = np.zeros(3)
    with pytest.raises(ValueError, match="does not match") as error:
        torch_layout.from_state_dict(network(), arrays)
    assert str(error.value).endswith(
        "of 47 names 1 missing (conv1.weight), 1 unexpected (layer4.0.conv1.weight), "
        "1 of another shape (fc.weight (5, 64) instead of (10, 64))"
    )


def test_of_many_names_the_first_are_listed():
    with pytest.raises(ValueError, match="does not match") as error:
        torch_layout.from_state_dict(network(), {"a": np.zeros(3)})
    assert str(error.value).endswith(
        "47 missing (layer1.0.conv1.weight, layer1.0.conv2.weight, ...), "
        "1 unexpected (a)"
    )


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
        ("resnet8_zero_padded", "linear", "linear.weight"),
        ("pyramidnet_20_6_bottleneck", "overhaul", "layer2.0.bn4.weight"),
        ("vit_4_64_distilled", "timm", "dist_token"),
        ("vit_4_64", "torchvision_v1", "encoder.layers.encoder_layer_0.ln_1.weight"),
        ("convnext_atto", "torchvision", "features.1.0.layer_scale"),
        ("convnext_atto", "timm", "stages.1.blocks.0.mlp.fc1.weight"),
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
    if "batch_stats" in variables:
        assert written["bn1.num_batches_tracked"].shape == ()
    jax.tree.map(
        np.testing.assert_array_equal,
        torch_layout.from_state_dict(net, written),
        dict(variables),
    )


@pytest.mark.parametrize(
    ("name", "layout", "public"),
    [
        ("deit_tiny@224", "timm", "deit_tiny_patch16_224"),
        ("deit_tiny_distilled@224", "timm", "deit_tiny_distilled_patch16_224"),
        ("vit_base@224", "torchvision", "vit_b_16"),
        ("convnext_tiny@224", "timm", "convnext_tiny of timm"),
        ("convnext_tiny@224", "torchvision", "convnext_tiny of torchvision"),
    ],
)
def test_names_and_shapes_are_those_of_public_networks(name, layout, public):
    found = torch_layout.shapes(models.build(name, 1000))[layout]
    expected = abstract.public_state_dict(public)
    assert {key: list(shape) for key, shape in found.items()} == expected


def test_files_of_torchvision_and_of_the_authors_have_names_of_their_own():
    """Names of vit_b_16-c867db91.pth and of convnext_tiny_1k_224_ema.pth."""
    found = torch_layout.shapes(models.build("vit_base@224", 1000))
    block = "encoder.layers.encoder_layer_11.mlp"
    renamed = {f"{block}.0": f"{block}.linear_1", f"{block}.3": f"{block}.linear_2"}
    for new, old in renamed.items():
        assert (
            found["torchvision"][f"{new}.weight"]
            == (found["torchvision_v1"][f"{old}.weight"])
        )
    found = torch_layout.shapes(models.build("convnext_tiny@224", 1000))["convnext"]
    assert found["downsample_layers.0.0.weight"] == (96, 3, 4, 4)
    assert found["downsample_layers.3.1.weight"] == (768, 384, 2, 2)
    assert found["stages.2.8.pwconv1.weight"] == (1536, 384)
    assert found["stages.2.8.gamma"] == (384,)
    assert found["norm.weight"] == (768,)
    assert found["head.bias"] == (1000,)
    assert len(found) == 182


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"layout='keras' is none of \('overhaul',\)"):
        torch_layout.to_state_dict(models.build("wrn_10_1", 10), {}, "keras")
