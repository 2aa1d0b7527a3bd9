import re

import numpy as np
import pytest
from PIL import Image

from kdjax.data.sources import folder

CLASSES = ["ants", "bees", "Wasps"]
EXPECTED = ".jpg, .jpeg, .jfif, .png, .webp, .bmp, .ppm, .pgm, .tif, .tiff, .gif"


def write(path, level, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 0, 0)).save(path)


def make(root, test="test"):
    """Makes four training and two test images of each class, no two alike."""
    for number, name in enumerate(CLASSES):
        for k in range(4):
            write(root / "train" / name / f"{k}.png", 20 * number + k)
        for k in range(2):
            write(root / test / name / f"{k}.PNG", 100 + 20 * number + k)
    return str(root)


def levels(split):
    return split.image[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_classes_are_the_sorted_names_of_folders(tmp_path, test):
    data_dir = make(tmp_path, test)
    assert folder.describe(data_dir)[:3] == (3, (5, 6, 3), 18)
    splits, skipped = folder.load(data_dir)
    # Sorted as text is: capitals first.
    assert levels(splits["train"]) == [40, 41, 42, 43, 0, 1, 2, 3, 20, 21, 22, 23]
    assert splits["train"].label.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert levels(splits["test"]) == [140, 141, 100, 101, 120, 121]
    assert splits["test"].label.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits["train"].image.dtype == np.uint8
    assert splits["train"].label.dtype == np.int32
    assert skipped == {"train": 0, "test": 0}


def test_test_is_preferred_to_val_and_hidden_files_are_ignored(tmp_path, capsys):
    data_dir = make(tmp_path)
    write(tmp_path / "val" / "ants" / "0.png", 255)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "ants" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "train" / "README.txt").write_text("beside the classes")
    splits, skipped = folder.load(data_dir)
    assert len(splits["test"].label) == 6
    assert sum(skipped.values()) == 0
    assert capsys.readouterr().err == (
        f"kdjax: data.data_dir='{data_dir}': val is not used; the test split is test\n"
    )


def test_a_test_folder_without_labels_is_passed_over(tmp_path, capsys):
    data_dir = make(tmp_path, "val")
    for k in range(3):
        write(tmp_path / "test" / f"{k}.png", 255)
    splits, _ = folder.load(data_dir)
    assert levels(splits["test"]) == [140, 141, 100, 101, 120, 121]
    assert capsys.readouterr().err == (
        f"kdjax: data.data_dir='{data_dir}': test has 3 images, but in no class folder;"
        " the test split is val\n"
    )
    # Some put them into one folder.
    (tmp_path / "test").rename(tmp_path / "images")
    (tmp_path / "test").mkdir()
    (tmp_path / "images").rename(tmp_path / "test" / "images")
    folder.open_sources(data_dir)
    assert capsys.readouterr().err == (
        f"kdjax: data.data_dir='{data_dir}': test has 1 class that train does not"
        " have: images; the test split is val\n"
    )


@pytest.mark.parametrize("train", ["train", ""])
def test_a_folder_without_a_test_split_is_all_training_images(tmp_path, train):
    make(tmp_path / "split")
    remove(tmp_path / "split" / "test")
    data_dir = tmp_path / "split" if train else tmp_path / "split" / "train"
    with pytest.raises(ValueError, match=r"; data\.test_fraction=0\.2 would test on a"):
        folder.describe(str(data_dir))
    description = folder.describe(str(data_dir), test_fraction=0.5)
    assert description[:5] == (3, (5, 6, 3), 12, 12, ("Wasps", "ants", "bees"))
    (name, split), *others = folder.load(str(data_dir), test_fraction=0.5)[0].items()
    assert (name, others) == ("train", [])
    assert levels(split) == [40, 41, 42, 43, 0, 1, 2, 3, 20, 21, 22, 23]


def test_a_test_split_is_not_ignored(tmp_path):
    data_dir = make(tmp_path, "val")
    message = f"data.test_fraction=0.5 but data.data_dir='{data_dir}' has a test split:"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        folder.describe(data_dir, test_fraction=0.5)


def test_a_class_without_test_images_is_named(tmp_path, capsys):
    data_dir = make(tmp_path)
    for path in (tmp_path / "test" / "ants").iterdir():
        path.unlink()
    (tmp_path / "test" / "ants").rmdir()
    assert folder.load(data_dir).splits["test"].label.tolist() == [0, 0, 2, 2]
    line = f"data.data_dir='{data_dir}': test has no good images of 1 class: ants\n"
    assert capsys.readouterr().err == f"kdjax: {line}"


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    data_dir = make(tmp_path)
    write(tmp_path / "train" / "bees" / "9.png", 7, (60, 50))
    with pytest.raises(ValueError, match=r"set data\.image_size$") as error:
        folder.load(data_dir)
    assert "train/bees/9.png has 60x50 pixels and others 6x5" in str(error.value)
    assert folder.describe(data_dir, 8)[:3] == (3, (8, 8, 3), 19)
    splits, _ = folder.load(data_dir, 8)
    assert splits["train"].image.shape == (13, 8, 8, 3)
    assert levels(splits["train"])[-1] == 7


@pytest.fixture
def damaged(tmp_path):
    """A folder with an empty file first, and two of other kinds."""
    data_dir = make(tmp_path)
    (tmp_path / "train" / "Wasps" / "0.png").write_bytes(b"")
    (tmp_path / "train" / "bees" / "notes.txt").write_bytes(b"x")
    (tmp_path / "test" / "ants" / "more").write_bytes(b"x")
    return data_dir


def test_bad_images_are_rejected_by_name(damaged):
    assert folder.describe(damaged)[:3] == (3, (5, 6, 3), 18)
    message = (
        f"data.data_dir='{damaged}': 3 of 20 files cannot be used:"
        " train/Wasps/0.png (is not one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM),"
        " train/bees/notes.txt (is a .txt file), test/ants/more (has no suffix);"
        f" image files end in {EXPECTED};"
        " data.bad_images='skip' leaves them out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        folder.load(damaged)


def test_files_that_are_no_images_are_rejected_before_any_is_read(damaged):
    message = "2 of 20 files cannot be used: train/bees/notes.txt (is a .txt file), "
    with pytest.raises(ValueError, match=re.escape(message)):
        folder.open_sources(damaged)


def test_files_that_only_look_like_images_are_rejected_before_any_is_read(damaged):
    """A run asks for the fingerprint before its first step, whatever its pipeline."""
    layout = folder.describe(damaged).layout
    message = (
        r": 3 of 20 files cannot be used: train/Wasps/0\.png \(is empty\), "
        r"train/bees/notes\.txt \(is a \.txt file\), test/ants/more \(has no suffix\);"
    )
    with pytest.raises(ValueError, match=message):
        folder.fingerprint(layout)
    found = folder.fingerprint(layout, "skip")
    assert found["train"].startswith("12 files, ")


def test_bad_images_are_skipped_and_counted(damaged, capsys):
    sources, skipped = folder.open_sources(damaged, bad_images="skip")
    assert skipped == {"train": 2, "test": 1}
    assert [len(source) for source in sources.values()] == [11, 6]
    capsys.readouterr()
    splits, skipped = folder.load(damaged, bad_images="skip")
    assert skipped == {"train": 2, "test": 1}
    assert levels(splits["train"]) == [41, 42, 43, 0, 1, 2, 3, 20, 21, 22, 23]
    assert splits["train"].label.tolist() == [0] * 3 + [1] * 4 + [2] * 4
    assert len(splits["test"].label) == 6
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "skipped, 3 of 20 files cannot be used: train/Wasps/0.png (" in err


def test_an_error_names_the_first_bad_images(tmp_path):
    data_dir = make(tmp_path)
    for k in range(10):
        (tmp_path / "train" / "ants" / f"bad_{k}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"10 of 28 files cannot be used") as error:
        folder.load(data_dir)
    assert "bad_4.png (" in str(error.value)
    assert "bad_5.png" not in str(error.value)
    assert "and 5 more; data.bad_images='skip' leaves them out" in str(error.value)


def test_a_class_without_good_images_is_rejected(tmp_path):
    data_dir = make(tmp_path)
    for path in (tmp_path / "train" / "Wasps").iterdir():
        path.write_bytes(b"")
    message = "train has no good images of 1 class: Wasps"
    with pytest.raises(ValueError, match=message):
        folder.load(data_dir, bad_images="skip")


def remove(path):
    for child in path.iterdir():
        remove(child) if child.is_dir() else child.unlink()
    path.rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: remove(root),
            "images' does not exist$",
        ),
        (
            lambda root: [remove(root), root.write_bytes(b"")],
            "images' is not a folder$",
        ),
        (
            lambda root: [remove(root / "train"), remove(root / "test")],
            "does not hold the folders train, and test, val, v",
        ),
        (lambda root: remove(root / "test"), "does not hold the folders train, and te"),
        (lambda root: remove(root / "train"), "does not hold the folders train, and t"),
        (
            lambda root: [remove(root / "train" / name) for name in CLASSES[1:]],
            "train has 1 folder, expected one for each of at least 2 classes",
        ),
        (
            lambda root: [
                remove(root / "train"),
                *(write(root / "train" / f"{k}.png", 1) for k in range(4)),
            ],
            "train has 0 folders and 4 images in none of them, expected one for each",
        ),
        (
            lambda root: [
                remove(root / "test"),
                *(write(root / "val" / f"{k}.png", 1) for k in range(4)),
            ],
            "val has 4 images, but in no class folder; data.test_fraction=0.2 would",
        ),
        (
            lambda root: (root / "train" / "flies").mkdir(),
            "/train has 1 folder without images: flies",
        ),
        (
            lambda root: write(root / "test" / "flies" / "0.png", 1),
            "test has 1 class that train does not have: flies",
        ),
        (
            lambda root: [remove(root / "test" / name) for name in CLASSES],
            "test has no images",
        ),
    ],
)
def test_other_layouts_are_rejected(tmp_path, change, message):
    data_dir = make(tmp_path / "images")
    change(tmp_path / "images")
    with pytest.raises(ValueError, match=message) as error:
        folder.load(data_dir)
    assert re.match(f"data.data_dir='{data_dir}'(:| )", str(error.value))
    assert "\n" not in str(error.value)


def test_a_folder_must_be_given():
    with pytest.raises(ValueError, match=r"^data\.data_dir is not set: data\.name='f"):
        folder.describe("")


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    make(tmp_path / "images")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.describe("~/images").num_classes == 3
    assert len(folder.load("~/images").splits["train"].label) == 12
