"""SimKD's student and loss against the released code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from kdjax import distill
from kdjax.distill.method import Classifier, Inputs, Outputs
from kdjax.models import Features
from tests.losses import released

#: By the entry in the golden file: the student's map, the teacher's, and the factor.
CASES = {
    "simkd/larger": ((4, 4, 5), (3, 3, 6), 2),
    "simkd/smaller": ((3, 3, 5), (4, 4, 6), 2),
    "simkd/factor 3": ((4, 4, 5), (4, 4, 6), 3),
}

#: Modules of the released projector, whose ReLUs count too.
MODULES = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
AXES = {4: (3, 2, 0, 1), 1: (0,)}


class Map(nn.Module):
    """A network whose last map is the image."""

    @nn.compact
    def __call__(self, image, train):
        pooled = image.mean((1, 2))
        logits = nn.Dense(11, name="classifier")(pooled)
        return logits, Features(image, (image,), (image,), pooled)


def outputs_of(features):
    return Outputs(None, Features(features, (features,), (features,), None))


def released_name(path):
    leaf = "bias" if path[-1] == "bias" else "weight"
    return f"simkd.transfer.{MODULES[path[1]]}.{leaf}"


def drawn(path, leaf):
    """Draws a parameter as the release did, in kdjax's layout."""
    if path[0] == "classifier":
        kind = f"teacher {path[1]}"
        return jnp.asarray(released.drawn(kind, *leaf.shape))
    axes = AXES[leaf.ndim]
    array = released.drawn(released_name(path), *(leaf.shape[axis] for axis in axes))
    return jnp.asarray(array.transpose(np.argsort(axes)))


@pytest.mark.parametrize("entry", CASES)
def test_value_gradients_and_predictions_match_the_release(entry):
    """By the student's map and by every parameter; predictions after the training."""
    student_shape, teacher_shape, factor = CASES[entry]
    (method,) = distill.build({"simkd": {"factor": factor}}, dtype="float64").values()
    with jax.enable_x64(True):
        student = jnp.asarray(released.drawn("student map", 7, *student_shape))
        teacher = jnp.abs(jnp.asarray(released.drawn("teacher map", 7, *teacher_shape)))
        kernels = (Classifier(jnp.zeros((x, released.CLASSES)), None) for x in (5, 6))
        network = method.with_head(
            Map(),
            *(
                outputs_of(x)._replace(classifier=c)
                for x, c in zip((student, teacher), kernels, strict=True)
            ),
        )
        made = jax.eval_shape(
            lambda x: network.init(jax.random.key(0), x, train=False), student
        )
        params = traverse_util.path_aware_map(drawn, dict(made["params"]))
        stats = traverse_util.path_aware_map(
            lambda path, x: jnp.full(x.shape, float(path[-1] == "var")),
            dict(made["batch_stats"]),
        )

        @jax.jit
        @jax.value_and_grad
        def loss(given):
            variables = {"params": given["params"], "batch_stats": stats}
            (logits, features), _ = network.apply(
                variables, given["student"], train=True, mutable=["batch_stats"]
            )
            terms, _ = method.loss(
                {},
                {},
                Outputs(logits, features),
                outputs_of(teacher),
                Inputs(*[None] * 4),
            )
            return jnp.mean(terms["map"])

        @jax.jit
        @jax.value_and_grad
        def predict(student):
            variables = {"params": params, "batch_stats": stats}
            logits, _ = network.apply(variables, student, train=False)
            weights = released.drawn("logit weights", 7, released.CLASSES)
            return jnp.mean(jnp.sum(logits * weights, -1))

        value, gradients = jax.device_get(loss({"params": params, "student": student}))
        predicted, by_map = jax.device_get(predict(student))
    found = {"student map": gradients["student"]}
    for path, leaf in traverse_util.flatten_dict(gradients["params"]).items():
        if path[0] == "projector":
            found[released_name(path)] = leaf.transpose(AXES[leaf.ndim])
    assert found.keys() == released.values()[entry]["gradient"].keys()
    released.assert_close(entry, value, found)
    released.assert_close(f"{entry}/logits", predicted, {"student map": by_map})
