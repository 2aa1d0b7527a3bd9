import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdjax.data.sources import decode

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GRAY = RNG.integers(0, 256, (5, 7), np.uint8)


def save(path, image, *args, **kwargs):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, *args, **kwargs)
    return path


def colored(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.ppm", "a.tif"])
def test_rgb_images_are_read_exactly(tmp_path, name):
    kwargs = {"lossless": True} if name == "a.webp" else {}
    found = decode.read(save(tmp_path / name, RGB, **kwargs))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RGB)


def test_the_format_is_recognized_by_the_content(tmp_path):
    flat = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    found = decode.read(save(tmp_path / "a.png", flat, "JPEG", quality=100))
    np.testing.assert_allclose(found, flat, atol=2)


def test_gray_becomes_three_equal_channels(tmp_path):
    np.testing.assert_array_equal(
        decode.read(save(tmp_path / "a.png", GRAY)), colored(GRAY)
    )
    white = GRAY > 127
    found = decode.read(save(tmp_path / "b.png", white))
    np.testing.assert_array_equal(found, colored(255 * white.astype(np.uint8)))


def test_16_bit_gray_is_scaled(tmp_path):
    gray = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    found = decode.read(save(tmp_path / "a.png", gray))
    np.testing.assert_array_equal(found, colored(np.uint8([[0, 0, 1, 1, 128, 255]])))


@pytest.mark.parametrize("name", ["a.png", "a.pgm", "a.gif", "a.tiff"])
def test_gray_images_are_read_exactly(tmp_path, name):
    found = decode.read(save(tmp_path / name, GRAY))
    np.testing.assert_array_equal(found, colored(GRAY))


@pytest.mark.parametrize("name", ["a.png", "a.pgm", "a.tif"])
def test_16_bits_of_gray_are_the_same_in_all_formats(tmp_path, name):
    gray = np.array([[0, 129, 32768, 65535]], np.uint16)
    found = decode.read(save(tmp_path / name, gray))
    np.testing.assert_array_equal(found, colored(np.uint8([[0, 1, 128, 255]])))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 65536]], np.int32), "holds gray levels of more than 16 bits"),
        (np.array([[-1, 0]], np.int32), "holds gray levels of more than 16 bits"),
        (np.array([[0.5, 1.0]], np.float32), "holds pixels of mode F"),
    ],
)
def test_pixels_without_a_color_of_8_bits_are_rejected(tmp_path, pixels, message):
    path = save(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode.read(path)


def test_palettes_are_converted_to_their_colors(tmp_path):
    image = Image.fromarray(GRAY % 3)
    image.putpalette([9, 8, 7, 10, 20, 30, 200, 100, 0])
    colors = np.uint8([[9, 8, 7], [10, 20, 30], [200, 100, 0]])
    path = save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(decode.read(path), colors[GRAY % 3])


@pytest.mark.filterwarnings("error")
def test_alpha_is_left_out(tmp_path):
    """As by `convert("RGB")` and torchvision, whatever says which pixels are seen."""
    alpha = GRAY[..., None]
    found = decode.read(save(tmp_path / "a.png", np.stack([GRAY, 255 - GRAY], -1)))
    np.testing.assert_array_equal(found, colored(GRAY))
    path = save(tmp_path / "b.png", np.concatenate([RGB, alpha], -1))
    np.testing.assert_array_equal(decode.read(path), RGB)
    one_color = tuple(RGB[0, 0].tolist())
    path = save(tmp_path / "c.png", RGB, transparency=one_color)
    np.testing.assert_array_equal(decode.read(path), RGB)
    image = Image.fromarray(GRAY % 3)
    image.putpalette([9, 8, 7, 10, 20, 30, 200, 100, 0])
    colors = np.uint8([[9, 8, 7], [10, 20, 30], [200, 100, 0]])
    for name, transparency in (("d.png", 1), ("e.png", b"\0\1\2"), ("f.gif", 1)):
        path = save(tmp_path / name, image, transparency=transparency)
        np.testing.assert_array_equal(decode.read(path), colors[GRAY % 3])


def test_cmyk_is_converted(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = decode.read(save(tmp_path / "a.jpg", image, quality=100))
    np.testing.assert_allclose(found, np.full((8, 8, 3), (255, 0, 0)), atol=3)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, RGB), (3, RGB[::-1, ::-1]), (6, np.rot90(RGB, -1)), (8, np.rot90(RGB))],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_orientation_of_exif_is_applied(tmp_path, orientation, turned, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode.read(save(tmp_path / name, RGB, exif=exif))
    np.testing.assert_array_equal(found, turned)


def test_the_center_is_cropped_and_resized(tmp_path):
    # Squares of 8 pixels: left, middle and right in colors of their own.
    image = np.repeat(np.uint8([[10, 20, 30]]), 8, axis=1).repeat(8, axis=0)
    path = save(tmp_path / "a.png", image)
    # Its neighbors shine through at the border.
    np.testing.assert_allclose(decode.read(path, 4), np.full((4, 4, 3), 20), atol=1)
    np.testing.assert_array_equal(decode.read(path, 16)[:, 1:-1], 20)
    save(path, image.T)
    np.testing.assert_allclose(decode.read(path, 4), np.full((4, 4, 3), 20), atol=1)
    # Antialiased: a fine grid becomes its mean, not one of its two grays.
    grid = np.uint8(255 * (np.indices((64, 64)).sum(0) % 2))
    found = decode.read(save(path, grid), 8)
    assert 120 < found.min() <= found.max() < 135


def test_only_the_first_picture_of_a_camera_is_read(tmp_path):
    first, second = (Image.new("RGB", (8, 8), (level,) * 3) for level in (50, 200))
    path = tmp_path / "a.jpg"
    first.save(path, "MPO", save_all=True, append_images=[second])
    np.testing.assert_allclose(decode.read(path), np.full((8, 8, 3), 50), atol=2)


def png_with_crc_error():
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[data.index(b"IDAT") + 8] ^= 255
    return bytes(data)


def bomb():
    """A PNG of ten thousand million pixels, of which none are there."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", b"")):
        crc = zlib.crc32(kind + content)
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", crc)
    return data


def encoded(kind, **kwargs):
    stream = io.BytesIO()
    Image.fromarray(np.tile(RGB, (9, 9, 1))).save(stream, kind, **kwargs)
    return stream.getvalue()


def several(kind):
    others = [Image.new("RGB", (63, 45), color) for color in ("red", "blue")]
    return encoded(kind, save_all=True, append_images=others)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "is not one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"),
        (
            lambda: b"<html>404</html>",
            "is not one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM",
        ),
        (lambda: encoded("ICO"), "is not one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"),
        (lambda: encoded("JPEG")[:-300], "truncated"),
        (lambda: encoded("PNG")[:-300], "(?i)truncated"),
        (lambda: encoded("BMP")[:-300], "truncated"),
        (lambda: encoded("WEBP")[:-300], "."),
        (png_with_crc_error, "."),
        (bomb, "decompression bomb"),
        (lambda: several("PNG"), "holds 3 images"),
        (lambda: several("GIF"), "holds 3 images"),
        (lambda: several("TIFF"), "holds 3 images"),
    ],
)
def test_undecodable_files_are_rejected_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content())
    with pytest.raises(ValueError, match=message) as error:
        decode.read(path)
    assert str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        decode.read(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Is a directory"):
        decode.read(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm"])
def test_images_are_told_by_their_first_bytes(tmp_path, suffix):
    """Not by their names."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        form = Image.registered_extensions()[f".{suffix}"]
        Image.new("RGB", (4, 4)).save(file, form)
    assert decode.problem(path) == ""
    path.write_bytes(path.read_bytes()[1:])
    assert decode.problem(path).startswith("is not one of JPEG, ")


def test_why_a_file_is_no_image(tmp_path):
    assert "No such file" in decode.problem(tmp_path / "none.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert decode.problem(tmp_path / "empty.jpg") == "is empty"
