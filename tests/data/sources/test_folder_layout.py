import unicodedata

import pytest

from kdjax.data.sources import folder_layout


def make(root, *files):
    """Makes empty files: nothing is read to list them."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return str(root)


FILES = ("train/ants/0.png", "train/bees/0.png", "val/ants/0.png", "val/bees/0.png")


def test_images_below_subfolders_of_a_class_are_found(tmp_path):
    layout = folder_layout.list_layout(
        make(
            tmp_path,
            *FILES,
            "train/ants/day2/b.PNG",
            "train/ants/day2/night/a.jpg",
            "train/ants/day1.jpg/a.png",
            "train/wasps/day1/a.JFIF",
            "train/wasps/day1/b.gif",
            "train/wasps/day1/c.Tiff",
            "train/wasps/empty/.hidden",
        )
    )
    assert layout.class_names == ("ants", "bees", "wasps")
    assert layout.sources["train"].names == [
        "train/ants/0.png",
        "train/ants/day1.jpg/a.png",
        "train/ants/day2/b.PNG",
        "train/ants/day2/night/a.jpg",
        "train/bees/0.png",
        "train/wasps/day1/a.JFIF",
        "train/wasps/day1/b.gif",
        "train/wasps/day1/c.Tiff",
    ]
    assert layout.sources["train"].label.tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    assert layout.others == {"train": {}, "test": {}}


def test_other_files_are_told_apart_by_name_and_kind(tmp_path):
    data_dir = make(tmp_path, *FILES, "train/ants/day1/notes.txt", "val/bees/README")
    ants = tmp_path / "train" / "ants"
    (ants / "broken.jpg").symlink_to("nothing.jpg")
    (ants / "itself.jpg").symlink_to("itself.jpg")
    (ants / "day1" / "up").symlink_to("..")
    (tmp_path / "train" / "bees" / "linked.png").symlink_to(ants / "0.png")
    layout = folder_layout.list_layout(data_dir)
    assert layout.others["train"] == {
        "train/ants/broken.jpg": "is a broken link",
        "train/ants/itself.jpg": "is a broken link",
        "train/ants/day1/notes.txt": "is a .txt file",
        "train/ants/day1/up": "is a link to a folder that it is in",
    }
    assert layout.others["test"] == {"val/bees/README": "has no suffix"}
    assert layout.sources["train"].names[1:] == [
        "train/bees/0.png",
        "train/bees/linked.png",
    ]


def test_files_of_the_system_are_ignored(tmp_path):
    layout = folder_layout.list_layout(
        make(
            tmp_path,
            *FILES,
            "train/ants/Thumbs.db",
            "val/ants/desktop.ini",
            "val/ants/.DS_Store",
            "train/bees/@eaDir/0.png",
            "train/@eaDir/0.png",
            "train/__MACOSX/ants/0.png",
            "val/__MACOSX/._0.png",
        )
    )
    assert layout.class_names == ("ants", "bees")
    assert [len(source) for source in layout.sources.values()] == [2, 2]
    assert layout.others == {"train": {}, "test": {}}


def test_names_are_compared_in_one_form_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(x, "müll") for x in ("NFC", "NFD"))
    data_dir = make(
        tmp_path,
        f"train/{decomposed}/1.png",
        f"train/{decomposed}/{decomposed}.png",
        f"train/{decomposed}/mz.png",
        "train/mz/0.png",
        f"val/{composed}/0.png",
    )
    layout = folder_layout.list_layout(data_dir)
    # The composed letter comes after all ASCII letters, the two-part one before z.
    assert layout.class_names == ("mz", composed)
    assert layout.sources["train"].names[1:] == [
        f"train/{decomposed}/{name}.png" for name in ("1", "mz", decomposed)
    ]
    assert layout.sources["test"].label.tolist() == [1]
    make(tmp_path, f"train/{composed}/0.png")
    with pytest.raises(ValueError, match="two folders of train are called 'müll'"):
        folder_layout.list_layout(data_dir)
