"""The student's objective on mixed images, of a network of one layer."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, objective, optim, train_state
from kdjax import step as step_lib
from kdjax.data.augment.mixup import Mixed
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.kd import Kd

CLASSES = 3
LABEL, OTHER = np.array([0, 1, 2, 0, 1]), np.array([1, 1, 0, 2, 2])


class Linear(nn.Module):
    """One layer and no features."""

    @nn.compact
    def __call__(self, image, train):
        flat = image.reshape(len(image), -1)
        layer = nn.Dense(CLASSES, param_dtype=image.dtype, name="classifier")
        return layer(flat), None


def batch_of(label, mixed=None):
    image = np.random.default_rng(0).normal(size=(5, 2, 2, 3))
    return Batch(jnp.asarray(image), label, jnp.ones(5), jnp.arange(5), mixed)


def mixed_by(lam):
    return batch_of(LABEL, Mixed(OTHER, jnp.full(5, lam, jnp.float32)))


@pytest.fixture
def gradients_of():
    """Returns a function from a batch to its losses and gradients, in float64."""
    with jax.enable_x64(True):
        network = Linear()
        image = batch_of(LABEL).image
        student = network.init(jax.random.key(0), image, train=True)["params"]
        student_objective = objective.student_objective(
            network, None, {}, teacher_train=False
        )

        @jax.jit
        def measure(batch):
            params = {"student": student, "methods": {}}
            stats = {"student": {}, "methods": {}}
            frozen, key, epoch = objective.Frozen(), jax.random.key(0), jnp.zeros(())
            return student_objective(params, stats, frozen, batch, key, epoch)

        measure.logits = np.asarray(network.apply({"params": student}, image, True)[0])
        yield measure


def test_values_are_those_of_the_original(gradients_of):
    """`lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)`, by NumPy."""
    found = gradients_of(mixed_by(0.3))
    lam = np.float64(np.float32(0.3))
    log_p = gradients_of.logits - np.log(
        np.exp(gradients_of.logits).sum(1, keepdims=True)
    )
    example = np.arange(5)
    expected = -lam * log_p[example, LABEL] - (1 - lam) * log_p[example, OTHER]
    np.testing.assert_allclose(found.values["cross_entropy"], expected, rtol=1e-7)
    np.testing.assert_allclose(found.loss, expected.mean(), rtol=1e-7)
    chosen = gradients_of.logits.argmax(1)
    right = lam * (chosen == LABEL) + (1 - lam) * (chosen == OTHER)
    assert 0 < right.sum() < 5
    np.testing.assert_allclose(found.values["accuracy"], right, rtol=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_gradient_is_the_mixture_of_those_by_either_class(gradients_of, lam):
    found, own, other = map(
        gradients_of, (mixed_by(lam), batch_of(LABEL), batch_of(OTHER))
    )
    lam = np.float64(np.float32(lam))
    jax.tree.map(
        lambda mixture, a, b: np.testing.assert_allclose(
            mixture, lam * a + (1 - lam) * b, rtol=1e-6, atol=1e-9
        ),
        (found.summed, found.loss, found.values),
        (own.summed, own.loss, jax.tree.map(jnp.float32, own.values)),
        (other.summed, other.loss, jax.tree.map(jnp.float32, other.values)),
    )


def test_a_step_by_a_share_of_one_is_bitwise_that_without_mixing():
    network = Linear()
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch_of(LABEL))
    batch = batch._replace(label=jnp.asarray(LABEL))
    # Not a leaf more than without mixup.
    assert len(jax.tree.leaves(batch)) == 4
    student = network.init(jax.random.key(0), batch.image, train=True)
    optimizer = optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    state = train_state.create(student, {}, optimizer)
    step = step_lib.make_train_step(
        objective.student_objective(network, None, {}, teacher_train=False),
        optimizer,
    )
    whole = Mixed(jnp.asarray(OTHER), jnp.ones(5))
    plain, mixed = (
        jax.jit(step)(state, objective.Frozen(), b)
        for b in (batch, batch._replace(mixed=whole))
    )
    jax.tree.map(np.testing.assert_array_equal, mixed, plain)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepsClassifier(Kd):
    """Takes the student's classifier from the teacher."""

    takes_from_teacher = ("classifier",)


@pytest.mark.parametrize("rule", ["sum", "pcgrad"])
def test_what_is_taken_from_the_teacher_gets_no_gradient(rule):
    """Neither of the task nor of the methods."""
    network, batch = Linear(), batch_of(LABEL)
    student = network.init(jax.random.key(0), batch.image, train=True)["params"]
    gradients = {}
    for kind in (Kd, KeepsClassifier):
        method = kind(gradient_combination=rule)
        loss = objective.student_objective(
            network, network, {"kd": method}, teacher_train=False
        )
        found = jax.jit(loss)(
            {"student": student, "methods": {"kd": {}}},
            {"student": {}, "methods": {"kd": {}}},
            objective.Frozen(
                {"params": jax.tree.map(jnp.zeros_like, student)}, {"kd": {}}
            ),
            batch,
            jax.random.key(0),
            jnp.zeros((), jnp.int32),
        )
        parts = [found.summed, *found.by_rule.values()]
        gradients[kind] = [part["student"]["classifier"]["bias"] for part in parts]
    assert all(np.any(x) for x in gradients[Kd])
    assert not any(np.any(x) for x in gradients[KeepsClassifier])


def test_the_weight_of_a_method_rises_over_the_epochs_of_its_warm_up():
    """By `min(epoch / warmup, 1)` in the releases, which count epochs from 1."""
    network, batch = Linear(), batch_of(LABEL)
    student = network.init(jax.random.key(0), batch.image, train=True)["params"]
    loss = objective.student_objective(
        network,
        network,
        {"kd": Kd(weight=2.0, warm_up=4)},
        teacher_train=False,
    )
    teacher = jax.tree.map(lambda x: 3 * x, student)

    @jax.jit
    def measure(epoch):
        found = loss(
            {"student": student, "methods": {"kd": {}}},
            {"student": {}, "methods": {"kd": {}}},
            objective.Frozen({"params": teacher}, {"kd": {}}),
            batch,
            jax.random.key(0),
            epoch,
        )
        means = jax.tree.map(jnp.mean, found.values)
        distilled = found.loss - means.pop("cross_entropy")
        return distilled / (means["kd/divergence"] * 2.0)

    shares = [float(measure(jnp.asarray(epoch))) for epoch in (0, 1, 3, 4, 9)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 1, 1, 1], rtol=1e-5)


class Clock(distill.Method):
    """Returns the times that a loss sees."""

    name = "clock"
    taxonomy = distill.Taxonomy(*[""] * 5)
    needs_teacher = False

    def loss(self, variables, precomputed, student, teacher, inputs):
        ones = jnp.ones(len(student.logits))
        return {"epoch": ones * inputs.epoch, "progress": ones * inputs.progress}, {}


def test_losses_see_the_complete_epochs_and_the_fraction_of_the_steps():
    network = Linear()
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch_of(LABEL))
    batch = batch._replace(label=jnp.asarray(LABEL))
    student = network.init(jax.random.key(0), batch.image, train=True)
    optimizer = optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    state = train_state.create(student, {"clock": {}}, optimizer)
    step = jax.jit(
        step_lib.make_train_step(
            objective.student_objective(
                network, None, {"clock": Clock(weight=0.0)}, teacher_train=False
            ),
            optimizer,
            steps_per_epoch=2,
            total_steps=8,
        )
    )
    found = []
    for _ in range(4):
        state, metrics = step(state, objective.Frozen(None, {"clock": {}}), batch)
        found.append((float(metrics["clock/epoch"]), float(metrics["clock/progress"])))
    assert found == [(0, 0), (0, 0.125), (1, 0.25), (1, 0.375)]


class Heads(distill.Method):
    """The product of the two classifiers."""

    name = "heads"
    taxonomy = distill.Taxonomy(*[""] * 5)
    needs_classifier = True

    def loss(self, variables, precomputed, student, teacher, inputs):
        products = jax.tree.map(jnp.vdot, student.classifier, teacher.classifier)
        return {"product": jnp.full(len(student.logits), sum(products))}, {}


def test_classifiers_reach_a_method_and_its_gradient_the_students_alone():
    """The gradient by either factor of the product is the other."""
    network, batch = Linear(), batch_of(LABEL)
    params = network.init(jax.random.key(0), batch.image, train=True)["params"]
    student, teacher = (
        {"classifier": params["classifier"] | {"bias": b}}
        for b in (jnp.ones(3), jnp.arange(3.0))
    )
    heads = {"heads": Heads(weight=2.0)}
    loss = objective.student_objective(
        network, network, heads, teacher_train=False, task_weight=0.0
    )

    def gradients(teacher):
        return loss(
            {"student": student, "methods": {"heads": {}}},
            {"student": {}, "methods": {"heads": {}}},
            objective.Frozen({"params": teacher}, {"heads": {}}),
            batch,
            jax.random.key(0),
            jnp.zeros((), jnp.int32),
        )

    jax.tree.map(
        lambda found, kernel: np.testing.assert_allclose(found, 2 * kernel, rtol=1e-6),
        gradients(teacher).summed["student"],
        teacher,
    )
    for leaf in jax.tree.leaves(jax.grad(lambda x: gradients(x).loss)(teacher)):
        np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))


class Dropping(nn.Module):
    """One layer whose input is dropped in training."""

    @nn.compact
    def __call__(self, image, train):
        kept = nn.Dropout(0.5, deterministic=not train)(image)
        return Linear(name="linear")(kept, train)


def test_what_the_student_drops_depends_on_step_and_device():
    network = Dropping()
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch_of(LABEL))
    batch = batch._replace(label=jnp.asarray(LABEL), index=jnp.arange(5))
    params = network.init(jax.random.key(0), batch.image, train=False)["params"]
    loss = objective.student_objective(network, None, {}, teacher_train=False)

    @jax.jit
    def measure(seed, first):
        return loss(
            {"student": params, "methods": {}},
            {"student": {}, "methods": {}},
            objective.Frozen(),
            batch._replace(index=batch.index + first),
            jax.random.key(seed),
            jnp.zeros((), jnp.int32),
        ).loss

    losses = [float(measure(*given)) for given in ((0, 0), (0, 0), (1, 0), (0, 5))]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
