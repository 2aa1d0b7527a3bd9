"""Distills a small network with a loss of kdjax in a plain JAX and Optax loop.

Prints the test accuracy on scikit-learn's 8x8 digits after a few seconds on a CPU:

    python docs/examples/optax_loop.py
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets, model_selection

from kdjax import losses


def init(seed: int, width: int) -> dict[str, jax.Array]:
    """Returns the parameters of a network with one hidden layer."""
    keys = jax.random.split(jax.random.key(seed))
    initializer = jax.nn.initializers.he_normal()
    return {
        "hidden": initializer(keys[0], (64, width)),
        "output": initializer(keys[1], (width, 10)),
    }


def network(params: dict[str, jax.Array], image: jax.Array) -> jax.Array:
    """Returns the logits [B, 10] of images [B, 64]."""
    return jax.nn.relu(image @ params["hidden"]) @ params["output"]


def batches(epochs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields shuffled batches of 64 training images and labels."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for index in np.split(rng.permutation(1280), 20):
            yield train_image[index], train_label[index]


def accuracy(params: dict[str, jax.Array]) -> float:
    """Returns the accuracy on the test images."""
    return float(jnp.mean(network(params, test_image).argmax(-1) == test_label))


image, label = datasets.load_digits(return_X_y=True)
train_image, test_image, train_label, test_label = model_selection.train_test_split(
    image.astype(np.float32) / 16, label, train_size=1280, random_state=0
)
cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
optimizer = optax.adam(1e-2)


@jax.jit
def teacher_step(params, state, image, label):
    """Updates the teacher once, by the cross-entropy alone."""
    gradient = jax.grad(lambda p: jnp.mean(cross_entropy(network(p, image), label)))
    updates, state = optimizer.update(gradient(params), state)
    return optax.apply_updates(params, updates), state


teacher = init(0, width=256)
state = optimizer.init(teacher)
for image, label in batches(epochs=10, seed=0):
    teacher, state = teacher_step(teacher, state, image, label)


# [loop
def loss_of(student, image, label):
    student_logits, teacher_logits = network(student, image), network(teacher, image)
    task = cross_entropy(student_logits, label)
    distillation = losses.kd(student_logits, teacher_logits, temperature=4.0)
    return jnp.mean(0.1 * task + 0.9 * distillation)


@jax.jit
def step(student, state, image, label):
    loss, gradient = jax.value_and_grad(loss_of)(student, image, label)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(student, updates), state, loss


student = init(1, width=16)
state = optimizer.init(student)
for image, label in batches(epochs=10, seed=1):
    student, state, loss = step(student, state, image, label)
# loop]

print(f"teacher {accuracy(teacher):.1%}, student {accuracy(student):.1%}")
