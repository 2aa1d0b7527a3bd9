"""A folder of images: DIR/train/<class>/*.jpg and so on, and a folder of test images.

The classes are the sorted names of the folders under `train`, labeled from 0. Their
images may lie in folders below these. The test images are in `test`, `val`, `valid` or
`validation`, the first of these that has folders of classes. A folder without them is
DIR/train/<class>/*.jpg alone, or DIR/<class>/*.jpg, with `data.test_fraction`. Hidden
files and those of the system, such as Thumbs.db, are ignored.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from kdjax.cli import home
from kdjax.data.augment import crop_resize
from kdjax.data.messages import counted, note, other_size, setting, some
from kdjax.data.sources import folder_layout
from kdjax.data.sources.folder_files import FolderSource
from kdjax.data.sources.folder_layout import Layout
from kdjax.data.split import Description, Split


class Loaded(NamedTuple):
    """The splits of a folder.

    Attributes:
      splits: "train" and, if there is one, "test", in memory or as sources.
      skipped: number of files of each split that are no images or cannot be decoded.
    """

    splits: dict[str, Split] | dict[str, FolderSource]
    skipped: dict[str, int]


def describe(
    data_dir: str, image_size: int = 0, test_fraction: float = 0.0
) -> Description:
    """Returns the metadata of a folder, from its listing and its first image.

    Args:
      data_dir: the folder.
      image_size: height and width of the images after cropping and resizing; 0 for the
        size of the first image that can be decoded.
      test_fraction: not 0 if there is no test split; all images are then in "train".

    Raises:
      ValueError: in one line, if the folder does not have the layout of this module's
        docstring, or no image can be decoded.
    """
    return _describe(folder_layout.list_layout(data_dir, test_fraction), image_size)


def load(
    data_dir: str,
    image_size: int = 0,
    bad_images: str = "error",
    test_fraction: float = 0.0,
    layout: Layout | None = None,
) -> Loaded:
    """Decodes all images of a folder.

    Args:
      data_dir: the folder.
      image_size: height and width of the images after cropping and resizing; 0 if they
        all have one size.
      bad_images: "error" raises for files that are no images or cannot be decoded;
        "skip" leaves them out and says so in one line on stderr.
      test_fraction: as for `describe`.
      layout: of the folder, if it is known, for example from `describe`.

    Raises:
      ValueError: in one line that names the first files that cannot be used.
    """
    layout = layout or folder_layout.list_layout(data_dir, test_fraction)
    shape = _describe(layout, image_size).image_shape
    splits, bad = {}, {}
    for split, source in layout.sources.items():
        splits[split], bad[split] = _load_split(source, shape, image_size)
    return Loaded(splits, _report(data_dir, bad_images, layout, splits, bad))


def open_sources(
    data_dir: str,
    bad_images: str = "error",
    test_fraction: float = 0.0,
    layout: Layout | None = None,
) -> Loaded:
    """Opens the splits; arguments and errors as for `load`.

    "skip" decodes every file once; with "error" a damaged one raises when it is read.
    """
    layout = layout or folder_layout.list_layout(data_dir, test_fraction)
    splits, bad = dict(layout.sources), {split: {} for split in layout.sources}
    if bad_images == "skip":
        for split, source in layout.sources.items():
            splits[split], bad[split] = _without_bad(source)
    return Loaded(splits, _report(data_dir, bad_images, layout, splits, bad))


def open_labeled(
    folder: str, class_names: tuple[str, ...], bad_images: str = "error"
) -> FolderSource:
    """Opens the images FOLDER/<class>/*.jpg of known classes.

    Args:
      folder: the folder; some classes may be missing.
      class_names: in the order of the labels.
      bad_images: as for `load`.

    Raises:
      ValueError: in one line, for folders of other names, or files that cannot be used.
    """
    root = home.expanded(folder)
    return _good(root, *folder_layout.list_labeled(root, class_names), bad_images)


def open_unlabeled(path: str, bad_images: str = "error") -> FolderSource:
    """Opens an image file, or those in a folder and below; their labels are -1.

    Args:
      path: the file or folder.
      bad_images: as for `load`.

    Raises:
      FileNotFoundError: if there is neither.
      ValueError: in one line, for files that cannot be used.
    """
    root = home.expanded(path)
    return _good(root, *folder_layout.list_unlabeled(root), bad_images)


def _good(
    root: pathlib.Path, source: FolderSource, others: dict[str, str], bad_images: str
) -> FolderSource:
    """Returns the files of a source that can be used."""
    bad = {}
    if bad_images == "skip":
        source, bad = _without_bad(source)
    _report_bad(root, bad_images, [others | bad], len(source))
    if not len(source):
        raise ValueError(f"{setting(root)}: has no good images")
    return source


def fingerprint(layout: Layout, bad_images: str = "error") -> dict[str, str]:
    """Returns a digest of the names and sizes of the files of each split.

    Raises:
      ValueError: if `bad_images` is "error" and there are files that are no images.
    """
    if bad_images == "error":
        bad = [
            layout.others[split] | source.problems()
            for split, source in layout.sources.items()
        ]
        total = sum(map(len, [*layout.sources.values(), *layout.others.values()]))
        good = total - sum(map(len, bad))
        _report_bad(layout.sources["train"].root, bad_images, bad, good)
    return {
        split: f"{len(source)} files, {source.digest(layout.folders[split])}"
        for split, source in layout.sources.items()
    }


def _describe(layout: Layout, image_size: int) -> Description:
    """Returns the metadata of a folder; arguments and errors as for `describe`."""
    height = width = image_size
    if not image_size:
        height, width = _first_size(layout.sources["train"])
    return Description(
        len(layout.class_names),
        (height, width, 3),
        sum(len(source) for source in layout.sources.values()),
        len(layout.sources["train"]),
        layout.class_names,
        layout,
    )


def _first_size(source: FolderSource) -> tuple[int, int]:
    """Returns height and width of the first image that can be decoded."""
    for index in range(len(source)):
        try:
            image, _ = source.read(index)
        except ValueError:
            continue  # Reported when the images are loaded.
        return image.height, image.width
    raise ValueError(f"{setting(source.root)}: none of the images can be decoded")


def _load_split(
    source: FolderSource, shape: tuple[int, int, int], image_size: int
) -> tuple[Split, dict[str, str]]:
    """Decodes a split; returns it, and the reason for each bad file by its name."""

    def resized(image: Image.Image) -> np.ndarray:
        return np.asarray(crop_resize.center_crop_resize(image, image_size))

    image = np.empty((len(source), *shape), np.uint8)
    good, bad = [], {}
    for index, found in enumerate(source.decode_all(resized)):
        if isinstance(found, str):
            bad[source.names[index]] = found
            continue
        if found.shape != shape:
            sizes = found.shape[1::-1], shape[1::-1]
            raise ValueError(other_size(source.where(index), *sizes))
        image[len(good)] = found
        good.append(index)
    return Split(image[: len(good)], source.label[good]), bad


def _without_bad(
    source: FolderSource,
) -> tuple[FolderSource, dict[str, str]]:
    """Returns the files that can be decoded, and the reason for each other one."""
    good, bad = [], {}
    for index, reason in enumerate(source.decode_all(lambda _: None)):
        if reason is None:
            good.append(index)
        else:
            bad[source.names[index]] = reason
    return source.select(good), bad


def _report(
    data_dir: str,
    bad_images: str,
    layout: Layout,
    splits: dict[str, Split] | dict[str, FolderSource],
    bad: dict[str, dict[str, str]],
) -> dict[str, int]:
    """Reports on stderr; raises for bad files unless `bad_images` is "skip".

    Args:
      data_dir: the folder.
      bad_images: as for `load`.
      layout: of the folder, with the files that are no images.
      splits: the good images.
      bad: reasons by name of the files of each split that cannot be decoded.

    Returns:
      The number of skipped files of each split.
    """
    if layout.note:
        note(layout.note)
    bad = {split: layout.others[split] | found for split, found in bad.items()}
    good = sum(len(found.label) for found in splits.values())
    _report_bad(data_dir, bad_images, list(bad.values()), good)
    for split, found in splits.items():
        if not len(found.label):
            raise ValueError(f"{setting(data_dir)}: {split} has no good images")
        classes = np.unique(found.label)
        if missing := np.delete(np.asarray(layout.class_names), classes).tolist():
            line = (
                f"{setting(data_dir)}: {layout.folders[split] or split} has no good "
                f"images of {counted(len(missing), 'class')}: {some(missing)}"
            )
            if split == "train":
                raise ValueError(line)
            note(line)
    return {split: len(found) for split, found in bad.items()}


def _report_bad(
    data_dir: str | os.PathLike[str],
    bad_images: str,
    bad: list[dict[str, str]],
    good: int,
) -> None:
    """Raises for bad files; says how many there are if `bad_images` is "skip".

    Args:
      data_dir: the folder.
      bad_images: as for `load`.
      bad: for each split, reasons by name of the files that cannot be used.
      good: number of the other files.
    """
    lines = [f"{name} ({found[name]})" for found in bad for name in sorted(found)]
    if not lines:
        return
    total = len(lines) + good
    files = f"{len(lines)} of {total} files cannot be used: {some(lines)}"
    if bad_images == "error":
        suffixes = folder_layout.SUFFIXES
        if not all(name.lower().endswith(suffixes) for found in bad for name in found):
            files += f"; image files end in {', '.join(suffixes)}"
        raise ValueError(
            f"{setting(data_dir)}: {files}; data.bad_images='skip' leaves them out"
        )
    note(f"{setting(data_dir)}: skipped, {files}")
