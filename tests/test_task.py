import jax
import jax.numpy as jnp
import numpy as np

from kdjax import task
from kdjax.data.augment.mixup import Mixed
from kdjax.data.pipeline.batches import Batch

LABEL, OTHER = np.array([0, 1, 2, 3, 1]), np.array([1, 1, 0, 2, 3])
#: Of `torch.nn.functional.cross_entropy(..., label_smoothing=0.1)`, torch 2.13.0.
EXPECTED = [1.48142198, 1.7368531, 1.48136384, 1.28477403, 2.00232214]


def smoothed(label, mixed=None):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    batch = Batch(None, jnp.asarray(label), None, None, mixed)
    return task.cross_entropy(logits, batch, label_smoothing=0.1)


def test_label_smoothing_is_pytorchs():
    with jax.enable_x64(True):
        np.testing.assert_allclose(smoothed(LABEL), EXPECTED, rtol=1e-8)


def test_label_smoothing_of_mixed_images_is_a_mixture():
    with jax.enable_x64(True):
        found = smoothed(LABEL, Mixed(jnp.asarray(OTHER), jnp.full(5, 0.3)))
        expected = 0.3 * smoothed(LABEL) + 0.7 * smoothed(OTHER)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
