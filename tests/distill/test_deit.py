"""DeiT: what each of the two classifiers of a student learns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, losses, method_recipes, objective
from kdjax.config import checks
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.method import Inputs, Outputs
from kdjax.models import Features
from tests.losses import released

#: Settings and weight of the cross-entropy, by the name of the released figures.
CASES = {
    "deit/hard": ({}, 0.5),
    "deit/soft": ({"targets": "soft", "temperature": 3.0, "weight": 0.1}, 0.9),
}


class Heads(nn.Module):
    """A network whose parameters are its logits, or one without a distillation token.

    Attributes:
      names: of the heads.
    """

    names: tuple[str, ...]

    @nn.compact
    def __call__(self, image, train):
        shape, dtype = (len(image), released.CLASSES), image.dtype
        zeros = nn.initializers.zeros
        heads = tuple(self.param(name, zeros, shape, dtype) for name in self.names)
        empty = Features(None, (None,), (), None)
        return sum(heads) / len(heads), empty._replace(heads=heads)


def student_gradients(methods, task_weight):
    """Returns what the objective makes of the logits of the released figures."""
    given = {"student": "student", "distillation": "distillation", "teacher": "logits"}
    drawn = {
        name: jnp.asarray(3 * released.drawn(side, len(released.LABEL), 11))
        for side, name in given.items()
    }
    teacher = {"params": {"logits": drawn.pop("logits")}}
    image = jnp.zeros((len(released.LABEL), 2, 2, 3), jnp.float64)
    batch = Batch(image, jnp.asarray(released.LABEL), jnp.ones(7), jnp.arange(7))
    found = objective.student_objective(
        Heads(("student", "distillation")),
        Heads(("logits",)),
        methods,
        teacher_train=False,
        task_weight=task_weight,
    )
    none = {name: {} for name in methods}
    return jax.jit(found)(
        {"student": drawn, "methods": none},
        {"student": {}, "methods": none},
        objective.Frozen(teacher, none),
        batch,
        jax.random.key(0),
        jnp.zeros((), jnp.int32),
    )


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_that_of_the_authors(name):
    """Their whole loss: cross-entropy of one classifier, distillation of the other."""
    settings, task_weight = CASES[name]
    with jax.enable_x64(True):
        methods = distill.build({"deit": settings}, num_classes=released.CLASSES)
        found = jax.device_get(student_gradients(methods, task_weight))
    released.assert_close(name, found.loss, found.summed["student"])


def test_without_the_method_both_classifiers_learn_the_task():
    """By their mean, which is the prediction."""
    with jax.enable_x64(True):
        found = jax.device_get(student_gradients({}, 1.0)).summed["student"]
    np.testing.assert_array_equal(found["student"], found["distillation"])
    assert np.any(found["student"])


def test_soft_targets_can_be_those_of_the_paper():
    """K times the released code's, which averages over the K classes, too."""
    student, teacher = (jnp.asarray(x) for x in released.logits().values())
    features = Features(None, (None,), (), None)._replace(heads=(None, student))
    outputs = Outputs(None, features), Outputs(teacher, None)

    def of(**settings):
        (method,) = distill.build({"deit": settings}, num_classes=11).values()
        terms, _ = method.loss({}, {}, *outputs, Inputs(*[None] * 4))
        return terms["token"]

    soft = {"targets": "soft", "temperature": 2.0}
    wanted = losses.kd(student, teacher, temperature=2.0)
    np.testing.assert_allclose(of(**soft, scale="squared_temperature"), wanted)
    np.testing.assert_allclose(of(**soft), wanted / 11, rtol=1e-6)
    weight = losses.entropy_weight(student, teacher, temperature=3.0)
    np.testing.assert_allclose(of(example_weight="entropy"), weight * of(), rtol=1e-6)


def test_recipes_train_by_adamw():
    config = method_recipes.of_methods("deit", "wrn_16_2-deit_tiny_distilled")
    assert (config.task_weight, config.methods.deit.weight) == (0.5, 0.5)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adamw", 5e-4)
    config.teacher.checkpoint = "somewhere"
    checks.check_values(config)
    pair = "resnet50@224-deit_tiny_distilled@224,imagenet"
    config = method_recipes.of_methods("deit", pair)
    assert (config.batch_size, config.data.cutmix) == (1024, 1.0)
    checks.check_values(config)
    assert method_recipes.of_methods("kd", "vit_tiny-wrn_16_2").optimizer.name == "sgd"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": "x"}, r"deit\.targets='x' is none of"),
        ({"scale": "x"}, r"deit\.scale='x' is none of"),
        ({"temperature": 0.0}, r"deit\.temperature=0\.0 is not above 0"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        distill.build({"deit": given})
