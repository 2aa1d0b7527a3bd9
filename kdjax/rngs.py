"""Randomness as a function: keys are derived where they are needed and never stored."""

import zlib

import jax


def key(seed: int, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """Derives the key of a named stream at a step.

    Args:
      seed: the run's seed.
      stream: what the key is for, for example "augment".
      step: counter within the stream; may be traced.
    """
    return jax.random.fold_in(fold_in_name(jax.random.key(seed), stream), step)


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """Derives a key from another one by a name, whatever other names there are."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
