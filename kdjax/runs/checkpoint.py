"""Checkpoints on disk: the only file that knows Orbax."""

import functools
import os
import pathlib
import re
import sys
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from kdjax.runs import manifest, multihost

#: Name of the folder within a work directory.
FOLDER = "checkpoints"

#: Ranks a checkpoint that was saved between two evaluations below all others.
_NOT_EVALUATED = -1.0


def _accuracy(metrics: dict[str, float]) -> float:
    # Of the test split, as those of earlier runs are called, or of the validation part.
    return metrics.get("accuracy", metrics.get("test_accuracy"))


class Checkpoints:
    """The checkpoints of one work directory.

    A checkpoint appears under its final name only when it is whole. Saving returns
    once the arrays are copied; writing goes on in the background.

    Opening and reading change nothing on disk. What is found damaged is passed over;
    the first save puts it aside under another name.
    """

    def __init__(
        self, workdir: pathlib.Path, *, keep_last: int = 1, keep_best: int = 0
    ):
        """Opens the checkpoints of a work directory; creates nothing yet.

        Args:
          workdir: the work directory.
          keep_last: how many of the newest to keep.
          keep_best: how many of those with the best accuracy to keep beside them.
        """
        self._folder = (pathlib.Path(workdir) / FOLDER).absolute()
        self._policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_last),
                preservation_policy.BestN(
                    get_metric_fn=_accuracy,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._manager: ocp.CheckpointManager | None = None
        self._saved: int | None = None
        self._saving: int | None = None
        # What reading showed to be damaged, though no manifest says so.
        self._unreadable: dict[int, str] = {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        # After an error the other processes may be gone, and what is being saved with
        # them is not waited for.
        if error is None or not multihost.is_multihost():
            self.close()

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the newest whole checkpoint; None without any.

        Raises:
          ValueError: if there are checkpoints and none of them is whole.
        """
        if self._manager is not None:
            return self._manager.latest_step()
        return self._newest_whole if self._saved is None else self._saved

    @functools.cached_property
    def _newest_whole(self) -> int | None:
        damaged = {}
        for step in reversed(self._steps()):
            fault = self._fault(step)
            if fault is None:
                if damaged:
                    newest = max(damaged)
                    print(
                        f"kdjax: warning: {self._folder}: the checkpoint of step "
                        f"{newest} is damaged ({damaged[newest]}); that of step {step} "
                        "is used",
                        file=sys.stderr,
                    )
                return step
            damaged[step] = fault
        if damaged:
            raise ValueError(
                f"{self._folder}: no checkpoint is whole: "
                + "; ".join(f"step {step}: {why}" for step, why in damaged.items())
                + "; without that folder training starts anew"
            )
        return None

    def save(
        self,
        step: int,
        state: Any,
        metadata: dict[str, Any],
        accuracy: float | None = None,
    ) -> None:
        """Starts saving a state; does nothing if its step is saved already.

        Args:
          step: updates made so far.
          state: a tree of arrays.
          metadata: JSON beside it.
          accuracy: at this step, if it was evaluated; ranks the best.

        Raises:
          OSError: if this state, or the one before, could not be written.
        """
        accuracy = _NOT_EVALUATED if accuracy is None else accuracy
        try:
            if self._manager is None:
                self._manager = self._open_for_saving()
            self._manager.wait_until_finished()
            self._saving = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(multihost.to_global(state)),
                    metadata=ocp.args.JsonSave(metadata),
                ),
                metrics={"accuracy": accuracy},
            )
        except Exception as error:
            raise self._failure(error) from error

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads the newest whole checkpoint.

        Args:
          like: a tree of arrays with the shapes, types and placement to restore.

        Returns:
          The state and the metadata beside it.

        Raises:
          ValueError: if the checkpoint holds another tree or other shapes, or if none
            is whole.
        """
        abstract = multihost.to_global(
            jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        )
        while True:
            step = self._step_to_read()
            try:
                state = multihost.to_host_local(self._read(step, abstract))
                return state, self._read_metadata(step)
            except Exception as error:
                # Of another tree, or damaged though no manifest says so?
                self._pass_over_unless_readable(step, error)

    def restore_as_saved(self) -> Any:
        """Reads the newest whole state as nested dictionaries, onto the first device.

        Raises:
          ValueError: if no checkpoint is whole.
        """
        while True:
            step = self._step_to_read()
            try:
                return self._read_as_saved(step)
            except Exception as error:
                self._pass_over(step, error)

    def wait(self) -> None:
        """Waits until what is being saved is whole.

        Raises:
          OSError: if it could not be written.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Waits for what is being saved and lets go of the directory.

        Raises:
          OSError: if it could not be written.
        """
        if self._manager is None:
            return
        manager, self._manager = self._manager, None
        try:
            manager.wait_until_finished()
            self._saved = manager.latest_step()
            manager.close()
        except Exception as error:
            raise self._failure(error) from error

    def _steps(self) -> list[int]:
        """Lists the checkpoints that have their final name."""
        if not self._folder.is_dir():
            return []
        return sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())

    def _fault(self, step: int) -> str | None:
        return self._unreadable.get(step) or manifest.fault(self._folder / str(step))

    def _step_to_read(self) -> int:
        if (step := self.latest_step) is None:
            raise ValueError(f"{self._folder} holds no checkpoint")
        return step

    def _read(self, step: int, abstract: Any) -> Any:
        checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        return checkpointer.restore(
            self._folder / str(step) / "state", args=ocp.args.StandardRestore(abstract)
        )

    def _read_as_saved(self, step: int) -> Any:
        state = self._folder / str(step) / "state"
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            ocp.StandardCheckpointHandler().metadata(state).tree,
        )
        return self._read(step, abstract)

    def _read_metadata(self, step: int) -> dict[str, Any]:
        checkpointer = ocp.Checkpointer(ocp.JsonCheckpointHandler())
        return checkpointer.restore(self._folder / str(step) / "metadata")

    def _pass_over_unless_readable(self, step: int, error: Exception) -> None:
        try:
            self._read_as_saved(step)
            self._read_metadata(step)
        except Exception as read_error:
            self._pass_over(step, read_error)
        else:
            raise error

    def _pass_over(self, step: int, error: Exception) -> None:
        """Looks for an older checkpoint from now on."""
        self._unreadable[step] = _reason(error)
        del self._newest_whole

    def _open_for_saving(self) -> ocp.CheckpointManager:
        """Clears away what a kill left half written, and sets aside what is damaged."""
        if multihost.is_main_process():
            for step in self._steps():
                if self._fault(step) is not None:
                    self._set_aside(step)
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                # Without it the metrics that the policy reads are not stored.
                best_fn=_accuracy,
                cleanup_tmp_directories=True,
                async_options=ocp.options.AsyncOptions(
                    post_finalization_callback=self._write_manifest
                ),
            ),
        )

    def _set_aside(self, step: int) -> None:
        folder = self._folder / str(step)
        number = 0
        while True:
            aside = folder.with_name(f"{step}.damaged" + f".{number}" * bool(number))
            if not aside.exists():
                break
            number += 1
        os.rename(folder, aside)
        print(f"kdjax: warning: {folder} is now {aside.name}", file=sys.stderr)

    def _write_manifest(self) -> None:
        """Lists the files of what is being saved, before it gets its final name."""
        if multihost.is_main_process():
            for folder in self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                manifest.write(folder)

    def _failure(self, error: Exception) -> OSError:
        kept = [step for step in self._steps() if self._fault(step) is None]
        rest = (
            f"the checkpoint of step {kept[-1]} is whole" if kept else "there is none"
        )
        return OSError(f"{self._folder}: saving failed: {_reason(error)}; {rest}")


def _reason(error: Exception) -> str:
    """Says an error in one short line; TensorStore's go on for many."""
    # What the system said comes last of all that TensorStore says.
    system = re.search(r"([^:]*) \[os_error_code=", str(error))
    if system:
        return system.group(1).strip()
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line[:200]}"
