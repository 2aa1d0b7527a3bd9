"""What a distillation method is to the rest of the package."""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import jax

from kdjax.models import Features

Variables = dict[str, Any]


class Outputs(NamedTuple):
    """A network's answer to a batch: [B, K] logits and its features."""

    logits: jax.Array
    features: Features


class Teacher(NamedTuple):
    """What a method may look at before training starts.

    Attributes:
      name: the network's name, for `models.margin_batch_norms`.
      variables: its parameters and running statistics.
      outputs: walks over the training images once, not augmented, in order and in
        batches of the training size, and gives the teacher's outputs in the batch norm
        mode of the training.
    """

    name: str
    variables: Variables
    outputs: Callable[[], Iterator[Outputs]]


class Taxonomy(NamedTuple):
    """A method's row in the table of the overhaul paper."""

    teacher_transform: str
    student_transform: str
    position: str
    distance: str
    missing_information: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """A term of the training loss that compares student and teacher.

    The fields of a method are its hyperparameters, set in the configuration under
    `methods.<name>`. `dtype`, `axis_name` and `batch_axis_name` are the training's own:
    the type of the computation, the device axis of synchronised batch norms, and that
    over which a batch is spread; both are None without.

    A method that `prepares` learns something on the teacher alone, in a phase of its
    own before the student starts.

    Attributes:
      taxonomy: the method's row in the table of methods.
      combination: how its gradient meets the task's: "sum" adds it, "clip" clips it
        first, variable by variable, to the norm of the task's.
      prepares: whether it learns on the teacher alone first.
      weight: factor on the sum of the method's terms in the training loss.
    """

    taxonomy: ClassVar[Taxonomy]
    combination: ClassVar[Literal["sum", "clip"]] = "sum"
    prepares: ClassVar[bool] = False

    weight: float
    dtype: Any = dataclasses.field(default="float32", metadata={"internal": True})
    axis_name: str | None = dataclasses.field(default=None, metadata={"internal": True})
    batch_axis_name: str | None = dataclasses.field(
        default=None, metadata={"internal": True}
    )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the variables that are learned together with the student.

        Args:
          key: randomness of their start.
          student: shapes and types of the student's outputs.
          teacher: shapes and types of the teacher's outputs.

        Returns:
          Collections `params` and `batch_stats`; empty where nothing is learned.

        Raises:
          ValueError: if the method cannot join this student and teacher.
        """
        return {}

    def prepare_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes the variables that are learned on the teacher alone.

        Args:
          key: randomness of their start.
          teacher: shapes and types of the teacher's outputs.

        Returns:
          Collections `params` and `batch_stats`. As they stand after the phase, the
          constants have them under `prepared`.

        Raises:
          ValueError: if the method cannot learn on this teacher.
        """
        raise NotImplementedError(f"{type(self).__name__} prepares nothing")

    def prepare_loss(
        self, variables: Variables, key: jax.Array, teacher: Outputs
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the loss by which these variables are learned.

        Args:
          variables: what `prepare_init` made, as it stands now.
          key: randomness of this step, the same on all devices.
          teacher: the teacher's outputs on one batch; their gradient is stopped.

        Returns:
          Named terms, [B] each, and the new `batch_stats`.
        """
        raise NotImplementedError(f"{type(self).__name__} prepares nothing")

    def constants(self, teacher: Teacher) -> Variables:
        """Reads off the teacher what stays fixed throughout the training."""
        return {}

    @abc.abstractmethod
    def loss(
        self,
        variables: Variables,
        constants: Variables,
        student: Outputs,
        teacher: Outputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Compares the two networks' answers to one batch.

        Args:
          variables: what `init` made, as it stands now.
          constants: what `constants` returned.
          student: the student's outputs in training mode.
          teacher: the teacher's outputs; their gradient is already stopped.

        Returns:
          Named terms, [B] each, whose sum is weighted and averaged by the caller, and
          the new `batch_stats`.
        """
