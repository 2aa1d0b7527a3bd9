"""The losses of OFD against the authors' code and against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads

from kdjax import losses

CASES = ["case0", "case1", "case2", "case3", "boundary"]


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("case", CASES)
def test_partial_l2_and_its_gradient_match_authors(golden, case):
    arrays = golden("partial_l2", f"{case}/")
    with jax.enable_x64(True):
        student, teacher = (
            jnp.asarray(nhwc(arrays[name])) for name in ("student", "teacher")
        )
        target = losses.margin_relu(teacher, jnp.asarray(arrays["margin"]))
        np.testing.assert_array_equal(target, nhwc(arrays["target"]))
        value, gradient = jax.value_and_grad(
            lambda s: jnp.sum(losses.partial_l2(s, target))
        )(student)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, arrays["loss"], rtol=1e-12)
    np.testing.assert_allclose(gradient, nhwc(arrays["grad_student"]), rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_partial_l2_in_float32(golden, case):
    arrays = golden("partial_l2", f"{case}/")
    student, target = (
        jnp.asarray(nhwc(arrays[name]), jnp.float32) for name in ("student", "target")
    )
    value = jnp.sum(losses.partial_l2(student, target))
    np.testing.assert_allclose(value, arrays["loss"], rtol=5e-6)


def test_partial_l2_gives_one_value_an_example():
    student = jnp.arange(24.0).reshape(2, 2, 2, 3)
    values = losses.partial_l2(student, jnp.ones_like(student))
    assert values.shape == (2,)
    expected = [np.sum((np.arange(12.0) - 1) ** 2), np.sum(np.arange(11.0, 23.0) ** 2)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


FINITE = st.floats(-1e3, 1e3, width=32)
FEATURES = hnp.arrays(np.float32, (2, 3, 3, 4), elements=FINITE)


@settings(deadline=None, max_examples=50)
@given(FEATURES, FEATURES)
def test_partial_l2_is_zero_where_both_are_inactive(a, b):
    student = -np.abs(np.minimum(a, b)) - np.abs(np.maximum(a, b))
    teacher = np.minimum(student * 0.5, 0)
    assert not np.any(losses.partial_l2(jnp.asarray(student), jnp.asarray(teacher)))


@settings(deadline=None, max_examples=50)
@given(FEATURES, FEATURES)
def test_partial_l2_is_l2_where_the_teacher_responds(student, teacher):
    teacher = np.abs(teacher) + np.float32(1e-3)
    np.testing.assert_allclose(
        losses.partial_l2(jnp.asarray(student), jnp.asarray(teacher)),
        np.sum(np.square(student - teacher), axis=(1, 2, 3), dtype=np.float64),
        rtol=1e-5,
    )


def test_partial_l2_jumps_only_where_the_teacher_crosses_zero():
    """Along the student the value is continuous; along the teacher it jumps at 0."""
    step = 1e-6
    with jax.enable_x64(True):

        def value(student, teacher):
            student, teacher = (jnp.full((1, 1), x) for x in (student, teacher))
            return float(losses.partial_l2(student, teacher)[0])

        for teacher in (-0.7, 0.0, 0.4):
            for student in np.linspace(-1, 1, 41):
                jump = value(student + step, teacher) - value(student, teacher)
                assert abs(jump) < 10 * step
        for student in (-0.8, -0.1, 0.3):
            for teacher in np.linspace(-0.99, 1.01, 41):
                jump = value(student, teacher + step) - value(student, teacher)
                assert abs(jump) < 10 * step
        assert value(-0.5, 0.0) == 0
        np.testing.assert_allclose(value(-0.5, step), 0.25, rtol=1e-5)


def test_partial_l2_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0))
        student, teacher = (jax.random.normal(k, (2, 3, 3, 2)) for k in keys)
        check_grads(losses.partial_l2, (student, teacher), order=1, modes=["rev"])


def test_partial_l2_of_bfloat16_is_summed_in_float32():
    student = jnp.full((1, 64, 64, 16), 1.0, jnp.bfloat16)
    value = losses.partial_l2(student, jnp.full_like(student, 2.0))
    assert value.dtype == jnp.float32
    assert float(value[0]) == 64 * 64 * 16


def test_partial_l2_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"student \(1, 2\) and teacher \(1, 3\)"):
        losses.partial_l2(jnp.zeros((1, 2)), jnp.zeros((1, 3)))


def test_margin_relu_clips_every_channel_at_its_own_margin():
    x = jnp.asarray([[-2.0, -2.0], [-0.1, -0.1], [3.0, 3.0]]).reshape(1, 3, 1, 2)
    clipped = losses.margin_relu(x, jnp.asarray([-1.0, -0.05]))
    expected = [[-1.0, -0.05], [-0.1, -0.05], [3.0, 3.0]]
    np.testing.assert_allclose(clipped.reshape(3, 2), expected, rtol=1e-6)


def test_margin_relu_keeps_the_dtype():
    x = jnp.zeros((1, 1, 1, 2), jnp.bfloat16)
    assert losses.margin_relu(x, jnp.zeros(2, jnp.float32)).dtype == jnp.bfloat16


def test_margin_relu_rejects_another_number_of_margins():
    with pytest.raises(ValueError, match=r"margins \(1,\) for features \(1, 2, 2, 3\)"):
        losses.margin_relu(jnp.zeros((1, 2, 2, 3)), jnp.zeros(1))


@pytest.mark.parametrize("group", ["random0", "random1", "edge"])
def test_margins_match_authors(golden, group):
    arrays = golden("margins", f"{group}/")
    found = losses.margins(arrays["gamma"], arrays["beta"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, arrays["margin_f64"], rtol=1e-12)
    np.testing.assert_allclose(found, arrays["margin_f32"], rtol=1e-6)


@pytest.mark.parametrize("group", ["random0", "random1", "edge"])
def test_margins_are_truncated_means_except_the_fallback(golden, group):
    arrays = golden("margins", f"{group}/")
    found = losses.margins(arrays["gamma"], arrays["beta"])
    usual = ~arrays["fallback"]
    np.testing.assert_allclose(
        found[usual], arrays["truncated_mean_f64"][usual], rtol=1e-9
    )
    np.testing.assert_array_equal(
        found[~usual], -3 * np.abs(arrays["gamma"][~usual].astype(np.float64))
    )


def test_margin_agrees_with_a_sampled_mean():
    samples = np.random.default_rng(0).normal(0.4, 0.7, 2_000_000)
    sampled = samples[samples < 0].mean()
    found = losses.margins(np.asarray([-0.7]), np.asarray([0.4]))
    np.testing.assert_allclose(found, sampled, rtol=3e-3)


# Parameters are float32; the smallest are subnormal there and normal in float64.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=300)
@given(NUMBERS.filter(bool), NUMBERS)
@example(1e-45, -1.0)
@example(1e-45, 1e-45)
@example(1.0, 3.0902)
@example(-1e-38, 1e38)
def test_margin_is_negative_for_every_batch_norm(scale, bias):
    margin = losses.margins(np.asarray([scale]), np.asarray([bias]))
    assert np.isfinite(margin)
    assert margin < 0


@pytest.mark.parametrize(("bias", "expected"), [(-0.3, -0.3), (0.0, 0.0), (2.0, 0.0)])
def test_margin_of_a_constant_channel_is_the_limit(bias, expected):
    margin = losses.margins(np.zeros(1), np.asarray([bias]))
    np.testing.assert_array_equal(margin, [expected])
    nearby = losses.margins(np.asarray([1e-12]), np.asarray([bias]))
    np.testing.assert_allclose(nearby, margin, atol=1e-11)
