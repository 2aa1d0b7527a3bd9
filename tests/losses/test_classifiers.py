"""CAT-KD and SDD, losses that read classifiers, and CTKD's temperature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, feature_maps, released

BATCH, CLASSES = len(released.LABEL), released.CLASSES


def maps_and_kernels(student, teacher):
    """Returns maps of two sizes with 5 and 6 channels, and kernels for both."""
    return {
        "student": released.drawn("student map", BATCH, *student, 5),
        "teacher": released.drawn("teacher map", BATCH, *teacher, 6),
        "student_kernel": released.drawn("student kernel", 5, CLASSES),
        "teacher_kernel": released.drawn("teacher kernel", 6, CLASSES),
    }


@pytest.mark.parametrize("normalize", [False, True])
def test_class_attention_matches_the_authors(normalize):
    released.assert_matches(
        "cat_kd/normalized" if normalize else "cat_kd",
        functools.partial(losses.class_attention, normalize=normalize),
        maps_and_kernels((4, 6), (6, 4)),
        names={"student": "student map", "student_kernel": "student kernel"},
    )


def test_maps_smaller_than_the_resolution_set_it():
    given = maps_and_kernels((2, 2), (4, 4))
    np.testing.assert_array_equal(
        losses.class_attention(**given, resolution=4),
        losses.class_attention(**given, resolution=2),
    )


def test_degenerate_class_attention():
    given = maps_and_kernels((4, 4), (4, 4))
    given["teacher"] = given["teacher"][..., :5]
    given["teacher_kernel"] = given["teacher_kernel"][:5]
    student, teacher, *kernels = map(jnp.float32, given.values())

    def loss(student, teacher):
        return losses.class_attention(
            student,
            teacher,
            student_kernel=kernels[0],
            teacher_kernel=kernels[1],
            normalize=True,
        )

    feature_maps.assert_robust_to_degenerate_inputs(loss, student, teacher)
    with pytest.raises(ValueError, match="class_attention: student"):
        loss(student[:2], teacher)


def sdd(loss, levels):
    """Returns the mean over regions of a loss of logits, weighted."""

    def mean(student, teacher, student_kernel, teacher_kernel, bias, teacher_bias):
        regions = [
            losses.region_logits(*given, levels=levels)
            for given in (
                (student, student_kernel, bias),
                (teacher, teacher_kernel, teacher_bias),
            )
        ]
        weights = losses.complementary_weight(regions[1], released.LABEL)
        label = np.repeat(released.LABEL, weights.shape[1])
        flat = (x.reshape(-1, CLASSES) for x in regions)
        found = loss(*flat, **({"label": label} if loss.func is losses.dkd else {}))
        return jnp.mean(weights * found.reshape(weights.shape), axis=1)

    return mean


@pytest.mark.parametrize("levels", [(1, 2), (1, 2, 4)])
@pytest.mark.parametrize("base", ["kd", "dkd"])
def test_regions_match_the_authors(base, levels):
    settings = {"temperature": 2.9}
    if base == "dkd":
        settings |= {"alpha": 0.7, "beta": 3.3}
    entry = f"sdd_{base}/{list(levels)}".replace(" ", "")
    loss = functools.partial(getattr(losses, base), **settings)
    given = maps_and_kernels((8, 8), (12, 4)) | {
        "bias": released.drawn("student bias", CLASSES),
        "teacher_bias": released.drawn("teacher bias", CLASSES),
    }
    names = ("student map", "student kernel", "student bias")
    released.assert_matches(
        entry,
        sdd(loss, levels),
        given,
        names=dict(zip(("student", "student_kernel", "bias"), names, strict=True)),
    )


def test_regions_that_disagree_with_the_whole_map_weigh_double():
    right, wrong = np.eye(3)[0], np.eye(3)[1]
    logits = np.stack([[right, right, wrong], [wrong, right, wrong]])
    found = losses.complementary_weight(logits, np.asarray([0, 0]))
    np.testing.assert_array_equal(found, [[1, 1, 2], [1, 2, 1]])


def test_levels_finer_than_a_map_are_its_positions():
    x, kernel = released.drawn("map", 2, 2, 2, 3), np.eye(3)
    found = losses.region_logits(x, kernel, np.zeros(3), levels=(1, 4))
    wanted = np.concatenate([x.mean(axis=(1, 2))[:, None], x.reshape(2, 4, 3)], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_learned_temperature_matches_the_authors():
    def loss(student_logits, teacher_logits, theta):
        return losses.ctkd(student_logits, teacher_logits, theta=theta[0], factor=-0.37)

    released.assert_matches(
        "ctkd",
        loss,
        released.logits() | {"theta": np.ones(1)},
        names={"student_logits": "student", "theta": "theta"},
    )


def test_the_curriculum_is_a_cosine_from_the_first_epoch():
    """As the original counts epochs from 1."""
    found = [losses.curriculum(epoch, length=10) for epoch in (0, 4, 9, 200)]
    first = (np.cos(np.pi / 10) - 1) / 2
    np.testing.assert_allclose(found, [first, -0.5, -1, -1], rtol=1e-5)


def test_degenerate_ctkd():
    loss = functools.partial(losses.ctkd, theta=jnp.ones(()))
    batches.assert_finite_logits(loss)
    student, teacher = batches.logits()
    for theta in (-1e4, 1e4):
        gradient = jax.grad(
            lambda theta: losses.ctkd(student, teacher, theta=theta).sum()
        )(theta)
        assert np.isfinite(gradient)
