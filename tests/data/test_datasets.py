import jax
import numpy as np
import pytest
from PIL import Image

from kdjax import recipes
from kdjax.data import datasets, subsets
from kdjax.data.sources import decode, digits
from tests import small_runs


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


def test_validation_images_come_from_the_kept_part_of_the_training_images():
    config = recipes.compose(data="digits").data
    assert datasets.load(config).validation is None
    config.train_fraction, config.validation_fraction = 0.5, 0.2
    data = datasets.load(config)
    assert [len(split.label) for split in data[:3]] == [400, 797, 100]
    config.validation_fraction = 0.0
    kept = {image.tobytes() for image in datasets.load(config).train.image}
    parts = [{image.tobytes() for image in split.image} for split in data[:3:2]]
    assert parts[0] | parts[1] == kept
    assert data.skipped == {"train": 0, "test": 0}


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100"])
def test_some_data_sets_are_described_before_they_are_prepared(name, tmp_path):
    config = recipes.compose(data=name).data
    config.data_dir = str(tmp_path)
    found = datasets.describe(config)
    assert found.num_classes == (100 if name == "cifar100" else 10)
    assert found.image_shape == ((8, 8, 3) if name == "digits" else (32, 32, 3))
    assert len(set(found.class_names)) == found.num_classes
    assert (
        found.class_names[:2]
        == {
            "digits": ("0", "1"),
            "cifar10": ("airplane", "automobile"),
            "cifar100": ("apple", "aquarium_fish"),
        }[name]
    )


@pytest.mark.parametrize("name", ["mnist", "", "tfds:", "TFDS:mnist", "folder:x"])
def test_unknown_data_sets_are_rejected(name):
    config = recipes.compose(data="digits").data
    config.name = name
    for function in (datasets.describe, datasets.load):
        with pytest.raises(
            ValueError, match=f"data\\.name='{name}' is none of digits, "
        ):
            function(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tfds:no_such_set", "TFDS has no data set 'no_such_set'"),
        (
            "tfds:cifar100/no_such_config",
            "TFDS cannot make data set 'cifar100/no_such_co",
        ),
        (
            "tfds:cifar100:9.9.9",
            "data set 'cifar100:9.9.9': Dataset cifar100 cannot be loaded at version",
        ),
        ("tfds:a b:c", "TFDS cannot make data set 'a b:c': Parsing"),
    ],
)
def test_data_sets_that_tfds_does_not_have_are_rejected(name, message, tmp_path):
    config = recipes.compose(data="digits").data
    config.name, config.data_dir = name, str(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        datasets.describe(config)
    assert "\n" not in str(error.value)


def test_only_images_of_a_folder_are_resized():
    config = recipes.compose(data="digits").data
    config.image_size = 32
    with pytest.raises(
        ValueError, match=r"^data\.image_size=32 but data\.name='digits'"
    ):
        datasets.describe(config)


def test_a_folder_is_a_data_set(tmp_path):
    for split, number in (("train", 4), ("val", 2)):
        for name in ("ants", "bees"):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(number):
                image = Image.new("RGB", (6, 5), (k, 0, len(name)))
                image.save(tmp_path / split / name / f"{k}.png")
    (tmp_path / "train" / "ants" / "0.png").write_bytes(b"")
    config = recipes.compose(data="digits").data
    config.name, config.data_dir = "folder", str(tmp_path)
    config.train_fraction, config.bad_images = 1.0, "skip"
    assert datasets.describe(config)[:5] == (2, (5, 6, 3), 12, 8, ("ants", "bees"))
    data = datasets.load(config)
    assert data.train.image.shape == (7, 5, 6, 3)
    assert data.test.label.tolist() == [0, 0, 1, 1]
    assert data.skipped == {"train": 1, "test": 0}


@pytest.mark.parametrize("pipeline", ["in_memory", "streaming"])
@pytest.mark.parametrize("size", [(6, 5), (6, 6)])
def test_images_of_another_size_are_one_line_without_an_image_size(
    tmp_path, size, pipeline
):
    small_runs.write_images(tmp_path, ["ants", "bees"], {"train": 3, "test": 1}, size)
    other = tmp_path / "train" / "bees" / "1.png"
    Image.new("RGB", (9, 9)).save(other)
    config = recipes.compose(data="digits").data
    config.update(name="folder", data_dir=str(tmp_path), pipeline=pipeline)
    config.update(train_fraction=1.0, image_size=0)
    message = (
        rf"^data\.data_dir='{tmp_path}': train/bees/1\.png has 9x9 pixels and others"
        rf" 6x{size[1]}: set data\.image_size$"
    )
    with pytest.raises(ValueError, match=message):
        datasets.load(config).train.pixels(np.arange(6))
    config.image_size = 4
    assert datasets.load(config).train.pixels(np.arange(6)).shape == (6, 4, 4, 3)


def test_random_crops_resize_images_of_any_size(tmp_path):
    small_runs.write_images(tmp_path, ["ants", "bees"], {"train": 3, "test": 1})
    Image.new("RGB", (9, 12)).save(tmp_path / "train" / "bees" / "1.png")
    config = recipes.compose(data="digits").data
    config.update(name="folder", data_dir=str(tmp_path), train_fraction=1.0)
    config.crop = "random_resized"
    assert datasets.load(config).train.pixels(np.arange(6)).shape == (6, 8, 8, 3)


def test_of_a_folder_no_more_images_are_read_than_are_chosen(tmp_path, monkeypatch):
    small_runs.write_images(tmp_path, ["ants", "bees"], {"train": 10, "test": 2})
    config = recipes.compose(data="digits").data
    config.update(name="folder", data_dir=str(tmp_path), image_size=8)
    config.update(train_fraction=1.0, pipeline="in_memory")
    whole = datasets.load(config).train
    chosen = subsets.stratified(whole, 0.6, ["ants", "bees"])
    chosen, held_out = subsets.hold_out(chosen, 0.25, ["ants", "bees"])
    read, load = [], decode.load
    monkeypatch.setattr(decode, "load", lambda file: read.append(file) or load(file))
    config.update(train_fraction=0.6, validation_fraction=0.25)
    data = datasets.load(config)
    assert len(read) == 12 + 4
    for found, expected in ((data.train, chosen), (data.validation, held_out)):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    config.bad_images = "skip"
    jax.tree.map(np.testing.assert_array_equal, datasets.load(config).train, chosen)
    assert len(read) == 16 + 24


@pytest.mark.parametrize("pipeline", ["in_memory", "streaming"])
def test_test_images_are_taken_from_a_data_set_without_a_test_split(tmp_path, pipeline):
    for name, number in (("ants", 10), ("bees", 20)):
        (tmp_path / name).mkdir()
        for k in range(number):
            Image.new("RGB", (2, 2), (k, 0, number)).save(tmp_path / name / f"{k}.png")
    config = recipes.compose(data="digits").data
    config.name, config.data_dir, config.pipeline = "folder", str(tmp_path), pipeline
    config.test_fraction, config.train_fraction = 0.2, 0.5
    data = datasets.load(config)
    assert [np.bincount(split.label).tolist() for split in data[:2]] == [[4, 8], [2, 4]]
    assert data.skipped == {"train": 0, "test": 0}
    config.train_fraction = 1.0
    pixels = [
        split.pixels(np.arange(split.num_examples))
        for split in datasets.load(config)[:2]
    ]
    assert len(np.unique(np.concatenate(pixels)[:, 0, 0], axis=0)) == 30
    # No part of the test images is ever trained on.
    assert {image.tobytes() for image in data.test.pixels(np.arange(6))} == {
        image.tobytes() for image in pixels[1]
    }


@pytest.mark.parametrize("name", ["digits", "cifar10", "imagenet"])
def test_a_data_set_with_a_test_split_has_no_test_fraction(name):
    config = recipes.compose(data=name).data
    config.test_fraction = 0.2
    message = rf"^data\.test_fraction=0\.2 but data\.name='{name}' has a test split$"
    with pytest.raises(ValueError, match=message):
        datasets.describe(config)


def fingerprint(data_dir):
    config = recipes.compose(data="digits").data
    config.name, config.data_dir, config.image_size = "folder", str(data_dir), 8
    return datasets.fingerprint(config, datasets.describe(config))


def files_of(root, test="val", **sizes):
    """Makes files of some sizes, a class each, for both splits."""
    for split in ("train", test):
        for name, size in sizes.items():
            (root / split / name).mkdir(parents=True)
            (root / split / name / "0.png").write_bytes(b"GIF89a" + b"x" * size)
    return root


def test_a_fingerprint_tells_folders_apart_wherever_they_lie(tmp_path):
    found = fingerprint(files_of(tmp_path / "a", ants=3, bees=4))
    assert found["train"].startswith("2 files, ")
    assert fingerprint(files_of(tmp_path / "b", "test", ants=3, bees=4)) == found
    renamed = fingerprint(files_of(tmp_path / "c", ants=3, wasps=4))
    assert not found.items() & renamed.items()
    changed = files_of(tmp_path / "d", ants=3, bees=4)
    (changed / "train" / "bees" / "0.png").write_bytes(b"GIF89a" + b"x" * 5)
    changed = fingerprint(changed)
    assert {part for part in found if found[part] != changed[part]} == {"train"}
    exchanged = files_of(tmp_path / "e", ants=4, bees=3)
    exchanged = fingerprint(exchanged)
    assert exchanged["train"] != found["train"]


def test_digits_have_a_fingerprint():
    config = recipes.compose(data="digits").data
    found = datasets.fingerprint(config, datasets.describe(config))
    assert set(found) == {"train", "test"}


def test_an_unprepared_data_set_names_the_command(tmp_path):
    config = recipes.compose().data
    config.data_dir = str(tmp_path)
    command = rf"python -m kdjax\.data\.prepare cifar100 --data_dir={tmp_path}"
    with pytest.raises(FileNotFoundError, match=command):
        datasets.load(config)
