"""Accuracy of a trained network on corrupted images."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import tabulate
from PIL import Image

from kdjax.data.split import LazySplit
from kdjax.evaluate import corruptions, logits
from kdjax.evaluate.images import Images
from kdjax.runs import console
from kdjax.runs.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class CorruptedSource:
    """The images of a split, once in each severity of a corruption.

    Attributes:
      split: the images.
      fraction: of the central crop before the corruption.
      corruption: its name.
    """

    split: LazySplit
    fraction: float
    corruption: str

    def __len__(self) -> int:
        return len(corruptions.SEVERITIES) * self.split.num_examples

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Returns an image in its final size, corrupted, and its class."""
        place, example = divmod(index, self.split.num_examples)
        image, label = self.split.read(example)
        image = np.asarray(self.split.center_crop_resize(image, self.fraction))
        severity = corruptions.SEVERITIES[place]
        made = corruptions.corrupt(image, self.corruption, severity, example)
        return Image.fromarray(made), label

    def labels(self) -> np.ndarray:
        """Returns all classes."""
        return np.tile(self.split.label, len(corruptions.SEVERITIES))

    def where(self, index: int) -> str:
        """Says where an image is stored."""
        example = index % self.split.num_examples
        return self.split.source.where(int(self.split.indices[example]))


def check_names(names: Iterable[str]) -> None:
    """Raises a ValueError that names what is no corruption."""
    for name in names:
        if name not in corruptions.CORRUPTIONS:
            known = ", ".join(corruptions.CORRUPTIONS)
            raise ValueError(f"--corruptions={name!r} is none of {known}")


def table(
    run: TrainedModel, found: Images, names: Iterable[str], *, batch_size: int
) -> str:
    """Evaluates a network on corrupted images, and returns the accuracies as a table.

    Args:
      run: the network.
      found: images with classes.
      names: of the corruptions.
      batch_size: number of images at once.

    Raises:
      ValueError: in one line, see `logits.compute`.
    """
    config = found.data.config.copy_and_resolve_references()
    fraction, config.eval_crop = config.eval_crop, 1.0
    rows, means = [], []
    for name in names:
        source = CorruptedSource(found.split, fraction, name)
        split = LazySplit(source, range(len(source)), found.split.image_shape)
        with console.progress(f"evaluating on {name}"):
            scores, label = logits.compute(
                run, split, config, batch_size=batch_size, name=name
            )
        right = (scores.argmax(axis=1) == label).reshape(
            len(corruptions.SEVERITIES), -1
        )
        of_severities = right.mean(axis=1)
        means.append(of_severities.mean())
        rows.append([name, *of_severities, means[-1]])
    if len(means) > 1:
        rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    shown = [[name, *(f"{100 * value:.2f}%" for value in row)] for name, *row in rows]
    severities = map(str, corruptions.SEVERITIES)
    return tabulate.tabulate(
        shown,
        headers=["corruption, severity", *severities, "mean"],
        colalign=["left"] + ["right"] * (len(corruptions.SEVERITIES) + 1),
        disable_numparse=True,
    )
