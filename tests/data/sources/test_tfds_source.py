import io
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kdjax.data.archives import cifar, cifar_builders
from kdjax.data.sources import tfds_source

COUNTS = {"train": 1203, "test": 5}  # More than one block, and a rest.


def make_archive():
    """Makes images that hold their own number, and labels that follow from it."""
    records = {}
    for split, num in COUNTS.items():
        image = np.zeros((num, 32, 32, 3), np.uint8)
        image[:, 3, 4, 0] = np.arange(num) // 256
        image[:, 3, 4, 2] = np.arange(num) % 256
        labels = {
            "label": np.arange(num) * 7 % 100,
            "coarse_label": np.arange(num) % 20,
        }
        records[split] = cifar.Records(image, labels)
    names = {
        "label": [f"fish_{k}" for k in range(100)],
        "coarse_label": [f"animal_{k}" for k in range(20)],
    }
    return cifar.Archive(records, names)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepares a small set once; tests only read it."""
    tfds.disable_progress_bar()
    data_dir = tmp_path_factory.mktemp("sets")
    cifar_builders.Cifar100(
        archive=make_archive(), data_dir=data_dir, file_format="array_record"
    ).download_and_prepare(download_dir=tmp_path_factory.mktemp("downloads"))
    return data_dir


@pytest.fixture
def changed(prepared, tmp_path):
    """Gives a way to copy the prepared set with its description changed."""
    version = pathlib.Path("cifar100", "3.0.2")

    def change(file_name, old, new):
        target = tmp_path / version
        target.mkdir(parents=True)
        for path in (prepared / version).iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        text = (target / file_name).read_text()
        assert old in text
        (target / file_name).write_text(text.replace(old, new))
        return str(tmp_path)

    return change


def test_loads_every_pixel_and_label_once(prepared):
    splits = tfds_source.load("cifar100", str(prepared))
    assert list(splits) == ["train", "test"]
    for name, split in splits.items():
        assert split.image.dtype == np.uint8
        assert split.label.dtype == np.int32
        assert split.label.shape == (COUNTS[name],)
        number = 256 * split.image[:, 3, 4, 0].astype(int) + split.image[:, 3, 4, 2]
        np.testing.assert_array_equal(np.sort(number), np.arange(COUNTS[name]))
        written = make_archive().records[name]
        np.testing.assert_array_equal(split.image, written.image[number])
        np.testing.assert_array_equal(split.label, written.labels["label"][number])


def test_loads_the_same_order_every_time(prepared):
    first = tfds_source.load("cifar100", str(prepared))["train"]
    second = tfds_source.load("cifar100", str(prepared))["train"]
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label, second.label)


def test_loading_prints_no_warnings(prepared, capfd, caplog):
    tfds_source.load("cifar100", str(prepared))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


class Blobs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Prepares a set that TFDS has no code for: one gray image a split."""

    VERSION = tfds.core.Version("1.0.0")
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)

    def __init__(
        self,
        *,
        exif=None,
        splits=("train", "test"),
        shape=(6, 8, 1),
        label="classes",
        value=2,
        **kwargs,
    ):
        self.exif = exif
        self.splits = splits
        self.shape = shape
        if label == "classes":
            label = tfds.features.ClassLabel(num_classes=3)
        self.label = label
        self.value = "x" if isinstance(label, tfds.features.Text) else value
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.shape)}
        if self.label:
            features["label"] = self.label
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in self.splits}

    def _generate_examples(self):
        image = Image.fromarray(self.image)
        if self.exif:
            file = io.BytesIO()
            image.save(file, "PNG", exif=self.exif)
            image = io.BytesIO(file.getvalue())
        example = {"image": image}
        yield 0, example | ({"label": self.value} if self.label else {})


def prepare_blobs(tmp_path, **kwargs):
    tfds.disable_progress_bar()
    builder = Blobs(data_dir=tmp_path / "sets", **kwargs)
    builder.download_and_prepare(download_dir=tmp_path / "downloads")
    return str(tmp_path / "sets")


def test_gray_images_become_rgb(tmp_path):
    splits = tfds_source.load("blobs", prepare_blobs(tmp_path))
    for split in splits.values():
        assert split.image.shape == (1, 6, 8, 3)
        for channel in range(3):
            np.testing.assert_array_equal(split.image[0, :, :, channel], Blobs.image)
        assert split.label == [2]


@pytest.fixture
def turned(tmp_path):
    """Gives a way to prepare a set of one image with an orientation of EXIF."""

    def prepare(orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        return prepare_blobs(tmp_path, exif=exif)

    return prepare


def test_the_orientation_of_exif_is_applied_as_in_a_folder(turned):
    found = tfds_source.load("blobs", turned(3))["train"].image[0, :, :, 0]
    np.testing.assert_array_equal(found, Blobs.image[::-1, ::-1])


def test_rotated_images_need_an_image_size(turned):
    data_dir = turned(6)
    message = "^blobs: its split train: image 0 is rotated: set data.image_size$"
    with pytest.raises(ValueError, match=message):
        tfds_source.load("blobs", data_dir)
    image = tfds_source.load("blobs", data_dir, image_size=6)["train"].image
    np.testing.assert_array_equal(image[0, :, :, 0], np.rot90(Blobs.image[:, 1:7], -1))


def test_a_data_set_is_described_without_reading_it(prepared, tmp_path):
    assert tfds_source.describe("cifar100", str(prepared))[:5] == (
        100,
        (32, 32, 3),
        sum(COUNTS.values()),
        COUNTS["train"],
        tuple(make_archive().class_names["label"]),
    )
    found = tfds_source.describe("blobs", prepare_blobs(tmp_path))
    assert found[:5] == (3, (6, 8, 3), 2, 1, ("0", "1", "2"))


def test_a_fingerprint_has_the_version_and_the_numbers_of_examples(prepared):
    assert tfds_source.fingerprint("cifar100", str(prepared)) == {
        "train": "cifar100/3.0.2, 1203 examples",
        "test": "cifar100/3.0.2, 5 examples",
    }


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"shape": (None, None, 1)},
            "blobs has images of different sizes: set data.image_size to resize them",
        ),
        (
            {"splits": ("train", "other")},
            "blobs has the splits train and other, expected train, and test or"
            " validation; data.test_fraction=0.2 would test on a fifth of train",
        ),
        ({"label": tfds.features.Text()}, "blobs: its feature label does not hold cla"),
        ({"label": None}, "blobs does not have the features image and label"),
    ],
)
def test_other_data_sets_are_rejected(tmp_path, kwargs, message):
    data_dir = prepare_blobs(tmp_path, **kwargs)
    for function in (tfds_source.describe, tfds_source.load):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            function("blobs", data_dir)


def test_a_split_without_labels_is_rejected(tmp_path):
    data_dir = prepare_blobs(tmp_path, value=-1)
    with pytest.raises(ValueError, match=r"^blobs: its split train has images without"):
        tfds_source.load("blobs", data_dir)


def test_the_validation_split_replaces_a_missing_test_split(tmp_path):
    data_dir = prepare_blobs(tmp_path, splits=("train", "validation"))
    splits = tfds_source.load("blobs", data_dir)
    assert list(splits) == ["train", "test"]
    np.testing.assert_array_equal(splits["test"].image[0, :, :, 0], Blobs.image)


def test_a_set_with_one_split_is_all_training_images(tmp_path):
    data_dir = prepare_blobs(tmp_path, splits=("train",))
    found = tfds_source.describe("blobs", data_dir, test_fraction=0.5)
    assert found.num_images == 1
    assert list(tfds_source.load("blobs", data_dir, test_fraction=0.5)) == ["train"]
    assert list(tfds_source.fingerprint("blobs", data_dir)) == ["train"]


def test_a_test_split_is_not_ignored(prepared):
    message = r"^data\.test_fraction=0\.5 but cifar100 has a test split: test$"
    with pytest.raises(ValueError, match=message):
        tfds_source.describe("cifar100", str(prepared), test_fraction=0.5)


def test_the_home_folder_is_expanded(prepared, monkeypatch):
    monkeypatch.setenv("HOME", str(prepared.parent))
    splits = tfds_source.load("cifar100", f"~/{prepared.name}")
    assert len(splits["train"].label) == COUNTS["train"]


@pytest.mark.parametrize("folder", ["sets", "two words"])
def test_an_unprepared_data_set_names_the_command(tmp_path, folder):
    data_dir = str(tmp_path / folder)
    with pytest.raises(FileNotFoundError) as raised:
        tfds_source.load("cifar100", data_dir)
    quoted = f"'{data_dir}'" if " " in folder else data_dir
    assert str(raised.value) == (
        f"data.data_dir='{data_dir}': cifar100 is not prepared in {data_dir};"
        f" prepare it with: python -m kdjax.data.prepare cifar100 --data_dir={quoted}"
    )
    assert not pathlib.Path(data_dir).exists()


def test_the_default_folder_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised:
        tfds_source.load("cifar100")
    assert str(raised.value) == (
        f"data.data_dir is not set: cifar100 is not prepared in {tmp_path};"
        f" prepare it with: python -m kdjax.data.prepare cifar100 --data_dir={tmp_path}"
    )


def test_an_unknown_data_set_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"^TFDS has no data set 'cifar1000'$"):
        tfds_source.load("cifar1000", str(tmp_path))


def test_another_file_format_is_rejected(changed):
    data_dir = changed("dataset_info.json", '"array_record"', '"tfrecord"')
    message = r"holds cifar100 in the file format tfrecord, expected array_record: .*"
    with pytest.raises(ValueError, match=message):
        tfds_source.load("cifar100", data_dir)


def test_a_damaged_description_is_one_line(changed):
    data_dir = changed("dataset_info.json", "{", "[")
    with pytest.raises(ValueError, match=r"^TFDS cannot make data set 'cifar100': Fai"):
        tfds_source.load("cifar100", data_dir)


@pytest.mark.parametrize(
    "damage", [pathlib.Path.unlink, lambda path: path.write_text("x")]
)
def test_damaged_images_are_one_line(changed, damage):
    data_dir = changed("features.json", "", "")
    (path,) = pathlib.Path(data_dir).rglob("*train.array_record*")
    damage(path)
    source = tfds_source.open_sources("cifar100", data_dir)["train"]
    for read in (lambda: source.read(0), source.labels):
        with pytest.raises(
            ValueError, match=r"^cifar100: its split train cannot be read: "
        ):
            read()


def test_a_folder_without_description_is_not_prepared(changed):
    data_dir = changed("features.json", "", "")
    pathlib.Path(data_dir, "cifar100", "3.0.2", "dataset_info.json").unlink()
    with pytest.raises(FileNotFoundError, match="cifar100 is not prepared in"):
        tfds_source.load("cifar100", data_dir)
