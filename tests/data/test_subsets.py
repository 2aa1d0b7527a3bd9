import re

import numpy as np
import pytest
from sklearn import model_selection

from kdjax.config import fields
from kdjax.data import subsets
from kdjax.data.split import Description, Split


def labeled(*counts):
    """Makes images that hold their own number, sorted by class."""
    label = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    image = np.arange(len(label)).reshape(-1, 1, 1, 1)
    return Split(image, label)


def numbers(split):
    return split.image.ravel().tolist()


def per_class(split):
    return np.bincount(split.label, minlength=3).tolist()


def test_a_fraction_keeps_the_classes_in_proportion_and_is_always_the_same():
    split = labeled(40, 80, 20)
    kept = subsets.stratified(split, 0.25, "abc")
    assert per_class(kept) == [10, 20, 5]
    assert len(set(numbers(kept))) == 35
    assert numbers(subsets.stratified(split, 0.25, "abc")) == numbers(kept)
    assert subsets.stratified(split, 1.0, "abc") is split


@pytest.mark.parametrize("counts", [(40, 80, 20), (33, 12, 5)])
@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_the_images_are_those_of_scikit_learn_where_no_class_is_missing(
    counts, fraction
):
    split = labeled(*counts)
    part, rest = model_selection.train_test_split(
        np.arange(sum(counts)),
        train_size=round(fraction * sum(counts)),
        stratify=split.label,
        random_state=0,
    )
    assert numbers(subsets.stratified(split, fraction, "abc")) == sorted(part)
    train, held_out = subsets.hold_out(split, fraction, "abc")
    assert (numbers(train), numbers(held_out)) == (sorted(rest), sorted(part))


def test_the_number_of_training_images_is_known_without_reading_them():
    split = labeled(40, 80, 20)
    config = fields.default().data
    description = Description(3, (1, 1, 3), 200, 140, tuple("abc"))
    assert subsets.num_train(config, description) == 140
    config.test_fraction, config.train_fraction = 0.2, 0.7
    config.validation_fraction = 0.3
    train, _ = subsets.hold_out(split, 0.2, "abc")
    train, _ = subsets.hold_out(subsets.stratified(train, 0.7, "abc"), 0.3, "abc")
    assert subsets.num_train(config, description) == train.num_examples == 55
    config.train_fraction = 0.01
    with pytest.raises(ValueError, match=r"train_fraction=0\.01 divides 112 images"):
        subsets.num_train(config, description)


@pytest.mark.parametrize(
    ("counts", "kept"), [((200, 100, 4), [19, 10, 1]), ((200, 99, 1), [19, 10, 1])]
)
def test_a_rare_class_keeps_an_image(counts, kept):
    split = labeled(*counts)
    found = subsets.stratified(split, 0.1, "abc")
    assert per_class(found) == kept
    assert numbers(found) == sorted(set(numbers(found)))
    assert numbers(subsets.stratified(split, 0.1, "abc")) == numbers(found)


@pytest.mark.parametrize(
    ("counts", "fraction", "train", "held_out"),
    [
        ((200, 100, 4), 0.1, [181, 90, 3], [19, 10, 1]),
        ((200, 100, 4), 0.9, [19, 10, 1], [181, 90, 3]),
        ((200, 100, 2), 0.5, [100, 50, 1], [100, 50, 1]),
    ],
)
def test_a_rare_class_is_in_both_parts(counts, fraction, train, held_out, capsys):
    split = labeled(*counts)
    parts = subsets.hold_out(split, fraction, "abc")
    assert [per_class(part) for part in parts] == [train, held_out]
    assert sorted(numbers(parts[0]) + numbers(parts[1])) == numbers(split)
    assert capsys.readouterr().err == ""


def test_the_only_image_of_a_class_is_trained_on(capsys):
    parts = subsets.hold_out(labeled(40, 1, 20, 1), 0.2, ("ants", "bees", "c", "d"))
    assert [per_class(part) for part in parts] == [[32, 1, 16, 1], [8, 0, 4]]
    assert capsys.readouterr().err == (
        "kdjax: data.validation_fraction=0.2 holds out no image of 2 classes that have"
        " only one: bees, d\n"
    )


def test_too_small_a_fraction_is_rejected():
    message = (
        r"data\.train_fraction=0\.01 divides 140 images into 1 and 139, fewer than"
    )
    with pytest.raises(ValueError, match=message):
        subsets.stratified(labeled(40, 80, 20), 0.01, "abc")


def test_held_out_images_are_stratified_and_none_is_lost():
    split = labeled(40, 80, 20)
    left, part = subsets.hold_out(split, 0.25, "abc")
    assert per_class(part) == [10, 20, 5]
    assert per_class(left) == [30, 60, 15]
    assert sorted(numbers(left) + numbers(part)) == numbers(split)
    again, _ = subsets.hold_out(split, 0.25, "abc")
    assert numbers(again) == numbers(left)
    assert subsets.hold_out(split, 0.0, "abc") == (split, None)


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0.01, "=0.01 divides 140 images into 1 and 139, fewer than the 3 classes"),
        (0.99, "=0.99 divides 140 images into 139 and 1, fewer than the 3 classes"),
    ],
)
def test_a_part_that_is_too_small_is_rejected(fraction, message):
    for field in ("validation_fraction", "test_fraction"):
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            subsets.hold_out(labeled(40, 80, 20), fraction, "abc", field)
        assert str(error.value).startswith(f"data.{field}=")
