import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import models

IMAGE = jnp.zeros((2, 32, 32, 3))


def shapes(name, num_classes=100):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, num_classes)
    size = 64 if name.endswith("@64") else 32
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


def drawn_variables(network, image):
    """Returns variables of the usual size; draws them faster than the network does."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, std, leaf.shape).astype(leaf.dtype)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)

    wanted = jax.eval_shape(
        lambda image: network.init(jax.random.key(0), image, train=False), image
    )
    return jax.tree_util.tree_map_with_path(draw, wanted)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("wrn_28_4", 5_872_180),
        ("wrn_16_4", 2_772_020),
        ("wrn_28_2", 1_479_220),
        ("wrn_16_2", 703_284),
        ("wrn_40_1", 569_780),
        ("wrn_40_2", 2_255_156),
        ("wrn_16_1", 180_916),
        ("wrn_10_1", 83_700),
        ("resnet20", 278_324),
        ("resnet32", 472_756),
        ("resnet44", 667_188),
        ("resnet56", 861_620),
        ("resnet110", 1_736_564),
        ("resnet8x4", 1_233_540),
        ("resnet32x4", 7_433_860),
        ("wrn_22_4", 4_322_100),
        ("wrn_10_4", 1_221_940),
        # A stem of stride 2 has as many.
        ("wrn_22_4@64", 4_322_100),
    ],
)
def test_networks_have_as_many_parameters_as_published(name, parameters):
    _, variables = shapes(name)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found == parameters


#: Layers (kernel, channels in, channels out) whose weights are kernel^2 * in * out.
RESNET_STUDENT = [
    *[(3, 3, 16), (3, 16, 64), (3, 64, 64), (1, 16, 64)],
    *[(3, 64, 128), (3, 128, 128), (1, 64, 128)],
    *[(3, 128, 256), (3, 256, 256), (1, 128, 256)],
]
RESNET_FOR_64 = [
    *[(3, 3, 16), (3, 16, 32), (3, 32, 32), (1, 16, 32)],
    *[(3, 32, 64), (3, 64, 64), (1, 32, 64)],
    *[(3, 64, 128), (3, 128, 128), (1, 64, 128)],
    *[(3, 128, 256), (3, 256, 256), (1, 128, 256)],
    *[(3, 256, 512), (3, 512, 512), (1, 256, 512)],
]
STRIDED_VGG = [
    *[(3, 3, 16), (3, 16, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128)],
    *[(3, 128, 256), (3, 256, 256)],
]
#: A depthwise convolution has one channel in.
MOBILENET = [
    *[(3, 3, 16), (3, 1, 16), (1, 16, 64), (3, 1, 64), (1, 64, 128)],
    *[(3, 1, 128), (1, 128, 128), (3, 1, 128), (1, 128, 256)],
    *[(3, 1, 256), (1, 256, 256)],
]


@pytest.mark.parametrize(
    ("name", "convolutions", "parameters"),
    [
        ("mhgd_resnet", RESNET_STUDENT, 1_222_836),
        ("mhgd_resnet@64", RESNET_STUDENT, 1_222_836),
        ("resnet8x4@64", RESNET_FOR_64, 4_946_292),
        ("mhgd_vgg_strided", STRIDED_VGG, 1_179_956),
        ("mhgd_vgg_strided@64", STRIDED_VGG, 1_179_956),
        ("mhgd_mobilenet", MOBILENET, 158_244),
        ("mhgd_mobilenet@64", MOBILENET, 158_244),
    ],
)
def test_networks_have_the_parameters_of_their_layers(name, convolutions, parameters):
    """No biases, a scale and an offset after every convolution, one linear layer."""
    by_hand = sum(size**2 * before * after for size, before, after in convolutions)
    by_hand += sum(2 * after for _, _, after in convolutions)
    by_hand += (convolutions[-1][2] + 1) * 100
    assert by_hand == parameters
    _, variables = shapes(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == by_hand


STUDENTS = ("mhgd_resnet", "mhgd_vgg_strided", "mhgd_mobilenet")


@pytest.mark.parametrize(
    ("name", "sizes", "widths"),
    [
        ("wrn_16_2", (32, 16, 8), (32, 64, 128)),
        ("wrn_10_1", (32, 16, 8), (16, 32, 64)),
        ("resnet8", (32, 16, 8), (16, 32, 64)),
        *(
            (name + suffix, (32, 16, 8), (64, 128, 256))
            for name in ("wrn_22_4", "wrn_10_4", *STUDENTS)
            for suffix in ("", "@64")
        ),
        ("resnet8x4", (32, 16, 8), (64, 128, 256)),
        ("resnet32x4", (32, 16, 8), (64, 128, 256)),
        ("resnet8x4@64", (64, 32, 16, 8, 4), (32, 64, 128, 256, 512)),
        ("resnet32x4@64", (64, 32, 16, 8, 4), (32, 64, 128, 256, 512)),
    ],
)
def test_features_have_the_published_shapes(name, sizes, widths):
    (logits, features), variables = shapes(name)
    expected = [
        (2, size, size, width) for size, width in zip(sizes, widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert [x.shape for x in features.pre] == expected
    assert [x.shape for x in features.post] == expected
    assert features.pooled.shape == (2, widths[-1])
    for path, width in zip(models.margin_batch_norms(name), widths, strict=True):
        norm = variables["params"]
        for key in path:
            norm = norm[key]
        assert norm["scale"].shape == norm["bias"].shape == (width,)


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet8", "pyramidnet_14_6_basic"])
def test_post_is_the_relu_of_pre_and_training_moves_the_statistics(name):
    network = models.build(name, 10)
    image = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = drawn_variables(network, image)

    @jax.jit
    def run(variables):
        return network.apply(variables, image, train=True, mutable=["batch_stats"])

    (_, features), updates = run(variables)
    for pre, post, block in zip(
        features.pre, features.post, features.block, strict=True
    ):
        assert np.any(pre < 0)
        np.testing.assert_array_equal(post, np.maximum(pre, 0))
        # The bare sum of a pre-activation block.
        assert np.any(block < 0) == (name != "resnet8")
        if name == "resnet8":
            np.testing.assert_array_equal(block, post)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        updates["batch_stats"],
        variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    "name",
    # All others are compared with PyTorch, tests/interop/test_torch_reference.py.
    ["resnet8x4@64", "mhgd_resnet", "mhgd_vgg7", "mhgd_vgg_strided", "mhgd_mobilenet"],
)
def test_a_training_pass_is_finite_and_reaches_every_parameter(name):
    network = models.build(name, 10)
    image = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    label = jnp.asarray([3, 7])
    variables = drawn_variables(network, image)

    @jax.jit
    def pass_(variables):
        def loss(params):
            outputs, _ = network.apply(
                {**variables, "params": params},
                image,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs[0], label)
            return jnp.mean(losses), outputs

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradients, (logits, features) = pass_(variables)
    assert np.all(np.isfinite(logits))
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient)
    for pre, post in zip(features.pre, features.post, strict=True):
        assert np.any(pre < 0)
        np.testing.assert_array_equal(post, np.maximum(pre, 0))


def test_the_bias_of_a_wide_classifier_starts_as_its_kernel():
    """Both U(-1/16, 1/16): 1/sqrt of 256 inputs."""
    network = models.build("mhgd_resnet", 1000)

    @jax.jit
    def classifier(key):
        return network.init(key, IMAGE[:, :8, :8], train=False)["params"]["classifier"]

    for values in map(np.asarray, classifier(jax.random.key(0)).values()):
        assert np.abs(values).max() <= 1 / 16
        assert values.std() == pytest.approx(1 / 16 / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet8"])
def test_networks_start_as_the_authors_do(name):
    """Kaiming normal over fan-out, not truncated; linear layers as PyTorch has them."""
    network = models.build(name, 100)
    init = jax.jit(lambda key: network.init(key, IMAGE, train=False))
    params = init(jax.random.key(0))["params"]
    kernel = np.asarray(params["group3_block0"]["conv2"]["kernel"])
    expected = np.sqrt(2 / (3 * 3 * 64))
    assert kernel.std() == pytest.approx(expected, rel=0.02)
    # A truncated normal ends at 2.3 of its standard deviations.
    assert np.abs(kernel).max() > 3.5 * expected
    classifier = np.asarray(params["classifier"]["kernel"])
    assert np.abs(classifier).max() <= 1 / 8
    assert classifier.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.02)
    bias = np.asarray(params["classifier"]["bias"])
    assert bool(np.any(bias)) == (name == "resnet8")
    assert np.abs(bias).max() <= 1 / 8


@pytest.mark.parametrize(
    "name",
    [
        *("wrn_10_1", "resnet8", "resnet14_zero_padded", "resnet18", "resnet50"),
        *("pyramidnet_14_6_basic", "pyramidnet_20_6_bottleneck", "vgg8", "mobilenet"),
        *("mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "mhgd_vgg7"),
        *("mhgd_vgg_strided", "mhgd_mobilenet", "vit_4_64_distilled"),
        "convnext_atto",
    ],
)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_variables(name):
    """What every module returns, but for the pooled features and the logits."""
    network = models.build(name, 10, dtype=jnp.bfloat16)

    def run(image):
        variables = network.init(jax.random.key(0), image, train=False)
        return variables, network.apply(
            variables,
            image,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=True,
        )

    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables, ((logits, features), found) = jax.eval_shape(run, image)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    assert logits.dtype == features.pooled.dtype == np.float32
    modules = dict(found["intermediates"])
    # The network itself, its last layers, and the norm of what they read.
    for name in ("__call__", "classifier", "distillation_classifier", "norm"):
        modules.pop(name, None)
    narrow = (modules, features._replace(pooled=None, heads=()))
    assert {x.dtype for x in jax.tree.leaves(narrow)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    "name",
    [
        *("wrn_17_2", "wrn_16_0", "wrn_4_1", "wrn_16_2@48", "wrn_16_2@", "wrn_16_2@32"),
        *("resnet21", "resnet", "resnet9x4", "resnet8x2", "resnet20@64"),
        *("mhgd_vgg8", "mhgd_wrn", "mhgd_mobilenet@64@64", "lenet", ""),
    ],
)
def test_unknown_networks_are_refused(name):
    known = r"known are wrn_<depth>_<widen>\[@64\] .*mhgd_vgg16.*mhgd_mobilenet"
    with pytest.raises(ValueError, match=f"no network is called '{name}'; {known}"):
        models.build(name, 10)


def test_nothing_imports_from_above():
    """Networks know nothing of the training, the methods or the data."""
    for path in pathlib.Path(models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("kdjax"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                # How a command is run imports nothing.
                known = ("kdjax.models", "kdjax.cli.command_line")
                assert not name.startswith("kdjax") or name.startswith(known)
