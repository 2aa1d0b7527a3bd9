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
    stream_key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(stream_key, step)
