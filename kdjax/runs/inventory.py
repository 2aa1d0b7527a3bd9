"""The checkpoints in a folder, and which of them are complete."""

import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping

from kdjax.runs import console, manifest

#: Names of checkpoints.
LAST, BEST = "last", "best"

#: Name of a checkpoint's folder.
_STEP = r"0|[1-9][0-9]{0,9}"

#: Accuracy of a checkpoint without an evaluation, below that of all others.
NOT_EVALUATED = -1.0


def accuracy_of(metrics: Mapping[str, float]) -> float | None:
    """Returns the accuracy in the metrics that a checkpoint was saved with."""
    # Older runs call it test_accuracy.
    return metrics.get("accuracy", metrics.get("test_accuracy"))


class Inventory:
    """Lists the checkpoints of a folder and verifies them.

    Looking changes nothing on disk. A damaged checkpoint is skipped, and renamed only
    by `quarantine`.
    """

    def __init__(self, folder: pathlib.Path):
        """Takes the folder, which need not exist; it holds a folder for each step."""
        self._folder = folder
        # Found damaged when they were read, although their manifests match.
        self._unreadable: dict[int, str] = {}

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints under their final names, ascending."""
        if not self._folder.is_dir():
            return []
        # Not "007" or digits of other scripts, which Orbax does not write.
        names = (path.name for path in self._folder.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if re.fullmatch(_STEP, name))

    def verify(self, step: int) -> str | None:
        """Returns what is wrong with a checkpoint; None if it is complete."""
        return self._unreadable.get(step) or manifest.verify(self._folder / str(step))

    @functools.cached_property
    def newest(self) -> int | None:
        """The newest complete checkpoint; None if there is no checkpoint.

        Warns on stderr if newer ones are damaged.

        Raises:
          ValueError: if there are checkpoints and all are damaged.
        """
        damaged = {}
        for step in reversed(self.steps()):
            reason = self.verify(step)
            if reason is None:
                if damaged:
                    newest = max(damaged)
                    _warn_once(
                        f"{self._folder}: the checkpoint of step {newest} is damaged "
                        f"({damaged[newest]}); using step {step}"
                    )
                return step
            damaged[step] = reason
        if damaged:
            raise ValueError(
                f"{self._folder}: all checkpoints are damaged: "
                + "; ".join(f"step {step}: {why}" for step, why in damaged.items())
                + "; remove this folder to start over"
            )
        return None

    def find(self, which: str) -> int | None:
        """Returns the step of a complete checkpoint; None if there is no checkpoint.

        Args:
          which: "last"; "best", of the highest accuracy on the split evaluated during
            training, and of equal ones the newest; or a step.

        Raises:
          ValueError: if there is no such checkpoint, or it is damaged; names those that
            there are. If all are damaged.
        """
        if which == LAST:
            return self.newest
        complete = [step for step in self.steps() if self.verify(step) is None]
        if which == BEST:
            evaluated = [
                (a, s) for s in complete if (a := self.accuracy(s)) is not None
            ]
            return max(evaluated)[1] if evaluated else self.newest
        if not which.isdecimal() or int(which) not in complete:
            steps = ", ".join(map(str, complete)) or "none"
            raise ValueError(
                f"step={which!r} is neither {LAST!r} nor {BEST!r} nor the step of a "
                f"complete checkpoint: {steps}"
            )
        return int(which)

    def accuracy(self, step: int) -> float | None:
        """Returns the accuracy of a checkpoint; None if it was not evaluated."""
        file = self._folder / str(step) / "metrics" / "metrics"
        try:
            accuracy = accuracy_of(json.loads(file.read_text()))
        except (OSError, ValueError, AttributeError, RecursionError):
            return None
        if isinstance(accuracy, bool) or not isinstance(accuracy, int | float):
            return None
        return None if accuracy == NOT_EVALUATED else accuracy

    def skip(self, step: int, reason: str) -> None:
        """Counts a checkpoint as damaged from now on."""
        self._unreadable[step] = reason
        self.__dict__.pop("newest", None)

    def quarantine(self) -> None:
        """Renames damaged checkpoints to `STEP.damaged`, and says so on stderr."""
        for step in self.steps():
            if self.verify(step) is None:
                continue
            folder, number = self._folder / str(step), 0
            while (new := folder.with_name(_damaged_name(step, number))).exists():
                number += 1
            os.rename(folder, new)
            console.warn(f"renamed {folder} to {new.name}")


@functools.cache
def _warn_once(message: str) -> None:
    console.warn(message)


def _damaged_name(step: int, number: int) -> str:
    return f"{step}.damaged" + f".{number}" * bool(number)
