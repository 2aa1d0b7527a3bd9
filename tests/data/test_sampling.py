import jax
import numpy as np
import pytest

from kdjax import recipes
from kdjax.config import checks
from kdjax.data import datasets, sampling
from kdjax.data.split import Split
from kdjax.runs import summary, workdirs

#: Long-tailed, class 2 has no images.
SIZES = np.array([4_000, 400, 0, 10])
LABEL = np.random.default_rng(0).permutation(np.repeat(np.arange(4), SIZES))


def data_config(**fields):
    config = recipes.compose(data="digits")
    config.data.update(fields)
    return config


def sampler(**fields):
    image = np.zeros((len(LABEL), 1, 1, 3), np.uint8)
    return sampling.sampler(data_config(**fields).data, Split(image, LABEL))


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({"sampling": "balanced"}, [1 / 4_000, 1 / 400, 0, 1 / 10]),
        ({"sampling": "square_root"}, [4_000**-0.5, 400**-0.5, 0, 10**-0.5]),
        (
            {"sampling": "class_weights", "class_weights": (1, 2, 5, 300)},
            [1, 2, 5, 300],
        ),
        (
            {"sampling": "class_weights", "class_weights": (0.0, 1e308, 0.0, 1e308)},
            [0, 1, 0, 1],
        ),
        # A single class, of the last label.
        (
            {"sampling": "class_weights", "class_weights": (0, 0, 0, 2)},
            [0, 0, 0, 1],
        ),
    ],
)
def test_examples_are_drawn_as_often_as_their_weights_say(fields, weights):
    """Within five standard deviations, for the classes and for each of ten images."""
    number = 100_000
    index = np.asarray(sampler(**fields).draw(jax.random.key(0), number))
    assert index.dtype == np.int32
    expected = np.asarray(weights)[LABEL]
    expected = expected / expected.sum()
    found = np.bincount(index, minlength=len(LABEL))
    assert np.all((found > 0) <= (expected > 0))
    per_class = number * np.bincount(LABEL, expected)
    np.testing.assert_array_less(
        np.abs(np.bincount(LABEL, found) - per_class), 5 * np.sqrt(per_class) + 1
    )
    rare = number * expected[LABEL == 3]
    np.testing.assert_array_less(
        np.abs(found[LABEL == 3] - rare), 5 * np.sqrt(rare) + 1
    )


def test_uniform_sampling_needs_no_labels():
    assert sampling.sampler(data_config().data, None) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"sampling": "class_weights", "class_weights": (1, 2)},
            r"^data\.class_weights=\(1, 2\) has 2 weights, and data\.name='digits' has"
            " 10 classes$",
        ),
        (
            {"sampling": "class_weights"},
            r"^data\.class_weights=\(\) has 0 weights, and ",
        ),
        (
            {"sampling": "class_weights", "class_weights": (1,) * 9 + (-1,)},
            r"^data\.class_weights=.* has -1, which is not at least 0$",
        ),
        (
            {"sampling": "class_weights", "class_weights": (1,) * 9 + (float("nan"),)},
            r"^data\.class_weights=.* has nan, which is not finite$",
        ),
        (
            {"sampling": "class_weights", "class_weights": (0,) * 10},
            r"^data\.class_weights=.* are all 0: no image would be drawn$",
        ),
        (
            {"sampling": "balanced", "class_weights": (1,) * 10},
            r"^data\.class_weights=.* but data\.sampling='balanced': only"
            r" data\.sampling='class_weights' uses them$",
        ),
        ({"sampling": "balance"}, r"data\.sampling='balance' is none of "),
    ],
)
def test_weights_that_do_not_fit_are_rejected(fields, message):
    config = data_config(**fields)
    config.model = "wrn_10_1"
    with pytest.raises(ValueError, match=message):
        checks.check(config)


def test_weights_of_classes_without_images_alone_are_rejected():
    with pytest.raises(ValueError, match=r"^data\.class_weights: no class with train"):
        sampler(sampling="class_weights", class_weights=(0, 0, 1, 0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("uniform", "of the training images, in memory"),
        ("balanced", "of the training images, balanced sampling, in memory"),
    ],
)
def test_the_start_of_a_run_names_the_sampling(name, words):
    config = data_config(sampling=name)
    config.model = "wrn_10_1"
    lines = summary.describe(config, datasets.describe(config.data))
    assert words in " ".join(" ".join(lines).split())


def test_a_run_is_not_resumed_with_another_sampling(tmp_path):
    weights = (1.0,) * 10
    sampled = {"sampling": "class_weights", "class_weights": weights}
    workdirs.create(tmp_path / "run", data_config(**sampled))
    workdirs.check_config(tmp_path / "run", data_config(**sampled))
    for field, value, difference in (
        ("sampling", "balanced", "was 'class_weights' and is 'balanced'"),
        ("class_weights", (2.0,) * 10, "was .* and is "),
    ):
        with pytest.raises(ValueError, match=rf"data\.{field} {difference}"):
            workdirs.check_config(
                tmp_path / "run", data_config(**sampled | {field: value})
            )
