"""CAT-KD and SDD, which read classifiers, CTKD, which learns, and the decay of WKD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, losses
from kdjax.distill.decay import cosine_decay
from kdjax.distill.method import Classifier, Inputs, Outputs
from kdjax.models import Features
from tests.losses import released

LABEL = jnp.asarray(released.LABEL)
INPUTS = Inputs(None, LABEL, None, None)


def outputs(side, width, size=4):
    """Returns drawn answers of a network that ends in a classifier."""
    last = jnp.asarray(released.drawn(f"{side} map", len(LABEL), size, size, width))
    kernel = jnp.asarray(released.drawn(f"{side} kernel", width, released.CLASSES))
    classifier = Classifier(kernel, jnp.zeros(released.CLASSES))
    pooled = last.mean(axis=(1, 2))
    features = Features(last, (last,), (last,), pooled)
    return Outputs(pooled @ kernel, features, classifier=classifier)


STUDENT, TEACHER = outputs("student", 5), outputs("teacher", 6)


def built(name, **settings):
    (method,) = distill.build({name: settings}, num_classes=released.CLASSES).values()
    return method


def terms_of(method, variables=None, precomputed=None, inputs=INPUTS):
    terms, _ = method.loss(variables or {}, precomputed or {}, STUDENT, TEACHER, inputs)
    return terms


def test_class_attention_is_of_both_networks_maps():
    terms = terms_of(built("cat_kd", resolution=4, normalize=True))
    wanted = losses.class_attention(
        STUDENT.features.last,
        TEACHER.features.last,
        student_kernel=STUDENT.classifier.kernel,
        teacher_kernel=TEACHER.classifier.kernel,
        resolution=4,
        normalize=True,
    )
    np.testing.assert_array_equal(terms["attention"], wanted)


@pytest.mark.parametrize("standardize", [False, True])
def test_one_region_is_the_base_itself(standardize):
    """By the logits of the networks, whose biases are 0."""
    settings = {"temperature": 3.0, "standardize": standardize}
    for base, more in (("kd", {}), ("dkd", {"alpha": 2.0, "beta": 3.0})):
        plain = terms_of(built(base, **settings, **more))
        found = terms_of(built("sdd", base=base, levels=(1,), **settings, **more))
        np.testing.assert_allclose(found["regions"], sum(plain.values()), rtol=1e-4)


def test_regions_that_disagree_get_their_weight():
    """Without weight for them, those that agree are left; entropies weigh the rest."""
    kept, plain, double = (
        terms_of(built("sdd", complementary=x))["regions"] for x in (0.0, 1.0, 2.0)
    )
    assert np.all(kept <= plain)
    assert np.any(kept < plain)
    np.testing.assert_allclose(double - plain, plain - kept, rtol=1e-3, atol=1e-4)
    weighed = terms_of(built("sdd", complementary=1.0, example_weight="entropy"))
    weight = losses.entropy_weight(STUDENT.logits, TEACHER.logits)
    np.testing.assert_allclose(weighed["regions"], weight * plain, rtol=1e-5)


def test_the_temperature_learns_against_the_student():
    """Its gradient is that of KD, reversed, and more so with the epochs."""
    method = built("ctkd", curriculum=4)
    variables = method.init(jax.random.key(0), STUDENT, TEACHER)

    @jax.jit
    @jax.value_and_grad
    def total(params, epoch):
        inputs = INPUTS._replace(epoch=epoch)
        return jnp.sum(
            terms_of(method, {"params": params}, inputs=inputs)["divergence"]
        )

    @jax.jit
    @jax.value_and_grad
    def plain(theta):
        temperature = 1 + 20 * jax.nn.sigmoid(theta)
        kd = losses.kd(STUDENT.logits, TEACHER.logits, temperature=temperature)
        return jnp.sum(kd)

    value, gradient = plain(1.0)
    for epoch, factor in ((0, (np.cos(np.pi / 4) - 1) / 2), (3, -1), (100, -1)):
        found, gradients = total(variables["params"], epoch)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        np.testing.assert_allclose(gradients["theta"], factor * gradient, rtol=1e-4)


def test_the_transport_and_the_moments_fall_by_a_cosine():
    found = [cosine_decay(x, 0.6) for x in (0.0, 0.6, 0.8, 1.0)]
    np.testing.assert_allclose(found, [1, 1, 0.5, 0], atol=1e-6)
    assert cosine_decay(0.999, 1.0) == 1
    late = INPUTS._replace(progress=0.8)
    cost = {"cost": np.eye(released.CLASSES, dtype=np.float32)}
    method = built("wkd_logits", decay_from=0.6)
    first, half = (terms_of(method, {}, cost, x) for x in (INPUTS, late))
    np.testing.assert_allclose(half["transport"], first["transport"] / 2, rtol=1e-5)
    np.testing.assert_array_equal(half["target_class"], first["target_class"])
    method = built("wkd_features", decay_from=0.6)
    variables = method.init(jax.random.key(0), STUDENT, TEACHER)
    first, half = (terms_of(method, variables, {}, x) for x in (INPUTS, late))
    np.testing.assert_allclose(half["distance"], first["distance"] / 2, rtol=1e-5)


def test_classifiers_that_read_more_than_the_last_map_are_rejected():
    small = outputs("student", 3)
    other = small._replace(classifier=STUDENT.classifier)
    for name in ("cat_kd", "sdd"):
        with pytest.raises(ValueError, match=f"{name} .* reads 5 features, and .* 3"):
            built(name).init(jax.random.key(0), other, TEACHER)
        assert built(name).init(jax.random.key(0), small, TEACHER) == {}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("sdd", {"base": "nkd"}, r"sdd\.base='nkd' is none of"),
        ("sdd", {"levels": (2, 4)}, r"sdd\.levels=\(2, 4\) does not start with 1"),
        ("sdd", {"levels": (1, 3)}, r"sdd\.levels=\(1, 3\) .* other than 1, 2 and 4"),
        ("ctkd", {"curriculum": 0}, r"ctkd\.curriculum=0 is less than 1"),
        ("ctkd", {"span": 0.0}, r"ctkd\.span=0\.0 is not above 0"),
    ],
)
def test_rejects_invalid_settings(name, given, message):
    with pytest.raises(ValueError, match=message):
        built(name, **given)
