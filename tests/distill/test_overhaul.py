import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.distill import METHODS, Outputs, Teacher, build, hyperparameters, overhaul
from kdjax.models import Features


def outputs_of(*features):
    features = tuple(map(jnp.asarray, features))
    return Outputs(
        jnp.zeros((2, 3)), Features(features[0], features, features, jnp.zeros((2, 4)))
    )


def test_measured_margins_are_means_of_all_negative_responses():
    rng = np.random.default_rng(0)
    batches = [
        [rng.normal(0.2, 1, (4, 5, 5, 3)), np.abs(rng.normal(size=(4, 2, 2, 2)))]
        for _ in range(3)
    ]
    # Unequal shares of negatives tell a mean of all from a mean of batches' means.
    batches[0][0] -= 2
    batches[2][0][...] = 1
    teacher = Teacher(
        "wrn_10_1", {}, lambda: iter([outputs_of(*features) for features in batches])
    )
    first, second = overhaul.measured_margins(teacher)
    values = np.concatenate([features[0] for features in batches])
    expected = [values[..., c][values[..., c] < 0].mean() for c in range(3)]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_array_equal(second, np.zeros(2))


def test_measured_margins_approach_the_closed_form():
    """On responses that are normal, as the closed form assumes."""
    scale, bias = np.asarray([0.5, 1.5]), np.asarray([0.3, -0.4])
    rng = np.random.default_rng(1)
    feature = rng.normal(size=(64, 64, 64, 2)) * scale + bias
    teacher = Teacher("wrn_10_1", {}, lambda: iter([outputs_of(feature)]))
    (measured,) = overhaul.measured_margins(teacher)
    np.testing.assert_allclose(measured, overhaul.margins(scale, bias), rtol=0.02)


def test_margins_come_from_the_batch_norms_that_end_the_stages():
    def norm(width, bias):
        return {"scale": jnp.ones(width), "bias": jnp.full(width, bias)}

    variables = {
        "params": {
            "group2_block0": {"bn1": norm(16, -5.0)},
            "group3_block0": {"bn1": norm(32, 0.0)},
            "bn": norm(64, 0.0),
        }
    }
    teacher = Teacher("wrn_10_1", variables, lambda: iter(()))
    first, second, third = overhaul.Overhaul().precompute(teacher)["margins"]
    assert (first.shape, second.shape, third.shape) == ((16,), (32,), (64,))
    np.testing.assert_allclose(first, -5.0, rtol=1e-4)
    # An untrained batch norm: half normal.
    np.testing.assert_allclose(second, -np.sqrt(2 / np.pi), rtol=1e-6)
    assert first.dtype == np.float32


def test_connectors_map_to_the_teachers_widths():
    student = outputs_of(np.zeros((2, 4, 4, 3)), np.zeros((2, 2, 2, 5)))
    teacher = outputs_of(np.zeros((2, 4, 4, 7)), np.zeros((2, 2, 2, 5)))
    method = overhaul.Overhaul()
    variables = jax.jit(method.init)(jax.random.key(0), student, teacher)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "stage1_conv": {"kernel": (1, 1, 3, 7)},
        "stage1_bn": {"scale": (7,), "bias": (7,)},
        # Connected even though the widths agree.
        "stage2_conv": {"kernel": (1, 1, 5, 5)},
        "stage2_bn": {"scale": (5,), "bias": (5,)},
    }
    precomputed = {"margins": (np.full(7, -1.0), np.full(5, -1.0))}
    loss = jax.jit(lambda *given: method.loss(*given, None))
    terms, stats = loss(variables, precomputed, student, teacher)
    assert {name: term.shape for name, term in terms.items()} == {
        "stage_1": (2,),
        "stage_2": (2,),
    }
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])


@pytest.mark.parametrize(
    ("setting", "teacher", "student", "parameters"),
    [
        ("a", "wrn_28_4", "wrn_16_4", 86_912),
        ("b", "wrn_28_4", "wrn_28_2", 43_904),
        ("c", "wrn_28_4", "wrn_16_2", 43_904),
        ("d", "wrn_28_4", "resnet56", 22_400),
    ],
)
def test_connector_parameter_count_matches_authors(
    setting, teacher, student, parameters
):
    image = jnp.zeros((1, 32, 32, 3))

    def connectors(key):
        outputs = [
            Outputs(*network.init_with_output(key, image, train=False)[0])
            for network in (models.build(student, 100), models.build(teacher, 100))
        ]
        return overhaul.Overhaul().init(key, *outputs)["params"]

    shapes = jax.eval_shape(connectors, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_the_larger_map_is_averaged_down_to_the_smaller():
    """The student's before its connector, the teacher's before its margin ReLU."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(2, 4, 4, 3)), rng.normal(size=(2, 8, 8, 3))
    pooled = large.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    method = overhaul.Overhaul()
    precomputed = {"margins": (np.full(3, -0.5, np.float32),)}
    init = jax.jit(method.init)
    loss = jax.jit(
        lambda variables, *sides: method.loss(variables, precomputed, *sides, None)
    )
    for student, teacher, same in (
        (small, large, (small, pooled)),
        (large, small, (pooled, small)),
    ):
        found = []
        for sides in ((student, teacher), same):
            outputs = tuple(map(outputs_of, sides))
            variables = init(jax.random.key(0), *outputs)
            terms, _ = loss(variables, *outputs)
            found.append(terms["stage_1"])
        np.testing.assert_allclose(*found, rtol=1e-5)


def _at_mean_negatives(x):
    return np.maximum(x, [c[c < 0].mean() for c in x.reshape(-1, 3).T])


@pytest.mark.parametrize(
    ("settings_", "clip", "free"),
    [
        ({"margin": "zero"}, lambda pre: np.maximum(pre, 0), True),
        ({"margin": "none"}, lambda pre: pre, True),
        ({"margin": "none", "distance": "l2"}, lambda pre: pre, False),
        ({"margin": "measured", "distance": "l2"}, _at_mean_negatives, False),
        ({"position": "post"}, lambda pre: np.maximum(pre, 0), True),
    ],
)
def test_the_papers_comparisons_are_settings(settings_, clip, free):
    """By hand: what the teacher's map is clipped to, and where the student is free."""
    rng = np.random.default_rng(0)
    pre = [rng.normal(size=(2, 4, 4, 3)) for _ in range(2)]
    student, teacher = (
        Outputs(None, Features((x,), (jnp.maximum(x, 0),), (x,), jnp.zeros((2, 3))))
        for x in map(jnp.asarray, pre)
    )
    norm = {"scale": jnp.ones(3), "bias": jnp.zeros(3)}
    groups = {f"group{i}_block0": {"bn1": norm} for i in (2, 3)}
    view = Teacher(
        "wrn_10_1", {"params": groups | {"bn": norm}}, lambda: iter([teacher])
    )
    method = overhaul.Overhaul(**settings_)
    variables = method.init(jax.random.key(0), student, teacher)
    precomputed = {"margins": method.precompute(view)["margins"][:1]}
    terms, _ = method.loss(variables, precomputed, student, teacher, None)

    own = clip(pre[0]) if settings_.get("position") == "post" else pre[0]
    own = own @ np.asarray(variables["params"]["stage1_conv"]["kernel"])[0, 0]
    own = (own - own.mean((0, 1, 2))) / np.sqrt(own.var((0, 1, 2)) + 1e-5)
    square = (own - clip(pre[1])) ** 2
    if free:
        square[(own <= clip(pre[1])) & (clip(pre[1]) <= 0)] = 0
    np.testing.assert_allclose(terms["stage_1"], square.sum((1, 2, 3)), rtol=1e-4)


def test_rejects_another_number_of_stages():
    student, teacher = (
        outputs_of(np.zeros((2, 4, 4, 3))),
        outputs_of(*[np.zeros((2, 4, 4, 3))] * 2),
    )
    with pytest.raises(ValueError, match=r"overhaul .* student has 1, the teacher 2"):
        overhaul.Overhaul().init(jax.random.key(0), student, teacher)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"overhual": {}}, r"methods\.overhual is none of .*'overhaul'"),
        ({"overhaul": {"wieght": 1.0}}, r"methods\.overhaul\.wieght is none of"),
        ({"overhaul": {"margin": "guess"}}, r"methods\.overhaul\.margin='guess'"),
        ({"overhaul": {"distance": "l1"}}, r"methods\.overhaul\.distance='l1'"),
        ({"overhaul": {"position": "block"}}, r"methods\.overhaul\.position='block'"),
        (
            {"overhaul": {"batch_norm_axis": "x"}},
            r"methods\.overhaul\.batch_norm_axis is none of",
        ),
    ],
)
def test_rejects_invalid_settings(settings_, message):
    with pytest.raises(ValueError, match=message):
        build(settings_)


def test_hyperparameters_are_the_published_defaults():
    assert hyperparameters("overhaul") == {
        "weight": 1e-3,
        "warm_up": 0,
        "gradient_combination": "sum",
        "margin": "closed_form",
        "distance": "partial_l2",
        "position": "pre",
    }
    assert hyperparameters("overhaul", weight=1e-4)["weight"] == 1e-4


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_taxonomy_row_is_complete(name):
    assert all(METHODS[name].taxonomy)
