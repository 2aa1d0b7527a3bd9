import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, losses
from kdjax.distill import overhaul
from kdjax.distill.composed import Composed
from kdjax.distill.method import Outputs, Teacher
from kdjax.models import Features


def outputs_of(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    pre = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    post = tuple(jnp.maximum(x, 0) for x in pre)
    return Outputs(jnp.zeros((2, 3)), Features(post[0], post, pre, jnp.zeros((2, 4))))


def test_a_composition_of_its_parts_is_the_overhaul_method():
    """Bit for bit: position, transform, connectors, distance and weights."""
    student = outputs_of((2, 8, 8, 3), (2, 4, 4, 5), seed=1)
    teacher = outputs_of((2, 8, 8, 4), (2, 4, 4, 5), seed=2)
    view = Teacher("wrn_10_1", {}, lambda: iter([teacher]))
    answers = []
    for method in (
        overhaul.Overhaul(margin="measured"),
        Composed(
            position="pre",
            teacher_transform="margin_relu",
            connect="always",
            distance="partial_l2",
            stage_weights="halving",
        ),
    ):
        variables = method.init(jax.random.key(0), student, teacher)
        terms = method.loss(
            variables, method.precompute(view), student, teacher, inputs=None
        )
        answers.append((variables, terms))
    jax.tree.map(np.testing.assert_array_equal, *answers)


def test_stages_are_chosen_and_sizes_matched():
    student = outputs_of((2, 8, 8, 3), (2, 4, 4, 5), (2, 2, 2, 7), seed=1)
    teacher = outputs_of((2, 8, 8, 4), (2, 8, 8, 6), (2, 4, 4, 8), seed=2)
    shared = dict(teacher_transform="attention_map", student_transform="attention_map")
    method = Composed(stages="2,3", connect="never", **shared)
    assert method.init(jax.random.key(0), student, teacher) == {}
    terms, stats = method.loss({}, {}, student, teacher, None)
    assert stats == {}
    assert terms.keys() == {"stage_1", "stage_2"}
    both = (side.features.post[1] for side in (student, teacher))
    expected = losses.attention_transfer(*both)
    np.testing.assert_allclose(terms["stage_1"], expected, rtol=1e-6)


def test_a_method_may_be_used_twice_under_other_names():
    found = distill.build(
        {
            "low": {"method": "composed", "stages": "1"},
            "high": {"method": "composed", "stages": "last", "distance": "l1"},
        }
    )
    assert [method.stages for method in found.values()] == ["1", "last"]
    assert distill.hyperparameters("low", method="composed")["method"] == "composed"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"position": "mid"}, r"methods\.composed\.position='mid' is none of"),
        ({"distance": "l3"}, r"distance='l3' is none of"),
        ({"stages": "first"}, r"stages='first' is neither 'all', 'last' nor numbers"),
        ({"stages": "0"}, r"stages='0' is neither"),
        ({"student_transform": "margin_relu", "position": "pre"}, "for teachers alone"),
        ({"teacher_transform": "margin_relu"}, "needs position='pre', not 'block'"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Composed(**given)


def test_rejects_networks_that_do_not_fit():
    student, teacher = outputs_of((2, 4, 4, 3)), outputs_of((2, 4, 4, 5))
    with pytest.raises(
        ValueError, match=r"stage 1 has \(4, 4, 3\) .* connect='widths'"
    ):
        Composed(connect="never").init(jax.random.key(0), student, teacher)
    with pytest.raises(ValueError, match=r"stages='2', but the networks have 1 stages"):
        Composed(stages="2").init(jax.random.key(0), student, teacher)
    with pytest.raises(ValueError, match=r"composed needs as many stages"):
        Composed().init(jax.random.key(0), student, outputs_of(*[(2, 4, 4, 3)] * 2))


def test_sets_of_channels_may_differ_in_number():
    student, teacher = outputs_of((2, 4, 4, 3)), outputs_of((2, 4, 4, 5))
    units = dict(teacher_transform="channel_unit", student_transform="channel_unit")
    method = Composed(connect="never", distance="polynomial_mmd", **units)
    assert method.init(jax.random.key(0), student, teacher) == {}
    terms, _ = method.loss({}, {}, student, teacher, None)
    both = (side.features.post[0] for side in (student, teacher))
    np.testing.assert_allclose(terms["stage_1"], losses.nst(*both), rtol=1e-6)
