"""Methods that ask for a second view of each image."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, objective, phases, recipes, train
from kdjax.config import checks
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.crld import Crld
from kdjax.distill.mlkd import Mlkd
from tests import small_runs
from tests.losses import released

CLASSES = released.CLASSES


class Normed(nn.Module):
    """A batch norm and a layer, which an identity makes the image itself."""

    normed: bool = False

    @nn.compact
    def __call__(self, image, train):
        x = image.reshape(len(image), -1)
        if self.normed:
            norm = nn.BatchNorm(not train, momentum=0.9, param_dtype=x.dtype)
            x = norm(x)
        layer = nn.Dense(CLASSES, param_dtype=x.dtype, name="classifier")
        return layer(x), None


def batch_of(first, second):
    count = len(first)
    images = [jnp.asarray(x).reshape(count, 1, 1, CLASSES) for x in (first, second)]
    label = jnp.asarray(released.LABEL)
    mask, index = jnp.ones(count), jnp.arange(count)
    return Batch(images[0], label, mask, index, second_image=images[1])


def identity(network, image):
    variables = network.init(jax.random.key(0), image, train=True)
    params = dict(variables["params"])
    params["classifier"] = {
        "kernel": jnp.eye(CLASSES, dtype=image.dtype),
        "bias": jnp.zeros(CLASSES, image.dtype),
    }
    return params, variables.get("batch_stats", {})


@pytest.mark.parametrize(
    ("entry", "method", "task_weight"),
    [
        ("mlkd/all", Mlkd(views=2), 0.1),
        ("crld/all", Crld(confidence=0.6, second_confidence=0.8), 1.0),
    ],
)
def test_the_whole_loss_is_that_of_the_release(entry, method, task_weight):
    """With the cross-entropies of both views."""
    drawn = {
        name: 3 * released.drawn(name, 7, CLASSES)
        for name in ("student", "teacher", "second student", "second teacher")
    }
    with jax.enable_x64(True):
        # Student and teacher see the same images: the teacher adds what is between.
        batch = batch_of(drawn["student"], drawn["second student"])
        student, teacher = Normed(), Shifted()
        params, _ = identity(student, batch.image)
        shifts = {
            "first": drawn["teacher"] - drawn["student"],
            "second": drawn["second teacher"] - drawn["second student"],
            "seen": drawn["student"],
        }
        loss = objective.student_objective(
            student,
            teacher,
            {"one": method},
            teacher_train=False,
            task_weight=task_weight,
        )
        found = jax.jit(loss)(
            {"student": params, "methods": {"one": {}}},
            {"student": {}, "methods": {"one": {}}},
            objective.Frozen({"params": shifts}, {"one": {}}),
            batch,
            jax.random.key(0),
            jnp.zeros((), jnp.int32),
        )
    expected = released.values()[entry]["value"]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-9)
    assert {"cross_entropy", "second_cross_entropy"} < found.values.keys()


class Shifted(nn.Module):
    """Gives the drawn logits of a teacher for either view, by what it sees."""

    def __call__(self, image, train):
        params = self.variables["params"]
        x = image.reshape(len(image), -1)
        is_first = jnp.all(x == params["seen"])
        return x + jnp.where(is_first, params["first"], params["second"]), None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader(distill.Method):
    """Takes what it sees of the second view as its loss."""

    name = "reader"
    taxonomy = distill.Taxonomy(*[""] * 5)
    needs_second_view = True
    weight: float = 1.0

    def loss(self, variables, precomputed, student, teacher, inputs):
        views = {
            "student": student.second_view.logits,
            "teacher": teacher.second_view.logits,
            "image": inputs.second_image,
        }
        return {k: jnp.sum(x.reshape(len(x), -1), -1) for k, x in views.items()}, {}


def test_both_networks_see_the_second_view_after_the_first():
    """Each view is normalized by its own statistics; the running ones move twice."""
    batch = batch_of(*(released.drawn(x, 7, CLASSES) for x in ("first", "second")))
    batch = jax.tree.map(lambda x: x.astype(jnp.float32), batch)._replace(
        label=batch.label
    )
    network = Normed(normed=True)
    params, stats = identity(network, batch.image)
    loss = objective.student_objective(
        network, network, {"reader": Reader()}, teacher_train=False
    )
    found = jax.jit(loss)(
        {"student": params, "methods": {"reader": {}}},
        {"student": stats, "methods": {"reader": {}}},
        objective.Frozen({"params": params, "batch_stats": stats}, {"reader": {}}),
        batch,
        jax.random.key(0),
        jnp.zeros((), jnp.int32),
    )
    first, second = (x.reshape(7, -1) for x in (batch.image, batch.second_image))
    np.testing.assert_allclose(found.values["reader/image"], second.sum(1), rtol=1e-6)
    normed = (second - second.mean(0)[None]) / jnp.sqrt(second.var(0) + 1e-5)[None]
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found.values["reader/student"], normed.sum(1), **close)
    taught = second / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(found.values["reader/teacher"], taught.sum(1), **close)
    moved = 0.09 * first.mean(0) + 0.1 * second.mean(0)
    (stats,) = found.batch_stats["student"].values()
    np.testing.assert_allclose(stats["mean"], moved, **close)
    assert np.any(found.summed["student"]["classifier"]["kernel"])


@pytest.mark.parametrize("views", [1, 2])
def test_a_training_has_two_views_only_if_a_method_asks(views, tmp_path):
    small_runs.write_teacher(tmp_path)
    config = recipes.distillation("resnet8-resnet8,digits", {"mlkd": {"views": views}})
    config.teacher.checkpoint, config.steps_per_dispatch = str(tmp_path), 1
    with small_runs.shortcuts():
        experiment = train.build_experiment(config)
    (phase,) = phases.plan(experiment)
    state, frozen = jax.eval_shape(lambda: phases.initial_state(phase, None))
    step = phases.build_step(phase)
    _, metrics = jax.eval_shape(step, state, frozen, *phase.pipeline.shapes())
    assert ("second_cross_entropy" in metrics) == (views == 2)


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
def test_mixed_images_have_no_second_view(field):
    config = recipes.distillation("resnet8-resnet8,digits", {"mlkd": {"views": 2}})
    config.teacher.checkpoint = "somewhere"
    checks.check(config)
    config.data[field] = 1.0
    message = rf"data\.{field}=1\.0 mixes the first view .* methods=\['mlkd'\] compare"
    with pytest.raises(ValueError, match=message):
        checks.check(config)
