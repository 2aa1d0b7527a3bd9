import numpy as np
import pytest

from kdjax import recipes
from kdjax.data import datasets, digits
from kdjax.data.split import Split


def test_digits_are_a_fixed_stratified_split():
    splits = digits.load()
    train, test = splits["train"], splits["test"]
    assert train.image.shape == (1000, 8, 8, 3)
    assert test.image.shape == (797, 8, 8, 3)
    assert train.image.dtype == np.uint8
    assert train.image.max() == 255
    assert train.label.dtype == np.int32
    shares = [np.bincount(split.label) / len(split.label) for split in (train, test)]
    np.testing.assert_allclose(*shares, atol=0.002)
    again = digits.load()["test"]
    np.testing.assert_array_equal(again.label, test.label)


def labelled(*counts):
    label = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    image = np.arange(len(label), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Split(image, label)


def test_a_fraction_keeps_the_classes_in_proportion_and_is_always_the_same():
    split = labelled(40, 80, 20)
    kept = datasets.stratified(split, 0.25, 3)
    np.testing.assert_array_equal(np.bincount(kept.label), [10, 20, 5])
    assert len(np.unique(kept.image)) == 35
    again = datasets.stratified(split, 0.25, 3)
    np.testing.assert_array_equal(again.image, kept.image)
    assert datasets.stratified(split, 1.0, 3) is split


def test_too_small_a_fraction_is_refused():
    with pytest.raises(ValueError, match=r"data\.train_fraction=0\.01 leaves 1 of 140"):
        datasets.stratified(labelled(40, 80, 20), 0.01, 3)


def test_unknown_data_sets_are_refused():
    config = recipes.digits().data
    config.name = "mnist"
    with pytest.raises(ValueError, match=r"data\.name='mnist' is none of"):
        datasets.load(config)


def test_data_that_is_not_prepared_names_the_command(tmp_path):
    config = recipes.ofd().data
    config.data_dir = str(tmp_path)
    command = rf"python -m kdjax\.data\.prepare cifar100 --data_dir={tmp_path}"
    with pytest.raises(FileNotFoundError, match=command):
        datasets.load(config)
