"""TFDS builders that prepare CIFAR-10 and CIFAR-100 without TensorFlow."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from kdjax.data.archives.cifar import Archive, Records


class _FromArchive:
    """Makes a stock builder of TFDS read an archive in memory.

    Name, version, features, keys and the order of the examples are those of the stock
    builder, which can read what this one writes. It is not registered with TFDS:
    `tfds.builder` still returns the stock builder.
    """

    def __init__(self, *, archive: Archive, **kwargs: Any):
        """Takes the archive; the other arguments are those of any TFDS builder."""
        super().__init__(**kwargs)
        self._archive = archive

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing to download.
        for feature, names in self._archive.class_names.items():
            self.info.features[feature].names = names
        return {
            split: self._generate_examples(f"{split}_", records)
            for split, records in self._archive.records.items()
        }

    def _generate_examples(
        self, split_prefix: str, records: Records
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, image in enumerate(records.image):
            example = {
                "id": f"{split_prefix}{index:05d}",
                # TFDS encodes arrays with TensorFlow, but Pillow images with Pillow.
                "image": Image.fromarray(image),
            }
            for feature, values in records.labels.items():
                example[feature] = int(values[index])
            yield index, example


class Cifar10(_FromArchive, tfds.image_classification.Cifar10, skip_registration=True):
    """TFDS builder of CIFAR-10, from an archive in memory."""


class Cifar100(
    _FromArchive, tfds.image_classification.Cifar100, skip_registration=True
):
    """TFDS builder of CIFAR-100, from an archive in memory."""
