"""The operations of RandAugment and its kin on one image, as Pillow defines them.

All take and return uint8 [H, W, 3]. An operation is one of three kinds, and `apply`
computes each kind once, whichever operation was drawn: a gather by an affine map, a
blend with a degenerate image, and a table of the 256 values of each color.

Source: Pillow's `Image.transform`, `Image.rotate`, `ImageEnhance` and `ImageOps`, which
the papers' codes and torchvision call.
"""

import jax
import jax.numpy as jnp

#: The operations, in the order of `torchvision.transforms.RandAugment`.
NAMES = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)

_INDEX = {name: index for index, name in enumerate(NAMES)}

#: Pillow's nearest neighbor computes with 16 bits behind the point.
_POINT = 16


def apply(image: jax.Array, operation: jax.Array, value: jax.Array) -> jax.Array:
    """Applies one operation.

    What an affine map brings in from outside is black.

    Differs from the original in: `auto_contrast` rounds down exactly, where Pillow's
    double precision can be one less; blends are in float32.

    Args:
      image: uint8 [H, W, 3].
      operation: index in `NAMES`, int32.
      value: of a shear the tangent; of a translation pixels; of a rotation degrees; of
        brightness, color, contrast and sharpness the factor of `ImageEnhance`; of
        `posterize` the bits that are kept; of `solarize` the least value that is
        inverted. The others have none.
    """

    def chosen(name: str) -> jax.Array:
        return operation == _INDEX[name]

    image = transform(image, _matrix(chosen, value, image.shape))
    gray = luminance(image)
    degenerate = jnp.select(
        [chosen("color"), chosen("contrast"), chosen("sharpness")],
        [
            jnp.broadcast_to(gray[..., None], image.shape),
            jnp.broadcast_to(mean_of(gray), image.shape),
            smooth(image),
        ],
        jnp.uint8(0),
    )
    blends = (_INDEX["brightness"] <= operation) & (operation <= _INDEX["sharpness"])
    image = jnp.where(blends, blend(degenerate, image, value), image)
    tables = jax.vmap(lambda x: _table(chosen, value, x), in_axes=-1, out_axes=-1)
    return jnp.take_along_axis(
        tables(image), image.astype(jnp.int32).reshape(-1, 3), axis=0
    ).reshape(image.shape)


def _matrix(chosen, value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the affine map from pixels of the result to pixels of the image."""
    zero, one = jnp.zeros((), value.dtype), jnp.ones((), value.dtype)

    def if_(name: str) -> jax.Array:
        return jnp.where(chosen(name), value, zero)

    angle = -jnp.deg2rad(if_("rotate"))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = shape[0] / 2, shape[1] / 2
    turned = jnp.stack([cos, sin, x - cos * x - sin * y])
    turned = jnp.stack([*turned, -sin, cos, y + sin * x - cos * y])
    names = "shear_x", "translate_x", "shear_y", "translate_y"
    right, along, down, below = map(if_, names)
    moved = jnp.stack([one, right, along, down, one, below])
    return jnp.where(chosen("rotate"), turned, moved)


def transform(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns the nearest pixel for each of the result: `Image.transform(AFFINE)`.

    Args:
      image: [H, W, 3].
      matrix: (a, b, c, d, e, f), which takes (x, y) to (a x + b y + c, d x + e y + f).
    """
    height, width, _ = image.shape
    a, b, c, d, e, f = matrix

    def fixed(x: jax.Array) -> jax.Array:
        return jnp.floor(x * 2**_POINT + 0.5).astype(jnp.int32)

    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
    # The center of a pixel is half a pixel from its corner.
    x = fixed(c + a / 2 + b / 2) + fixed(a) * column + fixed(b) * row
    y = fixed(f + d / 2 + e / 2) + fixed(d) * column + fixed(e) * row
    x, y = x >> _POINT, y >> _POINT
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
    return jnp.where(inside[..., None], found, 0)


def blend(degenerate: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns degenerate + factor (image - degenerate), cut to uint8: `Image.blend`."""
    degenerate, image = (x.astype(jnp.float32) for x in (degenerate, image))
    blended = degenerate + factor * (image - degenerate)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)


def luminance(image: jax.Array) -> jax.Array:
    """Returns the gray values [H, W] of `Image.convert("L")`."""
    red, green, blue = jnp.moveaxis(image.astype(jnp.int32), -1, 0)
    gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return gray.astype(jnp.uint8)


def mean_of(gray: jax.Array) -> jax.Array:
    """Returns the mean of gray values, rounded, of images of up to 4096x4096."""
    total = jnp.sum(gray, dtype=jnp.uint32)
    return ((total + gray.size // 2) // jnp.uint32(gray.size)).astype(jnp.uint8)


def smooth(image: jax.Array) -> jax.Array:
    """Returns the image under `ImageFilter.SMOOTH`, which leaves the border alone."""
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    x = image.astype(jnp.int32)
    total = 4 * x[1:-1, 1:-1] + sum(
        x[row : height - 2 + row, column : width - 2 + column]
        for row in range(3)
        for column in range(3)
    )
    return image.at[1:-1, 1:-1].set(((2 * total + 13) // 26).astype(jnp.uint8))


def _table(chosen, value: jax.Array, color: jax.Array) -> jax.Array:
    """Returns what becomes of the 256 values of one color [H, W], uint8."""
    same = jnp.arange(256, dtype=jnp.int32)
    bits = jnp.clip(value.astype(jnp.int32), 0, 8)
    least, most = jnp.min(color).astype(jnp.int32), jnp.max(color).astype(jnp.int32)
    spread = jnp.maximum(most - least, 1)
    stretched = jnp.clip(255 * (same - least) // spread, 0, 255)
    table = jnp.select(
        [chosen(x) for x in ("posterize", "solarize", "auto_contrast", "equalize")],
        [
            (same >> (8 - bits)) << (8 - bits),
            jnp.where(same < value, same, 255 - same),
            jnp.where(most > least, stretched, same),
            _equalized(color),
        ],
        same,
    )
    return table.astype(jnp.uint8)


def _equalized(color: jax.Array) -> jax.Array:
    """Returns the table of `ImageOps.equalize`, [256] int32."""
    same = jnp.arange(256, dtype=jnp.int32)
    count = jnp.zeros(256, jnp.int32).at[color.reshape(-1).astype(jnp.int32)].add(1)
    step = (color.size - count[jnp.max(color).astype(jnp.int32)]) // 255
    below = jnp.cumsum(count) - count
    table = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, table, same)


def shift_hue(image: jax.Array, by: jax.Array) -> jax.Array:
    """Turns the hue by a part of the color circle, as torchvision does to images.

    Source: `torchvision.transforms.functional.adjust_hue`, and Pillow's conversion to
    and from "HSV", with 255 steps to the circle.
    Differs from the original in: hue and saturation are rounded down exactly, where
    rounding errors of Pillow change some pixels by a step.

    Args:
      image: uint8 [H, W, 3].
      by: in [-0.5, 0.5].
    """
    red, green, blue = jnp.moveaxis(image.astype(jnp.int32), -1, 0)
    most = jnp.maximum(jnp.maximum(red, green), blue)
    spread = most - jnp.minimum(jnp.minimum(red, green), blue)
    sixths = jnp.select(
        [red == most, green == most],
        [green - blue, 2 * spread + blue - red],
        4 * spread + red - green,
    )
    circle = 6 * jnp.maximum(spread, 1)
    hue = 255 * (sixths % circle) // circle
    saturation = (255 * spread // jnp.maximum(most, 1)).astype(jnp.float32) / 255
    hue, most = hue.astype(jnp.float32), most.astype(jnp.float32)
    # As a uint8, which goes round.
    hue = (hue + jnp.trunc(255 * by)) % 256 * 6 / 255
    sector = jnp.floor(hue)
    part = hue - sector
    p, q, t = (
        jnp.floor(most * (1 - saturation * x) + 0.5) for x in (1, part, 1 - part)
    )
    sector = sector.astype(jnp.int32) % 6
    rgb = zip(
        (most, t, p),
        (q, most, p),
        (p, most, t),
        (p, q, most),
        (t, p, most),
        (most, p, q),
        strict=True,
    )
    colors = [jnp.choose(sector, list(six), mode="clip") for six in rgb]
    return jnp.stack(colors, axis=-1).astype(jnp.uint8)
