import colorsys

import numpy as np
import pytest

from kdjax.evaluate import corruptions
from kdjax.evaluate.corruptions import CORRUPTIONS, SEVERITIES

_NOISE = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
_EXACT = [name for name in CORRUPTIONS if name not in _NOISE]


@pytest.mark.parametrize("name", _EXACT)
def test_images_are_the_authors(golden, name):
    """But for fractions that are a level, or just below one."""
    arrays = golden("corruptions")
    for severity in (1, 3, 5):
        found = corruptions.corrupt(arrays["image"], name, severity, 0)
        difference = found.astype(int) - arrays[f"{name}/{severity}"]
        assert np.abs(difference).max() <= 1
        assert np.mean(difference != 0) < 0.1


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("gaussian_noise", lambda x, s: (0.04, 0.06, 0.08, 0.09, 0.10)[s]),
        ("shot_noise", lambda x, s: np.sqrt(x / (500, 250, 100, 75, 50)[s])),
        ("speckle_noise", lambda x, s: x * (0.06, 0.1, 0.12, 0.16, 0.2)[s]),
    ],
)
def test_noise_has_the_mean_and_the_spread_of_its_severity(name, spread):
    rng = np.random.default_rng(0)
    for severity in SEVERITIES:
        for value in (0.2, 0.5):
            image = np.full((200, 200, 3), value)
            found = CORRUPTIONS[name](image, severity, rng)
            expected = spread(value, severity - 1)
            assert found.mean() == pytest.approx(value, abs=5 * expected / 346)
            assert found.std() == pytest.approx(expected, rel=0.02)


def test_impulses_are_black_and_white_in_equal_parts():
    image = np.full((200, 200, 3), 0.5)
    found = CORRUPTIONS["impulse_noise"](image, 5, np.random.default_rng(0))
    for value in (0, 1):
        assert np.mean(found == value) == pytest.approx(0.035, rel=0.05)
    assert np.mean(found == 0.5) == pytest.approx(0.93, rel=0.01)


def test_hue_and_value_stay_when_the_saturation_changes():
    rng = np.random.default_rng(0)
    image = rng.random((8, 8, 3))
    found = CORRUPTIONS["saturate"](image, 5, rng)
    for before, after in zip(image.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, min(2.5 * saturation + 0.2, 1), value)
        np.testing.assert_allclose(after, expected, atol=1e-9)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_equally_each_time_and_otherwise_than_others(name):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    found = corruptions.corrupt(image, name, 3, 7)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert np.any(found != image)
    np.testing.assert_array_equal(found, corruptions.corrupt(image, name, 3, 7))
    other = corruptions.corrupt(image, name, 3, 8)
    assert np.any(found != other) == (name in _NOISE)
