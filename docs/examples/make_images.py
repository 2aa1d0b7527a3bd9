"""Makes a folder of images as one finds them: insects, each of another color."""

import pathlib
import unicodedata

import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
root = pathlib.Path("insects")
suffixes = (".png", ".JPG", ".tif")


def draw(color):
    pixels = rng.integers(0, 120, (20, 24, 3)) + 60 * (np.arange(3) == color)
    return Image.fromarray(pixels.astype("uint8"))


for split, count, form in (("train", 60, "NFC"), ("valid", 20, "NFD")):
    for color, name in enumerate(("Ants", "Käfer", "wasps")):
        for k in range(count):
            folder = root / split / unicodedata.normalize(form, name)
            folder /= "2024 trip" if k % 5 == 0 else ""
            folder.mkdir(parents=True, exist_ok=True)
            draw(color).save(folder / f"{k}{suffixes[k % 3]}")

# Pixels of other kinds, and a class of one image.
train = root / "train"
(train / "moths").mkdir()
gray = np.asarray(draw(None).convert("L"), np.uint16)
Image.fromarray(gray * 257).save(train / "moths" / "16 bits.png")
draw(0).convert("CMYK").save(train / "Ants" / "cmyk.jpg")
draw(1).convert("RGBA").save(train / "Käfer" / "alpha.png")
turned = Image.Exif()
turned[274] = 6  # As cameras say that they were held upright.
draw(2).save(train / "wasps" / "turned.jpeg", exif=turned)

# What else lies in folders.
for name in ("Thumbs.db", ".DS_Store", "._0.png", "notes.txt", "text.png", "none.jpg"):
    (train / "Ants" / name).write_text("" if name == "none.jpg" else "not an image")
(train / "wasps" / "gone.png").symlink_to("elsewhere.png")
(train / "wasps" / "empty.jpg").mkdir()
(root / "test").mkdir()
Image.new("RGB", (30, 40), (60, 60, 120)).save(root / "test" / "unlabeled.png")
