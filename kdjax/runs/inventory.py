"""The checkpoints in a folder, and which of them are complete."""

import functools
import os
import pathlib
import re
from collections.abc import Mapping

from kdjax.data.messages import some
from kdjax.runs import console, json_files, manifest

#: Names of checkpoints.
LAST, BEST = "last", "best"

#: Name of a checkpoint's folder.
_STEP = r"0|[1-9][0-9]{0,9}"

#: The arrays in that folder.
STATE = "state"

#: What is left of half-written and of damaged checkpoints.
_LEFT = r".+\.(damaged(\.\d+)?|orbax-checkpoint-tmp.*)"

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
        return sorted(int(path.name) for path in self._entries() if _is_step(path))

    def strange(self) -> list[str]:
        """Returns the names of what is no checkpoint, whole or not."""
        return sorted(
            path.name
            for path in self._entries()
            if not _is_step(path) and not re.fullmatch(_LEFT, path.name)
        )

    def _entries(self) -> list[pathlib.Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    def verify(self, step: int) -> str | None:
        """Returns what is wrong with a checkpoint; None if it is complete."""
        if step in self._unreadable:
            return self._unreadable[step]
        folder = self._folder / str(step)
        if not (folder / STATE).is_dir():
            return f"it holds no {STATE}"
        return manifest.verify(folder)

    @functools.cached_property
    def newest(self) -> int | None:
        """The newest complete checkpoint; None if there is no checkpoint.

        Warns on stderr if newer ones are damaged.

        Raises:
          ValueError: if there are checkpoints and all are damaged.
        """
        if strange := self.strange():
            _warn_once(
                f"{self._folder}: passing over {some(strange)}, which is no checkpoint"
            )
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
            metrics = json_files.read(file, json_files.ACCURACY)
        except (OSError, ValueError):
            return None
        accuracy = accuracy_of(metrics or {})
        return None if accuracy == NOT_EVALUATED else accuracy

    def skip(self, step: int, reason: str) -> None:
        """Counts a checkpoint as damaged from now on."""
        self._unreadable[step] = reason
        self.__dict__.pop("newest", None)

    def quarantine(self) -> None:
        """Renames damaged checkpoints to `STEP.damaged`, and says so on stderr.

        Also what Orbax would take for a checkpoint of a later step: it would not save
        another one.
        """
        damaged = [str(step) for step in self.steps() if self.verify(step) is not None]
        numbers = [name for name in self.strange() if name.isdecimal()]
        for name in [*damaged, *numbers]:
            folder, number = self._folder / name, 0
            while (new := folder.with_name(_damaged_name(name, number))).exists():
                number += 1
            os.rename(folder, new)
            console.warn(f"renamed {folder} to {new.name}")


def _is_step(path: pathlib.Path) -> bool:
    # Not "007" or digits of other scripts, which Orbax does not write.
    return re.fullmatch(_STEP, path.name) is not None and path.is_dir()


@functools.cache
def _warn_once(message: str) -> None:
    console.warn(message)


def _damaged_name(name: str, number: int) -> str:
    return f"{name}.damaged" + f".{number}" * bool(number)
