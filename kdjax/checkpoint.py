"""Checkpoints on disk: the only file that knows Orbax."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

#: Name of the folder within a work directory.
FOLDER = "checkpoints"


#: Ranks a checkpoint that was saved between two evaluations below all others.
_NOT_EVALUATED = -1.0


def _accuracy(metrics: dict[str, float]) -> float:
    return metrics["test_accuracy"]


class Checkpoints:
    """The checkpoints of one work directory.

    A checkpoint appears under its final name only when it is whole. Saving returns
    once the arrays are copied; writing goes on in the background.
    """

    def __init__(
        self, workdir: pathlib.Path, *, keep_last: int = 1, keep_best: int = 0
    ):
        """Opens the checkpoints of a work directory; creates nothing yet.

        Args:
          workdir: the work directory.
          keep_last: how many of the newest to keep.
          keep_best: how many of those with the best test accuracy to keep beside them.
        """
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_last),
                preservation_policy.BestN(
                    get_metric_fn=_accuracy,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        for item, handler, save, restore in (
            (
                "state",
                ocp.StandardCheckpointHandler(),
                ocp.args.StandardSave,
                ocp.args.StandardRestore,
            ),
            (
                "metadata",
                ocp.JsonCheckpointHandler(),
                ocp.args.JsonSave,
                ocp.args.JsonRestore,
            ),
        ):
            registry.add(item, save, handler)
            registry.add(item, restore, handler)
        self._manager = ocp.CheckpointManager(
            (pathlib.Path(workdir) / FOLDER).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                # Without it the metrics that the policy reads are not stored.
                best_fn=_accuracy,
                # What a kill left half written.
                cleanup_tmp_directories=True,
            ),
            handler_registry=registry,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the newest whole checkpoint; None without any."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        state: Any,
        metadata: dict[str, Any],
        test_accuracy: float | None = None,
    ) -> None:
        """Starts saving a state; does nothing if its step is saved already.

        Args:
          step: updates made so far.
          state: a tree of arrays.
          metadata: JSON beside it.
          test_accuracy: at this step, if it was evaluated; ranks the best.
        """
        accuracy = _NOT_EVALUATED if test_accuracy is None else test_accuracy
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                metadata=ocp.args.JsonSave(metadata),
            ),
            metrics={"test_accuracy": accuracy},
        )

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads the newest checkpoint.

        Args:
          like: a tree of arrays with the shapes, types and placement to restore.

        Returns:
          The state and the metadata beside it.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            self.latest_step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                metadata=ocp.args.JsonRestore(),
            ),
        )
        return restored.state, restored.metadata

    def restore_as_saved(self) -> Any:
        """Reads the newest state as nested dictionaries, onto the first device."""
        step = self.latest_step
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            self._manager.metadata(step).item_metadata.state.tree,
        )
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
        return restored.state

    def close(self) -> None:
        """Waits for what is being saved and lets go of the directory."""
        self._manager.close()
