"""Methods that ask for the networks' answers to rotated images."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import distill, models, objective
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import compatibility
from tests.losses.batches import drawn

#: Images of 2x2 pixels and one channel, whose pixels are the logits.
COUNT, PIXELS = 3, 4


class Pixels(nn.Module):
    """A batch norm over the images, and a layer that starts as the identity."""

    @nn.compact
    def __call__(self, image, train):
        x = image.reshape(len(image), -1)
        x = nn.BatchNorm(not train, momentum=0.9)(x)
        identity = jax.nn.initializers.constant(jnp.eye(PIXELS))
        return nn.Dense(PIXELS, kernel_init=identity, name="classifier")(x), None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader(distill.Method):
    """Takes what it sees of the rotated images as its loss."""

    name = "reader"
    taxonomy = distill.Taxonomy(*[""] * 5)
    needs_rotations = True
    needs_label = True
    needs_input_gradient = True
    weight: float = 1.0

    def pretrain_loss(self, variables, key, teacher):
        return self._read(teacher=teacher.rotated.logits), {}

    def loss(self, variables, precomputed, student, teacher, inputs):
        assert student.rotated.classifier is None
        return self._read(
            student=student.rotated.logits,
            teacher=teacher.rotated.logits,
            gradient=teacher.rotated.input_gradient,
        ), {}

    def _read(self, **found):
        """Returns one term for every turn, row and column: of each image, [B]."""
        return {
            f"{name}{turn}{pixel}": x.reshape(COUNT, 3, PIXELS)[:, turn, pixel]
            for name, x in found.items()
            for turn in range(3)
            for pixel in range(PIXELS)
        }


def run(pretrain=False):
    """Returns the batch's images, and what the objective makes of them."""
    image = jnp.asarray(drawn(0, COUNT, 2, 2, 1, dtype="float32"))
    batch = Batch(image, jnp.array([2, 0, 1]), jnp.ones(COUNT), jnp.arange(COUNT))
    network = Pixels()
    variables = network.init(jax.random.key(0), image, train=True)
    methods = {"reader": Reader()}
    if pretrain:
        loss = objective.pretraining_objective(network, methods, teacher_train=False)
    else:
        loss = objective.student_objective(
            network, network, methods, teacher_train=False
        )
    found = jax.jit(loss)(
        {"student": variables["params"], "methods": {"reader": {}}},
        {"student": variables["batch_stats"], "methods": {"reader": {}}},
        objective.Frozen(variables, {"reader": {}}),
        batch,
        jax.random.key(0),
        jnp.zeros((), jnp.int32),
    )
    return np.asarray(image), found


def turned_of(images):
    """Turns images one by one, [B, 3, 4]."""
    turned = [[np.rot90(image, n) for n in (1, 2, 3)] for image in images]
    return np.reshape(turned, (COUNT, 3, PIXELS))


def read(found, name):
    return np.stack(
        [
            [found.values[f"reader/{name}{turn}{pixel}"] for pixel in range(PIXELS)]
            for turn in range(3)
        ]
    ).transpose(2, 0, 1)


def test_both_networks_see_upright_and_rotated_images_in_one_pass():
    """The student's statistics are those of all; the teacher's are the running ones."""
    images, found = run()
    turned = turned_of(images)
    upright = images.reshape(COUNT, PIXELS)
    everything = np.concatenate([upright, turned.reshape(-1, PIXELS)])
    mean, deviation = everything.mean(0), np.sqrt(everything.var(0) + 1e-5)
    close = {"rtol": 1e-4, "atol": 1e-5}
    normed = (turned - mean[None, None]) / deviation[None, None]
    np.testing.assert_allclose(read(found, "student"), normed, **close)
    taught = turned / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(read(found, "teacher"), taught, **close)
    (stats,) = found.batch_stats["student"].values()
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, **close)
    assert np.any(found.summed["student"]["classifier"]["kernel"])
    # The gradient of an image's own class, by the rotated image.
    own = np.eye(PIXELS)[[2, 0, 1]][:, None] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(
        read(found, "gradient"), np.broadcast_to(own, turned.shape), **close
    )


def test_the_task_is_that_of_the_upright_images():
    images, found = run()
    turned = turned_of(images).reshape(-1, PIXELS)
    upright = images.reshape(COUNT, PIXELS)
    everything = np.concatenate([upright, turned])
    logits = upright - everything.mean(0)[None]
    logits /= np.sqrt(everything.var(0) + 1e-5)[None]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(
        found.values["cross_entropy"], -log_p[range(COUNT), [2, 0, 1]], rtol=1e-4
    )


def test_what_learns_on_the_teacher_alone_sees_them_too():
    images, found = run(pretrain=True)
    taught = turned_of(images) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(read(found, "teacher"), taught, rtol=1e-4, atol=1e-5)


def test_images_that_are_not_square_are_refused():
    network = compatibility.Named("resnet8", models.build("resnet8", 3))
    given = {"teacher": network, "student": network}
    methods = {"mine": Reader()}
    compatibility.check(methods, **given, image_shape=(8, 8, 3))
    with pytest.raises(ValueError, match=r"methods\.mine turns .* have 8x12 pixels"):
        compatibility.check(methods, **given, image_shape=(8, 12, 3))
