import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from kdjax.data import prepare
from kdjax.data.sources import tfds_source

#: Not in the order of the alphabet, which must not matter.
WNIDS = ["n03", "n01", "n02"]
FOLDER = "tiny-imagenet-200"


def jpeg(level, *, mode="RGB", size=(64, 64)):
    """Makes an image of one gray level."""
    stream = io.BytesIO()
    color = level if mode == "L" else (level,) * 3
    Image.new(mode, size, color).save(stream, "JPEG")
    return stream.getvalue()


def published():
    """Makes the members of an archive: two training images a class, one to test."""
    members = {
        "wnids.txt": "".join(f"{wnid}\n" for wnid in WNIDS).encode(),
        "words.txt": b"n01\tfish\nn02\tbird\nn03\tcat\n",
        "test/images/test_0.JPEG": jpeg(0),
    }
    annotations = ""
    for number, wnid in enumerate(WNIDS):
        for k in range(2):
            image = jpeg(20 * number + k, mode="L" if k else "RGB")
            members[f"train/{wnid}/images/{wnid}_{k}.JPEG"] = image
        members[f"train/{wnid}/{wnid}_boxes.txt"] = b"0\t0\t1\t1\n"
        members[f"val/images/val_{number}.JPEG"] = jpeg(100 + number)
        annotations += f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n"
    members["val/val_annotations.txt"] = annotations.encode()
    return {f"{FOLDER}/{name}": content for name, content in members.items()}


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{FOLDER}/train/", b"")
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_prepared_data_set_can_be_loaded(tmp_path, capfd):
    archive = write_zip(tmp_path / "a.zip", published())
    argv = ["tiny_imagenet", f"--archive={archive}", f"--data_dir={tmp_path / 'sets'}"]
    assert prepare.main(argv) == 0
    where = tmp_path / "sets" / "tiny_imagenet" / "1.0.0"
    assert capfd.readouterr() == (
        f"tiny_imagenet/1.0.0 is in {where}: 6 train and 3 test images\n",
        "",
    )
    found = tfds_source.describe("tiny_imagenet", str(tmp_path / "sets"))
    assert found[:5] == (3, (64, 64, 3), 9, 6, tuple(WNIDS))
    splits = tfds_source.load("tiny_imagenet", str(tmp_path / "sets"))
    expected = {"train": [0, 1, 20, 21, 40, 41], "test": [100, 101, 102]}
    for name, levels in expected.items():
        image, label = splits[name]
        assert image.shape == (len(levels), 64, 64, 3)
        assert np.ptp(image.reshape(len(levels), -1), axis=1).max() == 0
        order = np.argsort(image[:, 0, 0, 0])
        np.testing.assert_array_equal(image[order, 0, 0, 0], levels)
        # The class is the place among the wnids, in steps of 20 levels.
        numbers = [0, 1, 2] if name == "test" else [0, 0, 1, 1, 2, 2]
        np.testing.assert_array_equal(label[order], numbers)
    builder = tfds_source.find_builder("tiny_imagenet", str(tmp_path / "sets"))
    assert builder.info.features["label"].names == WNIDS


def test_the_error_without_an_archive_names_its_address(tmp_path, capsys):
    assert prepare.main(["tiny_imagenet", f"--data_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        "prepare: tiny_imagenet is prepared from"
        " http://cs231n.stanford.edu/tiny-imagenet-200.zip: download it and give"
        " --archive=PATH\n"
    )


def without(name):
    return {k: v for k, v in published().items() if k != f"{FOLDER}/{name}"}


def with_member(name, content):
    return published() | {f"{FOLDER}/{name}": content}


BAD_MEMBERS = {
    "another archive": (lambda: {"a.txt": b""}, f"lacks {FOLDER}/wnids.txt"),
    "no annotations": (
        lambda: without("val/val_annotations.txt"),
        f"lacks {FOLDER}/val/val_annotations.txt",
    ),
    "a class twice": (
        lambda: with_member("wnids.txt", b"n01\nn02\nn01\n"),
        "wnids.txt names 3 classes, 2 of them different",
    ),
    "no class": (lambda: with_member("wnids.txt", b"\n"), "names 0 classes, 0 of"),
    "another class": (
        lambda: with_member("train/n09/images/n09_0.JPEG", jpeg(0)),
        "holds images of n09, not in",
    ),
    "another class to test": (
        lambda: with_member("val/val_annotations.txt", b"val_0.JPEG\tn09\n"),
        "val_1.JPEG has an image, but lacks a class",
    ),
    "a class without images": (
        lambda: with_member("wnids.txt", b"n01\nn02\nn03\nn04\n"),
        "holds no images of n04 to train on",
    ),
    "an image missing": (
        lambda: without("val/images/val_1.JPEG"),
        "val_1.JPEG has a class, but lacks an image",
    ),
    "an annotation twice": (
        lambda: with_member("val/val_annotations.txt", b"val_0.JPEG n01\n" * 2),
        "val_annotations.txt names val_0.JPEG twice",
    ),
    "half a line": (
        lambda: with_member("val/val_annotations.txt", b"val_0.JPEG\n"),
        "val_annotations.txt: line 1 does not name an image and its class",
    ),
    "no image": (
        lambda: with_member("train/n01/images/n01_0.JPEG", b"hello"),
        "n01_0.JPEG cannot be decoded",
    ),
    "a cut image": (
        lambda: with_member("train/n01/images/n01_0.JPEG", jpeg(9)[:-9]),
        "n01_0.JPEG cannot be decoded",
    ),
    "a large image": (
        lambda: with_member("train/n01/images/n01_0.JPEG", jpeg(9, size=(64, 65))),
        "n01_0.JPEG has 64x65 pixels, not 64x64",
    ),
    "no text": (lambda: with_member("wnids.txt", b"\xff"), "'utf-8' codec can't"),
}


def refusal(path, capsys):
    """Runs the command line in vain; returns what it says after the path."""
    sets = path.parent / "sets"
    argv = ["tiny_imagenet", f"--archive={path}", f"--data_dir={sets}"]
    assert prepare.main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not sets.exists()
    assert err.startswith(f"prepare: {path}: ")
    return err


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_bad_members_are_rejected_and_nothing_is_written(tmp_path, capsys, case):
    make_members, message = BAD_MEMBERS[case]
    path = write_zip(tmp_path / "a.zip", make_members())
    assert message in refusal(path, capsys)


def test_an_incomplete_zip_is_rejected(tmp_path, capsys):
    assert "cannot be read: No such file" in refusal(tmp_path / "a.zip", capsys)
    path = write_zip(tmp_path / "b.zip", published())
    content = path.read_bytes()
    os.truncate(path, 5000)
    assert "not a complete zip archive: " in refusal(path, capsys)
    damaged = bytearray(content)
    damaged[content.index(b"n03\nn01")] ^= 1
    path.write_bytes(damaged)
    assert "not a complete zip archive: Bad CRC-32" in refusal(path, capsys)
