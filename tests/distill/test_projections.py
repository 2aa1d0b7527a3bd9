"""Methods with a projection of the student's features, together with it."""

import types
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from kdjax import distill
from kdjax.distill.method import Classifier, Inputs, Outputs
from kdjax.models import Features
from tests.distill import relations
from tests.losses import released

BATCH = len(released.LABEL)
INPUTS = Inputs(None, None, None, None)


class Case(NamedTuple):
    """A released function.

    Attributes:
      method: its name, in kdjax and before the names of its parameters.
      term: of the method; "" for the sum of all.
      student: shape of what it compares, without the batch.
      teacher: the same of the teacher.
      modules: names of the release's modules, by those of kdjax.
      settings: of the method.
    """

    method: str
    term: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    modules: dict[str, str]
    settings: Mapping[str, float] = types.MappingProxyType({})


ITRD = {"order": 1.3, "correlation_weight": 1.0, "mutual_weight": 1.0}
LINEAR = {"linear1": "linear"}

#: By the name of their entry in the golden file.
CASES = {
    "ickd": Case(
        "ickd",
        "correlation",
        (4, 3, 5),
        (3, 3, 6),
        {"stage1_conv": "conv2d", "stage1_bn": "l2norm"},
    ),
    "itrd/correlation": Case("itrd", "correlation", (5,), (6,), LINEAR, ITRD),
    "itrd/mutual": Case("itrd", "mutual", (5,), (6,), LINEAR, ITRD),
    "itrd/equal widths/correlation": Case(
        "itrd", "correlation", (6,), (6,), LINEAR, ITRD
    ),
    "itrd/equal widths/mutual": Case("itrd", "mutual", (6,), (6,), LINEAR, ITRD),
    "srd": Case("srd", "distance", (5,), (6,), {"linear1": ""}),
    "pefd": Case(
        "pefd", "cosine", (5,), (6,), {f"linear{i}": str(i) for i in (1, 2, 3)}
    ),
    "wkd_f": Case(
        "wkd_features",
        "distance",
        (4, 4, 5),
        (4, 4, 6),
        {"stage1_conv": "conv", "stage1_bn": "bn"},
    ),
    "srrl": Case(
        "srrl",
        "",
        (4, 3, 5),
        (3, 3, 6),
        {"stage1_conv": "Connectors.0", "stage1_bn": "Connectors.1"},
    ),
}

#: From Flax's axes to PyTorch's.
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def outputs_of(features):
    """Returns outputs with pooled features, or with a last map."""
    if features.ndim == 2:
        return relations.outputs_of(features)
    pooled = features.mean(axis=(1, 2))
    found = Features(features, (features,), (features,), pooled)
    width = features.shape[-1]
    classifier = Classifier(
        jnp.asarray(released.drawn("teacher kernel", width, released.CLASSES)),
        jnp.asarray(released.drawn("teacher bias", released.CLASSES)),
    )
    logits = pooled @ classifier.kernel + classifier.bias[None]
    return Outputs(logits, found, classifier=classifier)


def released_name(entry, path):
    module, leaf = path
    prefix = entry.partition("/")[0]
    leaf = "bias" if leaf == "bias" else "weight"
    parts = (prefix, CASES[entry].modules[module], leaf)
    return ".".join(part for part in parts if part)


@pytest.mark.parametrize("entry", CASES)
def test_value_and_gradients_match_the_release(entry):
    """By the student's features and by every parameter of the projection."""
    case = CASES[entry]
    kind = "pooled" if len(case.student) == 1 else "map"
    features = [
        released.drawn(f"{side} {kind}", BATCH, *shape)
        for side, shape in (("student", case.student), ("teacher", case.teacher))
    ]
    (method,) = distill.build(
        {case.method: case.settings}, dtype="float64", num_classes=3
    ).values()

    @jax.jit
    @jax.value_and_grad
    def run(given, teacher, stats):
        variables = {"params": given["params"], "batch_stats": stats}
        terms, _ = method.loss(
            variables, {}, outputs_of(given["student"]), outputs_of(teacher), INPUTS
        )
        return jnp.mean(terms[case.term] if case.term else sum(terms.values()))

    with jax.enable_x64(True):
        student, teacher = map(jnp.asarray, features)
        made = jax.eval_shape(
            method.init, jax.random.key(0), outputs_of(student), outputs_of(teacher)
        )
        params = traverse_util.unflatten_dict(
            {
                path: jnp.asarray(drawn(entry, path, leaf.shape))
                for path, leaf in traverse_util.flatten_dict(made["params"]).items()
            }
        )
        stats = jax.tree.map(lambda x: jnp.zeros(x.shape), made.get("batch_stats", {}))
        value, gradients = jax.device_get(
            run({"student": student, "params": params}, teacher, stats)
        )
    found = {f"student {kind}": gradients["student"]}
    for path, leaf in traverse_util.flatten_dict(gradients["params"]).items():
        found[released_name(entry, path)] = leaf.transpose(AXES[leaf.ndim])
    wanted = dict(released.values()[entry]["gradient"])
    # Before a batch norm, which takes it away; kdjax has none.
    norm, _ = wanted.pop("wkd_f.conv.bias", (0, 0))
    assert norm < 1e-14
    # What the release does not reach gets no gradient here either.
    for name in found.keys() - wanted.keys():
        assert not np.any(found.pop(name)), name
    released.assert_close(entry, value, found)


def drawn(entry, path, shape):
    """Draws a parameter as the release did, in kdjax's layout."""
    axes = AXES[len(shape)]
    array = released.drawn(released_name(entry, path), *(shape[axis] for axis in axes))
    return array.transpose(np.argsort(axes))


@pytest.mark.parametrize("name", ["itrd", "srd"])
def test_scope_is_the_entire_batch(name):
    (method,) = distill.build({name: {}}, dtype="float64", num_classes=3).values()
    relations.assert_four_devices_match_one(method)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("itrd", {"order": 0.4}, r"itrd\.order=0\.4 is not from 0\.5"),
        ("itrd", {"mutual_weight": -1.0}, r"itrd\.mutual_weight=-1\.0 is negative"),
        ("srd", {"scope": "host"}, r"srd\.scope='host' is none of"),
        ("ickd", {"position": "top"}, r"ickd\.position='top' is none of"),
        ("wkd_features", {"grid": 0}, r"wkd_features\.grid=0 is less than 1"),
        ("srrl", {"logit_weight": -1.0}, r"srrl\.logit_weight=-1\.0 is negative"),
        ("cat_kd", {"resolution": 0}, r"cat_kd\.resolution=0 is less than 1"),
    ],
)
def test_rejects_invalid_settings(name, given, message):
    with pytest.raises(ValueError, match=message):
        distill.build({name: given}, num_classes=3)
