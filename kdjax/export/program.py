"""Programs from uint8 images [B, H, W, 3] to float32 logits [B, K], in a file."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

#: A loaded program: images in, logits out.
Program = Callable[[np.ndarray], np.ndarray]

#: Height, width and colors of an image.
Shape = tuple[int, int, int]


class Format(NamedTuple):
    """A file format.

    Attributes:
      write: returns the content of a file, given the function from images to logits,
        the shape of an image, and the number of images, or None for any number.
      load: returns the program in the content of a file.
      runtime: returns name and version of what runs it; raises a ValueError if a
        package that the format needs is not installed.
      note: what to know of the file; may be empty.
    """

    write: Callable[[Callable[[jax.Array], jax.Array], Shape, int | None], bytes]
    load: Callable[[bytes], Program]
    runtime: Callable[[], str]
    note: str = ""


def images(shape: Shape, batch_size: int | None) -> jax.ShapeDtypeStruct:
    """Returns the type of a program's input."""
    batch = (batch_size,) if batch_size else export.symbolic_shape("B")
    return jax.ShapeDtypeStruct((*batch, *shape), jnp.uint8)
