"""The attention network and its graphs against the authors' own functions."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from kdjax import rngs
from kdjax import step as step_lib
from kdjax.distill.modules import attention_network
from kdjax.distill.modules.attention_network import AttentionNetwork
from kdjax.losses import mhgd

#: Agreement by type, of the largest entry of an array. Gradients of the training lose
#: more in float32: what goes back through a batch norm are differences of few vectors.
TOLERANCE = {
    "float64": {"loss": 1e-9, "value": 1e-9, "gradient": 1e-9},
    "float32": {"loss": 2e-6, "value": 1e-5, "gradient": 1e-4},
}


def part(arrays, prefix):
    return {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }


def assert_close(actual, expected, tolerance):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )


def assert_trees_close(actual, expected, tolerance):
    actual, expected = map(traverse_util.flatten_dict, (actual, expected))
    assert actual.keys() == expected.keys()
    for path, value in actual.items():
        assert_close(value, expected[path], tolerance)


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), jnp.float32)


def make(heads=4, front_channels=5, back_channels=8, batch=6, **settings):
    """Returns a network, variables as if it had learned, and unit vectors."""
    rng = np.random.default_rng(0)
    front, back = unit(rng, batch, front_channels), unit(rng, batch, back_channels)
    network = AttentionNetwork(front_channels, back_channels, heads, **settings)
    kept = jnp.ones((heads, batch, 1), bool)
    shapes = jax.eval_shape(
        lambda key: network.init(key, front, back, kept, train=True), jax.random.key(0)
    )

    def draw(path, shape):
        x = 0.3 * rng.normal(size=shape.shape)
        return jnp.asarray(1 + np.abs(x) if path[-1] in ("scale", "var") else x, "f4")

    return network, traverse_util.path_aware_map(draw, shapes), front, back


def compiled(network, variables, *, train=False, method=None):
    """Returns the network as a function of its inputs alone."""

    @jax.jit
    def apply(*inputs):
        result, _ = network.apply(
            variables, *inputs, train=train, method=method, mutable=["batch_stats"]
        )
        return result

    return apply


class Released:
    """One case of the golden file, with kdjax's network and variables in one type."""

    def __init__(self, arrays, dtype, from_release):
        self.arrays = arrays
        self.from_release = from_release
        self.dtype = jnp.dtype(dtype)
        self.tolerance = TOLERANCE[dtype]
        self.network = AttentionNetwork(
            arrays["V_front"].shape[1],
            arrays["V_back"].shape[1],
            int(arrays["num_head"]),
            dtype=self.dtype,
        )
        self.variables = jax.tree.map(self.cast, from_release(part(arrays, "param__")))
        self.front, self.back = (
            self.cast(arrays["V_front"]),
            self.cast(arrays["V_back"]),
        )
        self.kept = attention_network._above_mean(self.cast(arrays["head_noise"]))

    def cast(self, array):
        return jnp.asarray(array, self.dtype)

    def train(self, params):
        """Returns the estimate in training mode and the new running statistics."""
        estimate, updates = self.network.apply(
            self.variables | {"params": params},
            self.front,
            self.back,
            self.kept,
            train=True,
            mutable=["batch_stats"],
        )
        return estimate, updates["batch_stats"]

    def logits(self, front, back):
        return self.network.apply(
            self.variables, front, back, train=False, method="logits"
        )

    def check(self, actual, name, kind):
        assert_close(actual, self.arrays[name], self.tolerance[kind])


@pytest.fixture(
    params=[
        (case, dtype)
        for dtype in ("float64", "float32")
        for case in ("case0", "case1", "case2")
    ],
    ids="-".join,
)
def released(request, golden, from_release):
    case, dtype = request.param
    with contextlib.ExitStack() as stack:
        if dtype == "float64":
            stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.default_matmul_precision("highest"))
        yield Released(golden("mhan", f"{case}__"), dtype, from_release)


def test_training_matches_authors(released):
    r = released

    def objective(params):
        """Returns the loss and, by name, everything on the way to it."""
        # Arguments and result of every layer by its name.
        seen = {}

        def note(call, args, kwargs, context):
            result = call(*args, **kwargs)
            name = context.module.name or context.method_name
            seen[name] = args, result
            return result

        with nn.intercept_methods(note):
            estimate, batch_stats = r.train(params)
        cosine_loss = jnp.mean(mhgd.estimation_loss(estimate, r.back))
        # In kdjax a weight decay of the optimizer.
        penalty = 5e-4 * optax.tree.norm(params, squared=True)
        losses = {
            "cosine_loss": cosine_loss,
            "l2_penalty": penalty,
            "mha_loss": cosine_loss + penalty,
        }
        logits = seen["logits"][1]
        values = {
            "logits_train": logits,
            "graph_train_masked": jax.nn.softmax(logits) * r.kept,
            "estimator_hidden": jax.nn.relu(seen["hidden"][1]),
            "estimator_heads": seen["output"][0][0],
            "V_back_hat": estimate,
        }
        return losses["mha_loss"], (losses, values, batch_stats)

    np.testing.assert_array_equal(r.kept, r.arrays["head_mask"] == 1)
    gradient, (losses, values, batch_stats) = jax.jit(
        jax.grad(objective, has_aux=True)
    )(r.variables["params"])
    assert values["V_back_hat"].dtype == r.dtype
    for name, value in losses.items():
        r.check(value, name, "loss")
    for name, value in values.items():
        r.check(value, name, "value")
    assert_trees_close(
        gradient,
        r.from_release(part(r.arrays, "dmha__"))["params"],
        r.tolerance["gradient"],
    )
    assert_trees_close(batch_stats, biased(r, n=len(r.front)), r.tolerance["value"])


def biased(r, *, n):
    """Returns the running statistics that the release would have with Flax's variance.

    TensorFlow's running variance follows the unbiased variance of n vectors, Flax's the
    biased one.
    """
    before, after = (
        traverse_util.flatten_dict(found["batch_stats"])
        for found in (
            r.from_release(part(r.arrays, prefix))
            for prefix in ("param__", "bn_after__")
        )
    )
    for path, old in before.items():
        if path[-1] == "var":
            after[path] = 0.9 * old + (after[path] - 0.9 * old) * (n - 1) / n
    return traverse_util.unflatten_dict(after)


def test_transfer_matches_authors(released):
    r = released
    front, back = (
        r.cast(r.arrays[name]) for name in ("V_front_student", "V_back_student")
    )

    def objective(front, back):
        """Returns the divergence and, by name, everything on the way to it."""
        teacher, student = r.logits(r.front, r.back), r.logits(front, back)
        rows = mhgd.graph_divergence(student, teacher, smoothing="tanh")
        assert rows.shape == (len(back),)
        july = mhgd.graph_divergence(student, teacher, smoothing="centered_tanh")
        return jnp.sum(rows), {
            "logits_teacher": teacher,
            "logits_student": student,
            "graph_teacher": mhgd.graph(teacher, teacher, smoothing="tanh"),
            "graph_student": mhgd.graph(student, teacher, smoothing="tanh"),
            "kl": jnp.sum(rows),
            "kl_first_release": jnp.sum(july),
        }

    gradients, values = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))(
        front, back
    )
    for name, value in values.items():
        r.check(value, name, "value")
    r.check(gradients[0], "dkl_dV_front_student", "value")
    r.check(gradients[1], "dkl_dV_back_student", "value")


def test_parameter_count_matches_authors():
    """Of the two networks of the ResNet on CIFAR-100."""

    def parameters(key):
        return [
            AttentionNetwork(front, back).init(
                key,
                jnp.zeros((2, front)),
                jnp.zeros((2, back)),
                jnp.ones((8, 2, 1)),
                train=True,
            )["params"]
            for front, back in ((64, 128), (128, 256))
        ]

    shapes = jax.eval_shape(parameters, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 1_269_696


def test_initial_weights_match_authors():
    kernel = attention_network.truncated_fan_out(jax.random.key(0), (1000, 200))
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(jnp.max(jnp.abs(kernel)), 2 * 0.013**0.5, rtol=1e-3)
    np.testing.assert_allclose(jnp.std(kernel), 1.0029 * 0.1, rtol=1e-2)
    network = AttentionNetwork(front_channels=40, back_channels=60, heads=2)
    params = jax.jit(
        lambda key: network.init(
            key,
            jnp.zeros((2, 40)),
            jnp.zeros((2, 60)),
            jnp.ones((2, 2, 1)),
            train=True,
        )
    )(jax.random.key(1))["params"]
    for module, width in (("sender", 100), ("receiver", 100), ("hidden", 50)):
        kernel = params[module]["dense"]["kernel"]
        assert kernel.shape[-1] == width
        np.testing.assert_allclose(jnp.std(kernel), (2 / width) ** 0.5, rtol=0.1)
    np.testing.assert_allclose(
        jnp.std(params["output"]["kernel"]), (2 / 60) ** 0.5, rtol=0.1
    )
    assert not jnp.any(params["output"]["bias"])


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
def test_any_number_of_heads_learns(heads):
    network, variables, front, back = make(heads)

    def objective(params, key):
        kept = attention_network.head_dropout_mask(
            key, heads=heads, index=jnp.arange(6), batch_size=6
        )
        estimate, _ = network.apply(
            variables | {"params": params},
            front,
            back,
            kept,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean(mhgd.estimation_loss(estimate, back))

    @jax.jit
    def update(params, key):
        loss, gradient = jax.value_and_grad(objective)(params, key)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, gradient)
        return params, loss, optax.tree.norm(gradient["sender"])

    params, losses = variables["params"], []
    for step in range(30):
        params, loss, norm = update(params, rngs.key(0, "heads", step))
        losses.append(loss)
        # The attention learns too, of a single head as of many.
        assert norm > 0
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("heads", [2, 3, 8])
def test_half_of_the_heads_are_kept(heads):
    kept = attention_network.head_dropout_mask(
        jax.random.key(0), heads=heads, index=jnp.arange(4000), batch_size=4000
    )
    assert kept.shape == (heads, 4000, 1)
    assert kept.dtype == bool
    number = np.sum(kept, axis=0)
    assert number.min() == 1
    assert number.max() == heads - 1
    np.testing.assert_allclose(np.mean(kept), 0.5, atol=0.02)


def test_a_head_at_the_mean_is_dropped_unless_it_is_the_only_one():
    assert not np.any(attention_network._above_mean(jnp.ones((2, 3, 1))))
    assert np.all(attention_network._above_mean(jnp.ones((1, 3, 1))))


def test_head_dropout_does_not_depend_on_sharding():
    draw = {"heads": 3, "batch_size": 8}
    whole = attention_network.head_dropout_mask(
        jax.random.key(0), index=jnp.arange(8), **draw
    )
    some = jnp.asarray([5, 2])
    np.testing.assert_array_equal(
        attention_network.head_dropout_mask(jax.random.key(0), index=some, **draw),
        whole[:, some],
    )


def test_dropped_heads_have_no_effect():
    """An estimate from no head at all is the direction of the last bias."""
    network, variables, front, back = make()
    variables["params"]["output"]["bias"] = jnp.arange(8.0)
    estimate = compiled(network, variables)
    none = jnp.zeros((4, 6, 1), bool)
    direction = np.arange(8.0) / np.linalg.norm(np.arange(8.0))
    np.testing.assert_allclose(
        estimate(front, back, none), np.tile(direction, (6, 1)), rtol=1e-6
    )
    some = estimate(front, back, none.at[1, 2].set(True))
    changed = np.any(np.abs(some - direction[None]) > 1e-3, axis=-1)
    np.testing.assert_array_equal(changed, np.arange(6) == 2)


@pytest.mark.parametrize("train", [False, True])
def test_the_graph_of_a_permuted_batch_is_permuted(train):
    network, variables, front, back = make()
    logits = compiled(network, variables, train=train, method="logits")
    order = np.asarray([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(
        logits(front[order], back[order]),
        np.asarray(logits(front, back))[:, order][:, :, order],
        rtol=1e-4,
        atol=1e-4,
    )


def test_degenerate_vectors_and_estimates_leave_everything_finite():
    """Batch norms see no variance, and one row's estimate is 0 before its division."""
    network, variables, *_ = make()
    front, back = jnp.zeros((6, 5)), jnp.zeros((6, 8))
    variables["params"]["output"]["bias"] = jnp.zeros(8)
    kept = jnp.ones((4, 6, 1), bool).at[:, 0].set(False)

    def loss(params):
        estimate, _ = network.apply(
            variables | {"params": params},
            front,
            back,
            kept,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean(mhgd.estimation_loss(estimate, back))

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert float(value) == 1
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_bfloat16_ends_in_float32():
    network, variables, front, back = make(dtype=jnp.bfloat16)
    kept = jnp.ones((4, 6, 1), bool)
    logits = compiled(network, variables, method="logits")(front, back)
    estimate = compiled(network, variables)(front, back, kept)
    assert logits.dtype == estimate.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(estimate, axis=-1), np.ones(6), rtol=1e-6)


def test_local_rows_with_all_columns_are_rows_of_the_whole():
    network, variables, front, back = make()
    logits = compiled(network, variables, method="logits")
    whole, rows = logits(front, back), logits(front, back[2:4])
    assert rows.shape == (4, 2, 6)
    np.testing.assert_allclose(rows, whole[:, 2:4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        mhgd.graph_divergence(rows, 2 * rows, smoothing="centered_tanh"),
        mhgd.graph_divergence(whole, 2 * whole, smoothing="centered_tanh")[2:4],
        rtol=1e-4,
    )


def test_training_on_four_devices_matches_one():
    with jax.enable_x64(True):
        network, variables, front, back = make(
            batch=8, dtype=jnp.float64, axis_name=step_lib.DEVICES
        )
        variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)

        def run(num_devices):
            share = 8 // num_devices

            def local(variables, front, back):
                front = jax.lax.all_gather(front, step_lib.DEVICES, tiled=True)
                first = share * jax.lax.axis_index(step_lib.DEVICES)
                kept = attention_network.head_dropout_mask(
                    jax.random.key(0),
                    heads=4,
                    index=first + jnp.arange(share),
                    batch_size=8,
                )

                def objective(params):
                    estimate, updates = network.apply(
                        variables | {"params": params},
                        front,
                        back,
                        kept,
                        train=True,
                        mutable=["batch_stats"],
                    )
                    loss = jnp.mean(mhgd.estimation_loss(estimate, back))
                    return loss, updates["batch_stats"]

                found = jax.value_and_grad(objective, has_aux=True)(variables["params"])
                return jax.lax.pmean(found, step_lib.DEVICES)

            spread = step_lib.data_parallel(
                local, jax.devices()[:num_devices], in_axes=(None, 0, 0)
            )
            return spread(
                variables,
                front.reshape(num_devices, share, -1),
                back.reshape(num_devices, share, -1),
            )

        one, four = run(1), run(4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), one, four
    )


def test_rejects_vectors_of_other_lengths():
    network, variables, front, back = make()
    with pytest.raises(ValueError, match=r"lengths \(8, 5\), .* made for \(5, 8\)"):
        network.apply(variables, back, front, train=False, method="logits")
