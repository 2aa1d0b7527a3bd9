"""Makes a folder of images as one finds them: three insects, each of another color."""

import pathlib

import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
root = pathlib.Path("insects")
for split, count in (("train", 60), ("valid", 20)):
    for color, name in enumerate(("ants", "bees", "wasps")):
        for k in range(count):
            pixels = rng.integers(0, 120, (20, 24, 3)) + 60 * (np.arange(3) == color)
            folder = root / split / name / ("2024" if k % 5 == 0 else "")
            folder.mkdir(parents=True, exist_ok=True)
            suffix = (".png", ".JPG", ".tif")[k % 3]
            Image.fromarray(pixels.astype("uint8")).save(folder / f"{k}{suffix}")
(root / "train" / "ants" / "Thumbs.db").write_bytes(b"not an image")
(root / "test").mkdir()
Image.new("RGB", (30, 30), (60, 60, 120)).save(root / "test" / "unlabeled.png")
