"""What all methods of logits have in common, and the formulas of those that read no
more: each is the loss of the same name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Teacher
from kdjax.models import Features
from tests.distill.logits import LABEL, terms_of
from tests.losses import batches, released

COST = 1 - np.eye(100, dtype=np.float32)

#: By the name of the method: settings, and the loss that they make.
LOSSES = {
    "kd": ({"temperature": 3.0}, losses.kd),
    "dkd": ({"alpha": 2.0, "beta": 3.0, "temperature": 5.0}, losses.dkd),
    "deepkd": (
        {"temperature": 3.0},
        lambda *given, **settings: sum(
            losses.deepkd_terms(*given, **settings).values()
        ),
    ),
    "dist": ({"beta": 3.0, "gamma": 5.0, "temperature": 2.0}, losses.dist),
    "mlkd": ({"temperatures": (2.0, 5.0)}, losses.mlkd),
    "nkd": ({"gamma": 2.0, "temperature": 3.0}, losses.nkd),
    "rld": (
        {"alpha": 2.0, "beta": 3.0, "temperature": 5.0, "confidence_temperature": 2.0},
        losses.rld,
    ),
    "ttm": ({"exponent": 0.3}, losses.ttm),
    "wkd_logits": ({"gamma": 5.0, "temperature": 2.0}, losses.wkd_logits),
    "wsld": ({"temperature": 3.0}, losses.wsld),
    "wttm": ({"exponent": 0.3}, losses.wttm),
}

METHODS = sorted(LOSSES)


def test_no_method_of_logits_is_left_out():
    """Those of tests/distill/test_classifiers.py read or learn more than logits, and
    that of test_deit.py reads other logits.
    """
    found = {
        n for n, method in distill.METHODS.items() if issubclass(method, LogitMethod)
    }
    # CRLD compares two views: tests/test_second_view.py.
    assert found == {*METHODS, "crld", "ctkd", "deit", "sdd"}


def built(name, **settings):
    (method,) = distill.build({name: settings}, num_classes=100).values()
    return method


def precomputed(name):
    return {"cost": COST} if name == "wkd_logits" else {}


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_terms_are_the_loss(name, standardize):
    settings, loss = LOSSES[name]
    method = built(name, **settings, standardize=standardize)
    given = dict(precomputed(name), **settings)
    if method.needs_label:
        given["label"] = LABEL
    logits = batches.logits()
    if standardize:
        logits = map(losses.standardize_logits, logits)
    terms = terms_of(method, precomputed=precomputed(name))
    np.testing.assert_allclose(
        sum(terms.values()), loss(*logits, **given), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", METHODS)
def test_examples_are_weighed_by_entropy(name):
    """But for terms that relate them; by the logits as they are."""
    settings = dict(LOSSES[name][0], standardize=True)
    plain, weighted = (
        terms_of(built(name, **settings, **given), precomputed=precomputed(name))
        for given in ({}, {"example_weight": "entropy", "entropy_temperature": 2.0})
    )
    assert plain.keys() == weighted.keys()
    weight = losses.entropy_weight(*batches.logits(), temperature=2.0)
    assert np.ptp(weight) > 0.1
    relational = distill.METHODS[name].relational_terms
    for term, value in plain.items():
        factor = 1 if term in relational else weight
        np.testing.assert_allclose(weighted[term], factor * value, rtol=1e-6)
    assert set(relational) < set(plain)


@pytest.mark.parametrize(
    ("name", "entry", "settings"),
    [
        ("dkd", "ls_dkd", {"alpha": 0.7, "beta": 3.3, "temperature": 2.9}),
        (
            "rld",
            "rld/standardized",
            {
                **{"alpha": 0.7, "beta": 3.3, "temperature": 2.9},
                "confidence_temperature": 1.3,
            },
        ),
    ],
)
def test_standardized_as_in_the_release(name, entry, settings):
    """But for the 1e-7 that it adds to the deviation."""
    method = built(name, **settings, standardize=True)
    inputs = Inputs(None, jnp.asarray(released.LABEL), None, None)

    def loss(student_logits, teacher_logits):
        outputs = (Outputs(x, None) for x in (student_logits, teacher_logits))
        return sum(method.loss({}, {}, *outputs, inputs)[0].values())

    released.assert_matches(entry, loss, released.logits(), rtol=1e-6)


def test_costs_of_wkd_are_made_of_the_teachers_answers():
    """In batches; labels of images that were not looked at are left out."""
    features, label = released.drawn("features", 6, 4), np.asarray([0, 1, 0, 1, 1, 0])

    def answers():
        for start in (0, 3):
            x = jnp.asarray(features[start : start + 3])
            yield distill.Outputs(2 * x, Features(None, (x,), (x,), x))

    teacher = Teacher("any", {}, answers, label=lambda: np.append(label, [0, 1, 2]))
    (method,) = distill.build({"wkd_logits": {}}, num_classes=3).values()
    found = method.precompute(teacher)["cost"]
    wanted = losses.class_costs(features, label, num_classes=3)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("name", METHODS)
def test_too_few_classes_are_rejected(name):
    """One class has no other, and for two a part of DKD is always zero."""
    method = built(name)
    least = method.least_classes
    assert least == {"dkd": 3}.get(name, 2 if method.needs_label else 1)
    for classes in range(1, 4):
        outputs = Outputs(jnp.zeros((4, classes)), None)
        if classes >= least:
            assert method.init(jax.random.key(0), outputs, outputs) == {}
            continue
        message = rf"methods\.{name} needs {least} classes or more, not {classes}"
        with pytest.raises(ValueError, match=message):
            method.init(jax.random.key(0), outputs, outputs)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kd", {"example_weight": "x"}, r"kd\.example_weight='x' is none of"),
        ("kd", {"entropy_temperature": 0.0}, r"kd\.entropy_temperature=0\.0 is not"),
        ("dkd", {"temperature": 0.0}, r"dkd\.temperature=0\.0 is not above 0"),
        ("ttm", {"exponent": 0.0}, r"ttm\.exponent=0\.0 is not above 0"),
        ("nkd", {"temperature": 0.0}, r"nkd\.temperature=0\.0 is not above 0"),
        ("wsld", {"temperature": -1.0}, r"wsld\.temperature=-1\.0 is not above 0"),
        ("rld", {"confidence_temperature": 0.0}, r"confidence_temperature=0\.0 is"),
        ("rld", {"beta": -1.0}, r"rld\.beta=-1\.0 is negative"),
        ("wkd_logits", {"cost": "x"}, r"wkd_logits\.cost='x' is none of"),
        ("wkd_logits", {"iterations": 0}, r"wkd_logits\.iterations=0 is less than 1"),
        ("wkd_logits", {"regularization": 0.0}, r"regularization=0\.0 is not above"),
    ],
)
def test_rejects_invalid_settings(name, given, message):
    with pytest.raises(ValueError, match=message):
        built(name, **given)
