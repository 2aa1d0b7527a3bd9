"""Decodes image files of all common kinds to 8-bit RGB.

As Pillow and torchvision's `ImageFolder` do, by `convert("RGB")`:

- grayscale and black-and-white: three equal channels;
- palette: its colors;
- CMYK: by Pillow, which handles the inverted files of Adobe;
- 16-bit colors: their upper eight bits;
- alpha: left out, so that invisible pixels have the color that is stored for them.

Unlike these:

- 16-bit grayscale is scaled, 65535 becomes 255, where `convert` would cut off all
  above 255;
- images are rotated as their EXIF data say.

Everything else is rejected: damaged or truncated files, files that are not images, and
files of several images (except for the second image that cameras write into a JPEG).
"""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from kdjax.data.augment import crop_resize

#: Formats that are opened, whatever the name of the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_OTHER = f"is not one of {', '.join(FORMATS)}"

#: Modes of Pillow whose pixels have a well-defined color of 8 bits.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def read(path: str | os.PathLike[str], size: int = 0) -> np.ndarray:
    """Decodes an image file to an array.

    Args:
      path: the file.
      size: height and width of the result, see `crop_resize.center_crop_resize`; 0
        keeps the image as it is.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: in one line without the path, if it cannot be decoded.
    """
    return np.asarray(crop_resize.center_crop_resize(load(path), size))


def problem(path: str | os.PathLike[str]) -> str:
    """Says why a file is no image, by its first bytes; "" if it may be one."""
    try:
        # A third of the time of `open`: there may be millions.
        file = os.open(path, os.O_RDONLY)
        try:
            prefix = os.read(file, 16)
        finally:
            os.close(file)
    except OSError as error:
        return _one_line(error)
    Image.init()
    if any(Image.OPEN[name][1](prefix) for name in FORMATS):
        return ""
    return _OTHER if prefix else "is empty"


def load(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Decodes an image file to RGB, rotated as its EXIF data say.

    Raises:
      ValueError: in one line without the path, if it cannot be decoded.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            # MPO: a JPEG of a camera, with the picture first.
            if frames > 1 and image.format != "MPO":
                raise ValueError(f"holds {frames} images")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return as_rgb(image)
    except MemoryError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ValueError(_OTHER) from error
    except Exception as error:  # Pillow raises many types for damaged images.
        raise ValueError(_one_line(error)) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Converts a decoded image to RGB, see the docstring of this module.

    Raises:
      ValueError: for a mode whose conversion is not well defined.
    """
    if image.mode == "RGB":
        return image
    # Pillow before 11 reads 16-bit PNG files as "I"; TIFF files may have more bits.
    if image.mode == "I" or image.mode.startswith("I;16"):
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError("holds gray levels of more than 16 bits")
        return Image.fromarray(((gray + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode not in _MODES:
        raise ValueError(f"holds pixels of mode {image.mode}")
    image.info.pop("transparency", None)  # Pillow would warn that it is left out.
    return image.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
