"""Image files of any common kind, decoded to what networks see: RGB of eight bits.

What is well defined is converted:

- grayscale and black and white: three equal channels;
- grayscale of 16 bits: scaled, 65535 becoming 255; colors of 16 bits: their upper
  eight (Pillow's own doing);
- palette: the colors it stands for;
- CMYK: by Pillow's conversion, which knows the inverted files of Adobe;
- alpha, in any of these: laid over black.

Everything else is refused: files that are damaged or cut short, or no images at all,
and several images in one file (but the second one that cameras put into a JPEG is left
alone).
"""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from kdjax.data.augment import crop_resize

#: What may be opened, whatever a file is called.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_WITHOUT_ALPHA = ("1", "L", "P", "RGB", "CMYK", "YCbCr")


def read(path: str | os.PathLike[str], size: int = 0) -> np.ndarray:
    """Decodes an image file to an array.

    Args:
      path: the file.
      size: height and width of the result, see `crop_resize.center_crop_resize`; 0
        for the image as it is.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: in one line without the path, if it cannot be decoded.
    """
    return np.asarray(crop_resize.center_crop_resize(load(path), size))


def load(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Decodes an image file to RGB, the right way up by what its EXIF data say.

    Raises:
      ValueError: in one line without the path, if it cannot be decoded.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            # What cameras write is a JPEG of this kind, the picture first.
            if frames > 1 and image.format != "MPO":
                raise ValueError(f"holds {frames} images")
            image.load()
            return as_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"is no {', '.join(FORMATS)}") from error
    except Exception as error:  # A damaged image raises nearly anything.
        raise ValueError(_one_line(error)) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Converts a decoded image to RGB, as the top of this file says.

    Raises:
      ValueError: if it is not defined how.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # Before Pillow 11, "I" is what 16 bits of a PNG were read as.
    if image.mode == "I" or image.mode.startswith("I;16"):
        gray = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((gray + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in _WITH_ALPHA or (
        # Of a palette, or one color that stands for nothing.
        image.mode in _WITHOUT_ALPHA and "transparency" in image.info
    ):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    if image.mode in _WITHOUT_ALPHA:
        return image.convert("RGB")
    raise ValueError(f"holds pixels of mode {image.mode}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
