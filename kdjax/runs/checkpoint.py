"""Checkpoints: saves and restores the training state with Orbax.

No other module imports Orbax.
"""

import contextlib
import errno
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from kdjax.runs import json_files, manifest, multihost
from kdjax.runs.inventory import LAST, NOT_EVALUATED, STATE, Inventory, accuracy_of

#: Name of the folder within a work directory.
FOLDER = "checkpoints"

#: Names that Orbax gives files and folders; none is part of its interface.
_UNFINISHED = "{step}.orbax-checkpoint-tmp*"
_ADDED_WHEN_FINISHED = ("_CHECKPOINT_METADATA", "commit_success.txt")

#: Why a write fails, where the error is TensorStore's and has no errno.
_SYSTEM_ERRORS = ("ENOSPC", "EFBIG", "EDQUOT", "EROFS", "EACCES", "EIO", "ENOENT")


class Checkpoints:
    """The checkpoints of one work directory.

    A checkpoint gets its final name once it is complete. `save` returns as soon as the
    arrays are copied and writes them in the background.

    Opening and reading change nothing on disk. Damaged checkpoints are skipped; the
    first `save` renames them.
    """

    def __init__(
        self, workdir: pathlib.Path, *, keep_last: int = 1, keep_best: int = 0
    ):
        """Opens the checkpoints of a work directory; creates nothing yet.

        Args:
          workdir: the work directory.
          keep_last: number of newest checkpoints to keep.
          keep_best: number of checkpoints with the highest accuracy to keep as well.
        """
        self._folder = (pathlib.Path(workdir) / FOLDER).absolute()
        self._inventory = Inventory(self._folder)
        self._policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_last),
                preservation_policy.BestN(
                    get_metric_fn=accuracy_of,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._manager: ocp.CheckpointManager | None = None
        self._saved: int | None = None
        self._saving: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        # After an error in a multi-host run the other processes may be gone, and a save
        # that needs them would never finish.
        if error is None or not multihost.is_multihost():
            self.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint; None without any.

        Raises:
          ValueError: if there are checkpoints and all are damaged.
        """
        if self._manager is not None:
            return self._manager.latest_step()
        return self._inventory.newest if self._saved is None else self._saved

    def save(
        self,
        step: int,
        state: Any,
        metadata: dict[str, Any],
        accuracy: float | None = None,
    ) -> None:
        """Starts saving a state; does nothing if its step is saved already.

        Args:
          step: number of updates made.
          state: a tree of arrays.
          metadata: stored as JSON with the state.
          accuracy: at this step, if it was evaluated; ranks the best.

        Raises:
          OSError: if this state, or the previous one, could not be written.
        """
        accuracy = NOT_EVALUATED if accuracy is None else accuracy
        try:
            if self._manager is None:
                self._manager = self._open_for_saving()
            self._manager.wait_until_finished()
            self._saving = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(multihost.to_global(state)),
                    metadata=ocp.args.JsonSave({**metadata, "step": step}),
                ),
                metrics={"accuracy": accuracy},
            )
        except Exception as error:
            raise self._save_error(error) from error

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads the newest complete checkpoint.

        Args:
          like: a tree of arrays with the shapes, types and placement to restore.

        Returns:
          The state and its metadata.

        Raises:
          ValueError: if the checkpoint holds another tree or other shapes, or if no
            checkpoint is complete.
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
                # Either another tree was asked for, or the checkpoint is damaged
                # although its manifest matches.
                self._skip_unless_readable(step, error)

    def read_metadata(self) -> dict[str, Any]:
        """Reads what was stored with the newest complete state.

        Raises:
          ValueError: if no checkpoint is complete.
        """
        while True:
            step = self._step_to_read()
            try:
                return self._read_metadata(step)
            except Exception as error:
                self._inventory.skip(step, _reason(error))

    def restore_as_saved(self, which: str = LAST) -> Any:
        """Reads a complete state as nested dictionaries, onto one device.

        Args:
          which: checkpoint to read, see `Inventory.find`.

        Raises:
          ValueError: if there is no such checkpoint, or none is complete.
        """
        while True:
            step = self._inventory.find(which)
            if step is None:
                raise ValueError(f"{self._folder} holds no checkpoint")
            try:
                return self._read_as_saved(step)
            except Exception as error:
                self._inventory.skip(step, _reason(error))

    def wait(self) -> None:
        """Waits until the state being saved is on disk.

        Raises:
          OSError: if it could not be written.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._save_error(error) from error

    def close(self) -> None:
        """Waits for the state being saved and closes the folder.

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
            with contextlib.suppress(Exception):
                manager.close()
            raise self._save_error(error) from error

    def _step_to_read(self) -> int:
        if (step := self.latest_step) is None:
            raise ValueError(f"{self._folder} holds no checkpoint")
        return step

    def _read(self, step: int, abstract: Any) -> Any:
        checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        found = checkpointer.restore(
            self._folder / str(step) / STATE, args=ocp.args.StandardRestore(abstract)
        )
        get = found.get if isinstance(found, dict) else vars(found).get
        if (stored := get("step")) is not None:
            _check_step(step, int(stored.addressable_data(0)))
        return found

    def _read_as_saved(self, step: int) -> Any:
        state = self._folder / str(step) / STATE
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            ocp.StandardCheckpointHandler().metadata(state).tree,
        )
        return self._read(step, abstract)

    def _read_metadata(self, step: int) -> dict[str, Any]:
        file = self._folder / str(step) / "metadata" / "metadata"
        try:
            metadata = json_files.parse(file.read_bytes(), json_files.METADATA)
        except ValueError as error:
            raise ValueError(f"metadata is damaged: {error}") from None
        # Older ones do not tell their step.
        _check_step(step, metadata.get("step", step))
        return metadata

    def _skip_unless_readable(self, step: int, error: Exception) -> None:
        try:
            self._read_as_saved(step)
            self._read_metadata(step)
        except Exception as read_error:
            self._inventory.skip(step, _reason(read_error))
        else:
            raise ValueError(
                f"{self._folder}: the checkpoint of step {step} does not hold the "
                f"state of this configuration: {' '.join(str(error).split())}"
            ) from error

    def _open_for_saving(self) -> ocp.CheckpointManager:
        """Removes half-written checkpoints and renames damaged ones."""
        if multihost.is_main_process():
            self._inventory.quarantine()
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                # Without it the metrics that the policy reads are not stored.
                best_fn=accuracy_of,
                cleanup_tmp_directories=True,
                async_options=ocp.options.AsyncOptions(
                    post_finalization_callback=self._write_manifest
                ),
            ),
        )

    def _write_manifest(self) -> None:
        """Writes the manifest of the checkpoint being saved, before it is renamed."""
        if multihost.is_main_process():
            for folder in self._folder.glob(_UNFINISHED.format(step=self._saving)):
                manifest.write(folder, ignore=_ADDED_WHEN_FINISHED)

    def _save_error(self, error: Exception) -> OSError:
        steps = self._inventory.steps()
        complete = [step for step in steps if self._inventory.verify(step) is None]
        kept = (
            f"the checkpoint of step {complete[-1]} is complete"
            if complete
            else "there is no complete checkpoint"
        )
        return OSError(f"{self._folder}: saving failed: {_reason(error)}; {kept}")


def _check_step(folder: int, stored: int) -> None:
    """Raises a ValueError if a checkpoint was copied to the folder of another step."""
    if stored != folder:
        raise ValueError(f"it is of step {stored}")


def _reason(error: BaseException) -> str:
    """Shortens an error message to one line, the operating system's if it has one.

    TensorStore's messages are ValueErrors of many lines with that somewhere in them.
    """
    chain, seen = error, set()
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        if isinstance(chain, OSError) and chain.strerror:
            return chain.strerror
        for name in _SYSTEM_ERRORS:
            if (text := os.strerror(getattr(errno, name))) in str(chain):
                return text
        chain = chain.__cause__ or chain.__context__
    line = str(error).strip().partition("\n")[0]
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{line[:200]}"
