import re

import numpy as np

from kdjax.data import measure
from kdjax.data.sources import digits
from kdjax.data.split import Split


def test_measures_each_color_over_all_pixels():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2001, 3, 2, 3), np.uint8)  # Three blocks.
    image[..., 2] = 7
    mean, std = measure.measure(Split(image, np.zeros(2001, np.int32)))
    np.testing.assert_allclose(mean, image.mean((0, 1, 2)))
    np.testing.assert_allclose(std, image.std((0, 1, 2)), atol=1e-6)


def test_the_command_prints_overrides(capsys):
    assert measure.main(["--name=digits"]) == 0
    values = re.findall(r"\d+\.\d{4}", capsys.readouterr().out)
    image = digits.load()["train"].image
    expected = [image.mean()] * 3 + [image.std()] * 3
    np.testing.assert_allclose([float(value) for value in values], expected, atol=1e-4)


def test_errors_are_one_line(tmp_path, capsys):
    assert measure.main(["--name=tiny_imagenet", f"--data_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("measure: data.data_dir=")
    assert measure.main(["--name=mnist"]) == 2
    assert capsys.readouterr().err.startswith("measure: data.name='mnist' is none of")
    assert measure.main(["--name=digits", "--test_fraction=1.2"]) == 2
    said = capsys.readouterr().err
    assert said == "measure: data.test_fraction=1.2 is not in [0, 1)\n"
