"""Softmax at a temperature and the divergence of two softmaxes, in logarithms."""

import jax
import optax

from kdjax.losses.numerics import promote


def require_positive_temperature(name: str, temperature: float | jax.Array) -> None:
    """Raises a ValueError that names the loss if a temperature is not positive.

    A temperature that is an array, which may be learned, is not checked.
    """
    if isinstance(temperature, (int, float)) and not temperature > 0:
        raise ValueError(f"{name}: temperature={temperature} is not above 0")


def log_softmax(
    logits: jax.Array, *, temperature: float | jax.Array = 1.0
) -> jax.Array:
    """Computes log softmax(logits / temperature) over the last axis.

    Args:
      logits: [..., K].
      temperature: by which the logits are divided.

    Returns:
      Log probabilities, [..., K], float32 or wider.
    """
    (logits,) = promote(logits)
    # The maximum is subtracted before the division. XLA may turn the division into a
    # product and fuse it with a subtraction after it: at logits above 1e9 the largest
    # entry is then off from 0 by more than exp can take.
    largest = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    return jax.nn.log_softmax((logits - largest) / temperature)


def kl_divergence(student_log_p: jax.Array, teacher_log_p: jax.Array) -> jax.Array:
    """Computes KL(teacher || student) of log probabilities over the last axis.

    Args:
      student_log_p: [..., K].
      teacher_log_p: [..., K].

    Returns:
      Divergences in nats, [...]; finite where probabilities underflow.
    """
    return optax.losses.kl_divergence_with_log_targets(student_log_p, teacher_log_p)
