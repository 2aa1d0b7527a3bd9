"""The splits, classes and files of a folder of images."""

import os
import pathlib
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kdjax.cli import home
from kdjax.data.messages import counted, setting, some
from kdjax.data.sources.folder_files import FolderSource

#: Suffixes of image files, in any case: those of torchvision, `.jfif` and `.gif`.
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".ppm",
    ".pgm",
    ".tif",
    ".tiff",
    ".gif",
)

#: Folders of test images; the first one that has classes is taken.
TESTS = ("test", "val", "valid", "validation")
_ADVICE = (
    "data.test_fraction=0.2 would test on a fifth of the images in train, or in one"
    " folder a class"
)

#: What systems and programs leave in folders, in lower case, beside hidden files.
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx")


class Layout(NamedTuple):
    """What a folder holds.

    Attributes:
      class_names: in the order of the labels.
      folders: of "train" and, if there is one, "test"; "" where the classes lie side by
        side in the folder itself.
      sources: the image files of these splits.
      others: files of each split that are no images, and the reason for each.
      note: on the choice of the test split, if there was one, else "".
    """

    class_names: tuple[str, ...]
    folders: dict[str, str]
    sources: dict[str, FolderSource]
    others: dict[str, dict[str, str]]
    note: str


def list_layout(data_dir: str, test_fraction: float = 0.0) -> Layout:
    """Lists a folder, without opening any file.

    Args:
      data_dir: the folder.
      test_fraction: not 0 if it has no test split.

    Raises:
      ValueError: in one line, if the folder has another layout.
    """
    root = _find_root(data_dir)
    folders = {"train": _train_folder(root, test_fraction)}
    class_names = _list_classes(root, folders["train"])
    found, passed = _test_folders(root, class_names)
    if found and test_fraction:
        raise ValueError(
            f"data.test_fraction={test_fraction} but {setting(root)} has a test split:"
            f" {root / found[0]}"
        )
    if found:
        folders["test"] = found[0]
    elif not test_fraction:
        raise ValueError(f"{setting(root)}: {'; '.join(passed)}; {_ADVICE}")
    unused = [*passed, *(f"{name} is not used" for name in found[1:])]
    chosen = f"the test split is {folders.get('test', 'a part of the training images')}"
    note = f"{setting(root)}: {'; '.join([*unused, chosen])}" if unused else ""
    sources, others = {}, {}
    for split, folder in folders.items():
        sources[split], others[split] = _list_split(root, folder, class_names)
        if split == "train":
            _check_classes(sources[split], root / folder, class_names)
    return Layout(class_names, folders, sources, others, note)


def class_folders(folder: pathlib.Path) -> tuple[str, ...]:
    """Returns the sorted names of the folders in a folder, which may be classes."""
    return tuple(sorted(_folders(folder, "")))


def list_labeled(
    folder: pathlib.Path, class_names: tuple[str, ...]
) -> tuple[FolderSource, dict[str, str]]:
    """Lists the images FOLDER/<class>/*.jpg of known classes; some may be missing.

    Returns:
      The image files, and the reason why each other file is none.

    Raises:
      ValueError: if there is a folder of another name, or there are no images.
    """
    found = class_folders(folder)
    if unknown := sorted(set(found) - set(class_names)):
        raise ValueError(
            f"{setting(folder)}: {len(unknown)} of {len(found)} folders are no classes"
            f" of the network: {some(unknown)}; its classes are {some(class_names)}"
        )
    return _list_split(folder, "", class_names)


def list_unlabeled(path: pathlib.Path) -> tuple[FolderSource, dict[str, str]]:
    """Lists an image file, or all in a folder and below, labeled -1; as `list_labeled`.

    Raises:
      FileNotFoundError: if there is neither.
    """
    if path.is_file():
        return FolderSource(path.parent, [path.name], np.array([-1], np.int32)), {}
    problems = dict(_list_files(path, ""))
    names = sorted(name for name, problem in problems.items() if not problem)
    others = {name: problem for name, problem in problems.items() if problem}
    return FolderSource(path, names, np.full(len(names), -1, np.int32)), others


def _find_root(data_dir: str) -> pathlib.Path:
    if not data_dir:
        raise ValueError(
            "data.data_dir is not set: data.name='folder' needs the folder that holds"
            " train/ and test/ or val/"
        )
    return home.expanded(data_dir)


def _train_folder(root: pathlib.Path, test_fraction: float) -> str:
    """Returns the name of the folder of the training images, or "" for the root."""
    tests = [name for name in TESTS if (root / name).is_dir()]
    if (root / "train").is_dir():
        if tests or test_fraction:
            return "train"
    elif test_fraction and root.is_dir() and not tests:
        return ""
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise ValueError(f"{setting(root)} {problem}")
    raise ValueError(
        f"{setting(root)} does not hold the folders train, and"
        f" {', '.join(TESTS[:-1])} or {TESTS[-1]}; {_ADVICE}"
    )


def _list_classes(root: pathlib.Path, train: str) -> tuple[str, ...]:
    """Returns the classes in order."""
    classes = sorted(_folders(root, train))
    if len(classes) < 2:
        loose = _count_loose(root / train)
        raise ValueError(
            f"{setting(root)}: {root / train} has {counted(len(classes), 'folder')}"
            + f" and {counted(loose, 'image')} in none of them" * bool(loose)
            + ", expected one for each of at least 2 classes"
        )
    return tuple(classes)


def _test_folders(
    root: pathlib.Path, class_names: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Returns the folders that may be the test split, and why others may not."""
    found, passed = [], []
    for name in TESTS:
        if not (root / name).is_dir():
            continue
        folders = _folders(root, name)
        loose = _count_loose(root / name)
        if folders.keys() & set(class_names):
            found.append(name)
        elif loose:
            passed.append(
                f"{name} has {counted(loose, 'image')}, but in no class folder"
            )
        elif folders:
            passed.append(
                f"{name} has {counted(len(folders), 'class')} that train does not have:"
                f" {some(sorted(folders))}"
            )
        else:
            passed.append(f"{name} has no images")
    return found, passed


def _count_loose(folder: pathlib.Path) -> int:
    """Counts the images in a folder itself."""
    with os.scandir(folder) as entries:
        return sum(
            not (_is_ignored(entry.name) or entry.is_dir() or _problem(entry))
            for entry in entries
        )


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
            f"{setting(root)}: {split} has {counted(len(unknown), 'class')} that train"
            f" does not have: {some(unknown)}"
        )
    names, label, others = [], [], {}
    for number, class_name in enumerate(class_names):
        if class_name not in folders:
            continue  # A class without test images.
        folder = f"{split}/{folders[class_name]}".lstrip("/")
        problems = dict(_list_files(root / folder, f"{folder}/"))
        images = [name for name, problem in problems.items() if not problem]
        names.extend(sorted(images, key=lambda name: (_normalize(name), name)))
        label.extend([number] * len(images))
        others |= {name: problem for name, problem in problems.items() if problem}
    if not names:
        raise ValueError(f"{setting(root)}: {root / split} has no images")
    return FolderSource(root, names, np.asarray(label, np.int32)), others


def _check_classes(
    source: FolderSource, folder: pathlib.Path, class_names: tuple[str, ...]
) -> None:
    """Rejects classes without training images."""
    missing = sorted(set(range(len(class_names))) - set(source.label.tolist()))
    if missing:
        names = [class_names[number] for number in missing]
        raise ValueError(
            f"{setting(source.root)}: {folder} has {counted(len(names), 'folder')}"
            f" without images: {some(names)}"
        )


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
    if suffix.lower() in SUFFIXES:
        return ""
    return f"is a {suffix} file" if suffix else "has no suffix"


def _is_ignored(name: str) -> bool:
    """Tells whether a file or folder is hidden, or of the system."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _normalize(name: str) -> str:
    """Returns a name as Unicode NFC: file systems differ in how they encode letters."""
    return unicodedata.normalize("NFC", name)
