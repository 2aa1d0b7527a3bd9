"""The splits, classes and files of a folder of images."""

import os
import pathlib
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kdjax.data.messages import setting, some
from kdjax.data.sources.folder_files import FolderSource

#: Extensions of image files, in any case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TESTS = ("test", "val")

#: What systems and programs leave in folders, in lower case, beside hidden files.
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx")


class Layout(NamedTuple):
    """What a folder holds.

    Attributes:
      class_names: in the order of the labels.
      sources: the image files of "train" and "test".
      others: files of each split that are no images, and the reason for each.
    """

    class_names: tuple[str, ...]
    sources: dict[str, FolderSource]
    others: dict[str, dict[str, str]]


def list_layout(data_dir: str) -> Layout:
    """Lists a folder, without opening any file.

    Raises:
      ValueError: in one line, if the folder has another layout.
    """
    root = _find_root(data_dir)
    folders = {"train": "train", "test": _test_folder(root)}
    class_names = _list_classes(root)
    sources, others = {}, {}
    for split, folder in folders.items():
        sources[split], others[split] = _list_split(root, folder, class_names)
    return Layout(class_names, sources, others)


def _find_root(data_dir: str) -> pathlib.Path:
    if not data_dir:
        raise ValueError(
            "data.data_dir is not set: data.name='folder' needs the folder that holds"
            " train/ and test/ or val/"
        )
    return pathlib.Path(data_dir).expanduser()


def _list_classes(root: pathlib.Path) -> tuple[str, ...]:
    """Returns the classes in order."""
    classes = sorted(_folders(root, "train"))
    if len(classes) < 2:
        raise ValueError(
            f"{setting(root)}: {root / 'train'} has {len(classes)} folders,"
            " expected one for each of at least 2 classes"
        )
    return tuple(classes)


def _test_folder(root: pathlib.Path) -> str:
    """Returns the name of the folder of the test split."""
    present = [name for name in _TESTS if (root / name).is_dir()]
    if not present or not (root / "train").is_dir():
        raise ValueError(
            f"{setting(root)}: {root} does not hold the folders train, and test or val"
        )
    return present[0]


def _folders(root: pathlib.Path, split: str) -> dict[str, str]:
    """Returns the folders of a split: their names by the names of their classes."""
    folders = {}
    for path in (root / split).iterdir():
        if _is_ignored(path.name) or not path.is_dir():
            continue
        name = _normalize(path.name)
        if name in folders:
            raise ValueError(
                f"{setting(root)}: two folders of {split} are called {name!r}, with"
                " its letters encoded in two ways: rename one"
            )
        folders[name] = path.name
    return folders


def _list_split(
    root: pathlib.Path, split: str, class_names: tuple[str, ...]
) -> tuple[FolderSource, dict[str, str]]:
    """Lists a split; returns its image files, and why the others are none."""
    folders = _folders(root, split)
    if unknown := sorted(folders.keys() - set(class_names)):
        raise ValueError(
            f"{setting(root)}: {split} has {len(unknown)} classes that train does not"
            f" have: {some(unknown)}"
        )
    names, label, others = [], [], {}
    for number, class_name in enumerate(class_names):
        if class_name not in folders:
            continue  # A class without test images.
        folder = f"{split}/{folders[class_name]}"
        problems = dict(_list_files(root / folder, f"{folder}/"))
        images = [name for name, problem in problems.items() if not problem]
        if not images and split == "train":
            raise ValueError(f"{setting(root)}: {root / folder} holds no images")
        names.extend(sorted(images, key=lambda name: (_normalize(name), name)))
        label.extend([number] * len(images))
        others |= {name: problem for name, problem in problems.items() if problem}
    if not names:
        raise ValueError(f"{setting(root)}: {root / split} has no images")
    return FolderSource(root, names, np.asarray(label, np.int32)), others


def _list_files(
    folder: str | os.PathLike[str], prefix: str, above: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Yields the files in a folder and all folders below it.

    Args:
      folder: to be listed.
      prefix: of the names.
      above: the real paths of the folders that it is in, in case of links to them.

    Yields:
      The name of a file, and the reason why it is no image; "" if it may be one.
    """
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if _is_ignored(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):
                yield name, "is a broken link"
            elif not entry.is_dir():
                yield name, _problem(entry)
            elif entry.is_symlink() and os.path.realpath(entry.path) in above:
                yield name, "is a link to a folder that it is in"
            else:
                yield from _list_files(entry.path, f"{name}/", above)


def _problem(entry: os.DirEntry) -> str:
    """Says why a file is no image, by its name and kind; "" if it may be one."""
    if not entry.is_file():
        return "is not a file"
    suffix = os.path.splitext(entry.name)[1]
    if suffix.lower() in EXTENSIONS:
        return ""
    found = f"is a {suffix} file" if suffix else "has no suffix"
    return f"{found}, expected {', '.join(EXTENSIONS)}"


def _is_ignored(name: str) -> bool:
    """Tells whether a file or folder is hidden, or of the system."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _normalize(name: str) -> str:
    """Returns a name as Unicode NFC: file systems differ in how they encode letters."""
    return unicodedata.normalize("NFC", name)
