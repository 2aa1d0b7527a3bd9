"""Pairs the stages of two networks."""

import dataclasses
from collections.abc import Sequence

import jax

from kdjax.distill.method import Method, Outputs
from kdjax.losses.pooling import pool_larger

#: Where features are taken, by the name of the field of `models.Features`.
POSITIONS = ("block", "post", "pre")


def pool_pairs(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> list[tuple[jax.Array, jax.Array]]:
    """Pairs the stages, and averages the larger map of each pair down to the smaller.

    Args:
      student: maps [B, H, W, C].
      teacher: as many.

    Returns:
      A student's and a teacher's map of equal height and width for each stage.
    """
    return [pool_larger(*maps) for maps in zip(student, teacher, strict=True)]


def require_as_many(
    name: str, student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> None:
    """Raises a ValueError if the networks have different numbers of stages.

    Args:
      name: of the method, for the error.
      student: features, one a stage.
      teacher: features, one a stage.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"methods.{name} needs as many stages in both networks: the student has "
            f"{len(student)}, the teacher {len(teacher)}"
        )


def require_classified_map(name: str, *networks: Outputs) -> None:
    """Raises a ValueError unless the classifiers read averages of the last maps.

    Args:
      name: of the method, for the error.
      *networks: their outputs, classifiers included.
    """
    for outputs in networks:
        if outputs.features.last is None:
            raise ValueError(
                f"methods.{name} applies a classifier to the last map, but one reads "
                "no average of it: it reads a token, or a norm stands between"
            )
        channels, read = outputs.features.last.shape[-1], len(outputs.classifier.kernel)
        if channels != read:
            raise ValueError(
                f"methods.{name} applies a classifier to the last map, but one reads "
                f"{read} features, and the map has {channels} channels"
            )


def check_selection(name: str, selection: str) -> None:
    """Raises a ValueError unless a selection of stages has a meaning.

    Args:
      name: of the method, for the error.
      selection: "all", "last", or numbers from 1 with commas, as "2" or "1,3".
    """
    numbers = [number.strip() for number in selection.split(",")]
    if selection not in ("all", "last") and not all(
        number.isdecimal() and int(number) > 0 for number in numbers
    ):
        raise ValueError(
            f"methods.{name}.stages={selection!r} is neither 'all', 'last' nor numbers "
            "from 1 with commas"
        )


def selected(name: str, selection: str, count: int) -> list[int]:
    """Returns the indices of the selected stages.

    Args:
      name: of the method, for the error.
      selection: as for `check_selection`.
      count: number of stages of the networks.

    Raises:
      ValueError: if the networks have fewer stages.
    """
    if selection == "all":
        return list(range(count))
    if selection == "last":
        return [count - 1]
    indices = [int(number) - 1 for number in selection.split(",")]
    if max(indices) >= count:
        raise ValueError(
            f"methods.{name}.stages={selection!r}, but the networks have {count} stages"
        )
    return indices


@dataclasses.dataclass(frozen=True, kw_only=True)
class StagewiseMethod(Method):
    """A method that compares each stage of the student with the same of the teacher.

    Attributes:
      position: where features are taken: "block", the output of a stage's last block,
        which in pre-activation networks is a bare sum; "post", after the ReLU that ends
        a stage; or "pre", before it. "block" is what the code of the usual benchmark
        (RepDistiller, mdistiller, ReviewKD) reads; "post" is what KD_methods_with_TF
        reads.
    """

    position: str = "block"

    def __post_init__(self):
        self._require_choice("position", POSITIONS)

    def _stages(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Returns the student's and the teacher's features.

        Raises:
          ValueError: if the networks have different numbers of stages.
        """
        features = tuple(
            tuple(getattr(outputs.features, self.position))
            for outputs in (student, teacher)
        )
        require_as_many(self.name, *features)
        return features
