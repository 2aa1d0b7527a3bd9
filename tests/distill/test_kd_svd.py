import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import kd_svd
from kdjax.distill.method import Outputs
from kdjax.models import Features

POINTS = range(3)


def outputs_of(*features):
    features = tuple(map(jnp.asarray, features))
    return Outputs(
        jnp.zeros((2, 3)), Features(features[0], features, features, jnp.zeros((2, 4)))
    )


def terms_of(method, student, teacher):
    terms, stats = method.loss({}, {}, outputs_of(*student), outputs_of(*teacher), None)
    assert stats == {}
    return terms


@functools.partial(jax.jit, static_argnums=0)
def total_and_gradients(method, student, teacher):
    def total(student):
        terms = terms_of(method, student, teacher)
        return sum(map(jnp.sum, terms.values())), terms

    return jax.value_and_grad(total, has_aux=True)(student)


def worst(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize(
    ("algorithm", "gradient", "dtype"),
    [
        ("subspace", "exact", "float64"),
        ("subspace", "released", "float64"),
        ("gram", "exact", "float64"),
        ("svd", "released", "float64"),
        ("subspace", "exact", "float32"),
    ],
)
def test_loss_of_maps_matches_authors(golden, algorithm, gradient, dtype):
    arrays = golden("kdsvd_loss")
    name = {"exact": "exact", "released": "kdtf"}[gradient]
    value, slope = {"float64": (1e-9, 1e-7), "float32": (1e-5, 5e-5)}[dtype]
    method = kd_svd.KdSvd(algorithm=algorithm, gradient=gradient)
    with jax.enable_x64(dtype == "float64"):
        student, teacher = (
            [jnp.asarray(arrays[f"x_{side}{point}"], dtype) for point in POINTS]
            for side in "st"
        )
        (total, terms), gradients = total_and_gradients(method, student, teacher)
    assert total.dtype == dtype
    np.testing.assert_allclose(total, arrays["loss_total"], rtol=value)
    assert sorted(terms) == ["pair_1", "pair_2"]
    for pair in (0, 1):
        term = np.asarray(terms[f"pair_{pair + 1}"])
        assert term.shape == (5,)
        np.testing.assert_allclose(term.sum(), arrays[f"loss_pair{pair}"], rtol=value)
    for point, found in enumerate(gradients):
        assert worst(found, arrays[f"dL_dx_s{point}_{name}"]) < slope


def post_relu(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [
        jnp.asarray(np.maximum(rng.normal(0.3, 1, shape), 0), jnp.float32)
        for shape in shapes
    ]


MAPS = [(2, 4, 4, 5), (2, 2, 2, 6)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient": "released"},
        {"gradient": "projection", "teacher_vectors": 3},
        {"transfer": "direct", "teacher_vectors": 2},
    ],
)
def test_every_variant_is_zero_at_the_teacher_and_finite(settings):
    method = kd_svd.KdSvd(**settings)
    student, teacher = post_relu(0, *MAPS), post_relu(1, *MAPS)
    (total, _), _ = total_and_gradients(method, teacher, teacher)
    np.testing.assert_allclose(total, 0, atol=1e-8)
    # A dead image, a dead channel, twin channels; a dead map of the teacher.
    student[0] = student[0].at[0].set(0)
    student[1] = student[1].at[..., 0].set(0).at[..., 2].set(student[1][..., 1])
    teacher[1] = teacher[1].at[1].set(0)
    kinds = [(1, "float32"), (1e4, "float32"), (1e-6, "float32")]
    kinds += [] if settings else [(1, "bfloat16")]
    for scale, dtype in kinds:
        scaled = [(x * scale).astype(dtype) for x in student]
        (total, terms), gradients = total_and_gradients(method, scaled, teacher)
        names = "stage" if settings.get("transfer") == "direct" else "pair"
        assert sorted(terms) == [f"{names}_{n + 1}" for n in range(len(terms))]
        for term in terms.values():
            assert term.shape == (2,)
            assert term.dtype == jnp.float32
        assert np.isfinite(total)
        assert total > 0
        for gradient in gradients:
            assert np.all(np.isfinite(np.asarray(gradient, np.float32)))
        assert any(np.any(gradient != 0) for gradient in gradients)


def test_several_vectors_are_weighted_by_their_singular_values():
    """The first direction agrees, the second, half as strong, has a cosine of 0.6."""
    teacher = [jnp.asarray([[2.0, 0, 0], [0, 1.0, 0]]).reshape(1, 2, 1, 3)]
    student = [jnp.asarray([[2.0, 0, 0], [0, 0.6, 0.8]]).reshape(1, 2, 1, 3)]
    method = kd_svd.KdSvd(transfer="direct", student_vectors=2, teacher_vectors=2)
    terms = terms_of(method, student, teacher)
    np.testing.assert_allclose(terms["stage_1"], [(2 - 2 * 0.6) / 5], rtol=1e-5)


def test_examples_are_independent():
    method = kd_svd.KdSvd()
    student, teacher = post_relu(0, *MAPS), post_relu(1, *MAPS)
    _, together = total_and_gradients(method, student, teacher)
    for image in range(2):
        alone = [[x[image : image + 1] for x in maps] for maps in (student, teacher)]
        _, gradients = total_and_gradients(method, *alone)
        for found, expected in zip(gradients, together, strict=True):
            assert worst(found, expected[image : image + 1]) < 1e-4


def test_connected_widths_learn():
    student = outputs_of(*post_relu(0, (2, 4, 4, 3), (2, 2, 2, 6)))
    teacher = outputs_of(*post_relu(1, (2, 4, 4, 5), (2, 2, 2, 6)))
    method = kd_svd.KdSvd(widths="connect")
    variables = method.init(jax.random.key(0), student, teacher)
    assert variables["params"]["stage1_conv"]["kernel"].shape == (1, 1, 3, 5)

    def total(params):
        terms, stats = method.loss(
            variables | {"params": params}, {}, student, teacher, None
        )
        return jnp.sum(terms["pair_1"]), stats

    gradient, stats = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert np.any(gradient["stage1_conv"]["kernel"] != 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_nothing_is_learned_where_the_widths_agree():
    maps = outputs_of(*post_relu(0, *MAPS))
    assert kd_svd.KdSvd().init(jax.random.key(0), maps, maps) == {}


@pytest.mark.parametrize(
    ("settings", "student", "teacher", "message"),
    [
        (
            {"widths": "refuse"},
            [(4, 4, 5), (2, 2, 8)],
            [(4, 4, 5), (2, 2, 6)],
            r"widths='refuse'.*student's are \[5, 8\], the teacher's \[5, 6\]",
        ),
        ({}, [(4, 4, 5)] * 3, [(4, 4, 5)] * 2, "student has 3, the teacher 2"),
        ({}, [(4, 4, 5)], [(4, 4, 5)], r"transfer='relation' needs two .* not 1"),
        (
            {"gradient": "projection"},
            [(4, 4, 5), (2, 2, 6)],
            [(4, 4, 5), (4, 4, 6)],
            r"projection' .*\[\(4, 4\), \(2, 2\)\], the teacher's \[\(4, 4\), \(4, 4\)",
        ),
        (
            {},
            [(4, 4, 5), (1, 3, 6)],
            [(4, 4, 5), (1, 3, 6)],
            r"student_vectors=4 is more than .* \(1, 3\) with 6 channels",
        ),
        (
            {"teacher_vectors": 6},
            [(4, 4, 5), (4, 4, 6)],
            [(4, 4, 5), (4, 4, 6)],
            r"teacher_vectors=6 is more than .* \(4, 4\) with 5 channels",
        ),
    ],
)
def test_rejects_networks_that_do_not_fit(settings, student, teacher, message):
    outputs = [
        outputs_of(*(np.zeros((2, *shape)) for shape in shapes))
        for shapes in (student, teacher)
    ]
    with pytest.raises(ValueError, match=message):
        kd_svd.KdSvd(**settings).init(jax.random.key(0), *outputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"algorithm": "x"},
            r"methods\.kd_svd\.algorithm='x' is none of \['gram', 'subspace'",
        ),
        ({"gradient": "x"}, r"gradient='x' is none of \['exact', 'projection', 'rele"),
        ({"transfer": "x"}, r"transfer='x' is none of \['direct', 'relation'\]"),
        ({"widths": "x"}, r"widths='x' is none of \['connect', 'refuse'\]"),
        ({"student_vectors": 0}, "student_vectors=0 is less than 1"),
    ],
)
def test_rejects_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        kd_svd.KdSvd(**settings)
