import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import step as step_lib
from kdjax.distill import mhgd
from kdjax.distill.method import Outputs
from kdjax.losses import mhgd as graphs
from kdjax.models import Features

POINTS, PAIRS = range(3), range(2)
SHAPES = [(4, 4, 5), (4, 4, 6), (2, 3, 8)]


def outputs_of(*features):
    features = tuple(map(jnp.asarray, features))
    return Outputs(
        jnp.zeros((2, 3)), Features(features[0], features, features, jnp.zeros((2, 4)))
    )


def post_relu(seed, *shapes, batch=4, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [
        jnp.asarray(np.maximum(rng.normal(0.3, 1, (batch, *shape)), 0), dtype)
        for shape in shapes
    ]


@functools.partial(jax.jit, static_argnums=0)
def initialized_for(method, teacher, seed=0):
    return method.pretrain_init(jax.random.key(seed), outputs_of(*teacher))


def prepared_for(method, teacher, seed=0):
    """Returns attention networks as if they had learned."""
    variables = initialized_for(method, teacher, seed)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + jnp.asarray(rng.uniform(0.1, 0.5, x.shape), x.dtype), variables
    )


@functools.partial(jax.jit, static_argnums=0)
def total_and_gradients(method, prepared, student, teacher):
    def total(student):
        terms, stats = method.loss(
            {},
            {"pretrained": prepared},
            outputs_of(*student),
            outputs_of(*teacher),
            None,
        )
        assert stats == {}
        return sum(map(jnp.sum, terms.values())), terms

    return jax.value_and_grad(total, has_aux=True)(student)


@functools.partial(jax.jit, static_argnums=0)
def vectors_of(method, student, teacher):
    *vectors, _ = method.vectors({}, outputs_of(*student), outputs_of(*teacher))
    return vectors


def worst(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


class Released:
    """The golden case in one type."""

    def __init__(self, arrays, dtype, from_release):
        self.arrays = arrays
        self.dtype = dtype
        self.prepared = {"params": {}, "batch_stats": {}}
        for pair in PAIRS:
            prefix = f"param__pair{pair}__"
            found = from_release(
                {
                    k.removeprefix(prefix): jnp.asarray(v, dtype)
                    for k, v in arrays.items()
                    if k.startswith(prefix)
                }
            )
            for collection, tree in found.items():
                self.prepared[collection][f"pair_{pair + 1}"] = tree

    def method(self, **settings):
        return mhgd.Mhgd(
            dtype=self.dtype, heads=int(self.arrays["num_head"]), **settings
        )

    def points(self, name):
        return [jnp.asarray(self.arrays[f"{name}{p}"], self.dtype) for p in POINTS]


@pytest.fixture(params=["float64", "float32"])
def released(request, golden, from_release):
    with jax.enable_x64(request.param == "float64"):
        yield Released(golden("mhgd_end2end"), request.param, from_release)


#: Agreement by type: of losses, relative, and of arrays, of the largest entry.
VALUE = {"float64": 1e-9, "float32": 1e-5}
SLOPE = {"float64": 1e-7, "float32": 1e-4}


def test_vectors_and_graphs_match_authors(released):
    r, method = released, released.method()
    vectors = vectors_of(method, r.points("x_s"), r.points("x_t"))
    for point, (student, teacher) in enumerate(zip(*vectors, strict=True)):
        assert worst(student[..., 0], r.arrays[f"V_s{point}"]) < VALUE[r.dtype]
        assert worst(teacher[..., 0], r.arrays[f"V_t{point}"]) < VALUE[r.dtype]

    @jax.jit
    def logits_and_graphs(vectors):
        found = method.logits(r.prepared, vectors)
        return [(x, graphs.graph(x, x, smoothing="tanh")) for x in found]

    for side in "st":
        found = logits_and_graphs(r.points(f"V_{side}"))
        for pair, (logits, graph) in enumerate(found):
            expected = r.arrays[f"logits_{side}_pair{pair}"]
            assert worst(logits, expected) < VALUE[r.dtype]
            expected = r.arrays[f"graph_{side}_pair{pair}"]
            assert worst(graph, expected) < VALUE[r.dtype]


def test_gradients_of_vectors_match_authors(released):
    r, method = released, released.method()

    def total(vectors):
        logits = zip(
            method.logits(r.prepared, vectors),
            method.logits(r.prepared, r.points("V_t")),
            strict=True,
        )
        return sum(
            jnp.sum(graphs.graph_divergence(*pair, smoothing="tanh")) for pair in logits
        )

    value, gradients = jax.jit(jax.value_and_grad(total))(r.points("V_s"))
    np.testing.assert_allclose(value, r.arrays["loss_total"], rtol=VALUE[r.dtype])
    for point, gradient in enumerate(gradients):
        assert worst(gradient, r.arrays[f"dL_dVs{point}"]) < SLOPE[r.dtype]


@pytest.mark.parametrize("gradient", ["exact", "released"])
def test_loss_of_maps_matches_authors(released, gradient):
    r = released
    name = {"exact": "exact", "released": "kdtf"}[gradient]
    (total, terms), gradients = total_and_gradients(
        r.method(gradient=gradient), r.prepared, r.points("x_s"), r.points("x_t")
    )
    assert total.dtype == r.dtype
    np.testing.assert_allclose(total, r.arrays["loss_total"], rtol=VALUE[r.dtype])
    assert list(terms) == ["pair_1", "pair_2"]
    for term, expected in zip(terms.values(), r.arrays["kl_pair"], strict=True):
        assert term.shape == (5,)
        np.testing.assert_allclose(jnp.sum(term), expected, rtol=VALUE[r.dtype])
    for point, found in enumerate(gradients):
        expected = r.arrays[f"dL_dx_s{point}_{name}"]
        assert worst(found, expected) < SLOPE[r.dtype]


def test_pretraining_loss_matches_authors(released, monkeypatch):
    r = released
    noise = [jnp.asarray(r.arrays[f"head_noise_pair{p}"], r.dtype) for p in PAIRS]
    drawn = iter(noise)
    monkeypatch.setattr(jax.random, "normal", lambda *_, **__: next(drawn))
    terms, stats = jax.jit(r.method().pretrain_loss)(
        r.prepared, jax.random.key(0), outputs_of(*r.points("x_t"))
    )
    assert jax.tree.structure(stats) == jax.tree.structure(r.prepared["batch_stats"])
    for term, expected in zip(
        terms.values(), r.arrays["mha_cosine_loss_pair"], strict=True
    ):
        # Variances of five vectors lose digits in float32.
        rtol = {"float64": 1e-9, "float32": 1e-4}[r.dtype]
        np.testing.assert_allclose(jnp.mean(term), expected, rtol=rtol)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_every_number_of_heads_learns_and_teaches(heads):
    # The algorithm and the gradient that compile fastest.
    method = mhgd.Mhgd(
        heads=heads, smoothing="centered_tanh", algorithm="gram", gradient="projection"
    )
    student, teacher = post_relu(0, *SHAPES), post_relu(1, *SHAPES)
    variables = initialized_for(method, teacher)

    def estimate(params):
        terms, _ = method.pretrain_loss(
            variables | {"params": params}, jax.random.key(1), outputs_of(*teacher)
        )
        assert list(terms) == ["pair_1", "pair_2"]
        return sum(map(jnp.mean, terms.values()))

    gradient = jax.jit(jax.grad(estimate))(variables["params"])
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    # A single head is not dropped: its attention learns, too.
    for pair in gradient.values():
        assert np.any(pair["sender"]["dense"]["kernel"] != 0)
    (total, _), gradients = total_and_gradients(
        method, prepared_for(method, teacher), student, teacher
    )
    assert total > 0
    assert all(np.isfinite(g).all() and np.any(g != 0) for g in gradients)


@pytest.mark.parametrize(
    "settings", [{}, {"gradient": "released"}, {"algorithm": "svd"}]
)
def test_is_zero_at_the_teacher_and_finite_on_dead_maps(settings):
    method = mhgd.Mhgd(**settings)
    student, teacher = post_relu(0, *SHAPES), post_relu(1, *SHAPES)
    prepared = prepared_for(method, teacher)
    (total, _), _ = total_and_gradients(method, prepared, teacher, teacher)
    np.testing.assert_allclose(total, 0, atol=1e-4)
    # A dead image, a dead channel, twin channels; a dead map of the teacher.
    student[0] = student[0].at[0].set(0)
    student[1] = student[1].at[..., 0].set(0).at[..., 2].set(student[1][..., 1])
    teacher[1] = teacher[1].at[1].set(0)
    kinds = [(1, "float32"), (1e4, "float32"), (1e-6, "float32"), (1, "bfloat16")]
    for scale, dtype in kinds:
        scaled = [(x * scale).astype(dtype) for x in student]
        (total, terms), gradients = total_and_gradients(
            method, prepared, scaled, teacher
        )
        for term in terms.values():
            assert term.shape == (4,)
            assert term.dtype == jnp.float32
        assert np.isfinite(total)
        for gradient in gradients:
            assert np.all(np.isfinite(np.asarray(gradient, np.float32)))


def spread(function, devices, *trees):
    """Runs a function of one device's share of the images on several devices."""
    shares = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), trees)
    found = step_lib.data_parallel(
        function, jax.devices()[:devices], in_axes=(0,) * len(trees), out_axes=0
    )(*shares)
    return jax.device_get(found)


@functools.cache
def on_devices(devices, scope):
    """Returns terms and gradients of both phases for eight images."""
    method = mhgd.Mhgd(
        heads=2, scope=scope, dtype=jnp.float64, data_axis=step_lib.DEVICES
    )
    student, teacher = (
        post_relu(seed, *SHAPES, batch=8, dtype="float64") for seed in (0, 1)
    )
    prepared = jax.tree.map(
        lambda x: x.astype(jnp.float64), prepared_for(method, teacher)
    )

    def transfer(student, teacher):
        def total(student):
            terms, _ = method.loss(
                {},
                {"pretrained": prepared},
                outputs_of(*student),
                outputs_of(*teacher),
                None,
            )
            return sum(map(jnp.mean, terms.values())), terms

        return jax.grad(total, has_aux=True)(student)

    def preparation(teacher):
        def total(params):
            terms, stats = method.pretrain_loss(
                prepared | {"params": params}, jax.random.key(0), outputs_of(*teacher)
            )
            return sum(map(jnp.mean, terms.values())), (terms, stats)

        gradient, (terms, stats) = jax.grad(total, has_aux=True)(prepared["params"])
        return terms, jax.lax.pmean((gradient, stats), step_lib.DEVICES)

    def flat(tree):
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    # On each device the gradient of the sum of all means, by its own maps.
    gradient, terms = flat(spread(transfer, devices, student, teacher))
    gradient = [g / devices for g in gradient]
    prepare_terms, learned = spread(preparation, devices, teacher)
    learned = jax.tree.map(lambda x: x[0], learned)
    return gradient, terms, flat(prepare_terms), learned


def test_graph_on_four_devices_matches_one():
    with jax.enable_x64(True):
        one, four = (on_devices(n, "global") for n in (1, 4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), four, one
    )


def test_a_graph_per_device_is_another():
    with jax.enable_x64(True):
        # On one device the graph of the batch is that of the device.
        one, four = on_devices(1, "global")[1], on_devices(4, "per_device")[1]
    assert not np.allclose(four["pair_1"], one["pair_1"], rtol=1e-3)


def test_connected_widths_learn():
    student = outputs_of(*post_relu(0, (4, 4, 3), (4, 4, 6)))
    teacher = post_relu(1, (4, 4, 5), (4, 4, 6))
    method = mhgd.Mhgd(widths="connect", student_vectors=3)
    prepared = prepared_for(method, teacher)
    variables = jax.jit(method.init)(jax.random.key(0), student, outputs_of(*teacher))

    def total(params):
        terms, stats = method.loss(
            variables | {"params": params},
            {"pretrained": prepared},
            student,
            outputs_of(*teacher),
            None,
        )
        return jnp.sum(terms["pair_1"]), stats

    gradient, stats = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert np.any(gradient["stage1_conv"]["kernel"] != 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_pretrained_parameter_count_matches_authors():
    """ResNet with stages of 64, 128 and 256 channels, 8 heads."""
    teacher = [jnp.zeros((1, 1, 1, width)) for width in (64, 128, 256)]
    variables = jax.eval_shape(
        lambda key: mhgd.Mhgd().pretrain_init(key, outputs_of(*teacher)),
        jax.random.key(0),
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == 1_269_696


def test_the_student_may_come_with_any_sign():
    """The teacher's sign decides."""
    method = mhgd.Mhgd()
    student, teacher = post_relu(0, *SHAPES), post_relu(1, *SHAPES)
    vectors = vectors_of(method, student, teacher)
    for ours, theirs in zip(*map(jax.device_get, vectors), strict=True):
        assert np.all(np.sum(ours * theirs, axis=1) > 0)
        assert np.all(theirs >= -1e-6)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, r"methods\.mhgd\.heads=0 is less than 1"),
        ({"smoothing": "x"}, r"smoothing='x' is none of \['centered_tanh', 'none', "),
        ({"scope": "x"}, r"scope='x' is none of \['global', 'per_device'\]"),
        ({"algorithm": "x"}, r"methods\.mhgd\.algorithm='x' is none of"),
    ],
)
def test_rejects_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        mhgd.Mhgd(**settings)


def test_rejects_networks_that_do_not_fit():
    one, three, five = (
        outputs_of(*post_relu(0, *shapes))
        for shapes in ([(4, 4, 5)], SHAPES, [(4, 4, 5), (4, 4, 7), (2, 3, 8)])
    )
    with pytest.raises(ValueError, match="two stages or more, the teacher has 1"):
        mhgd.Mhgd().pretrain_init(jax.random.key(0), one)
    with pytest.raises(ValueError, match=r"methods.mhgd.widths='refuse' .*\[5, 7, 8\]"):
        mhgd.Mhgd(widths="refuse").init(jax.random.key(0), five, three)
