"""Programs from images to float32 logits [B, K], in a file."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from kdjax.data.normalization import Normalization, normalize

#: A loaded program: images in, logits out.
Program = Callable[[np.ndarray], np.ndarray]

#: Height, width and colors of an image.
Shape = tuple[int, int, int]


class Input(NamedTuple):
    """What a program takes.

    Attributes:
      type_of: its shape and type, given an image's shape and the number of images, or
        None for any number.
      from_pixels: makes it of uint8 images [B, H, W, 3].
      normalized: turns it into what the network takes, inside the program.
    """

    type_of: Callable[[Shape, int | None], jax.ShapeDtypeStruct]
    from_pixels: Callable[[np.ndarray, Normalization], np.ndarray]
    normalized: Callable[[jax.Array, Normalization], jax.Array]


class Format(NamedTuple):
    """A file format.

    Attributes:
      write: returns the content of a file, given the function from images to logits,
        the type of the images, and metadata, which not all formats store.
      load: returns the program in the content of a file.
      runtime: returns name and version of what runs it; raises a ValueError if a
        package that the format needs is not installed.
      note: what to know of the file; may be empty.
    """

    write: Callable[
        [
            Callable[[jax.Array], jax.Array],
            jax.ShapeDtypeStruct,
            Mapping[str, str],
        ],
        bytes,
    ]
    load: Callable[[bytes], Program]
    runtime: Callable[[], str]
    note: str = ""


def _batch(batch_size: int | None) -> tuple:
    return (batch_size,) if batch_size else export.symbolic_shape("B")


def _uint8_nhwc(shape: Shape, batch_size: int | None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*_batch(batch_size), *shape), jnp.uint8)


def _float32_nchw(shape: Shape, batch_size: int | None) -> jax.ShapeDtypeStruct:
    height, width, colors = shape
    chw = (colors, height, width)
    return jax.ShapeDtypeStruct((*_batch(batch_size), *chw), jnp.float32)


#: Kinds of input, by the name of `--input`: pixels, which the program normalizes, and
#: normalized images with the axes of PyTorch.
INPUTS = {
    "uint8_nhwc": Input(
        type_of=_uint8_nhwc,
        from_pixels=lambda pixels, _: pixels,
        normalized=lambda image, by: normalize(image, mean=by.mean, std=by.std),
    ),
    "float32_nchw": Input(
        type_of=_float32_nchw,
        from_pixels=lambda pixels, by: np.ascontiguousarray(
            np.transpose(normalize(pixels, mean=by.mean, std=by.std), (0, 3, 1, 2))
        ),
        normalized=lambda image, _: jnp.transpose(image, (0, 2, 3, 1)),
    ),
}
