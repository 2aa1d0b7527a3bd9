"""What a distillation method is to the rest of the package."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from kdjax.distill import gradients
from kdjax.models import Features

Variables = dict[str, Any]

#: Most heads, vectors, negatives and channels; more would take minutes to fail.
_MOST = 2**16


class Classifier(NamedTuple):
    """The linear layer from pooled features to logits.

    Attributes:
      kernel: [D, K].
      bias: [K].
    """

    kernel: jax.Array
    bias: jax.Array


class Outputs(NamedTuple):
    """A network's answer to a batch.

    Attributes:
      logits: [B, K]; None of a teacher for other classes.
      features: of its stages.
      input_gradient: of the sum over the batch of the true classes' logits with respect
        to the images, [B, H, W, 3]; None unless a method needs it.
      classifier: the network's last layer; None unless a method needs it. The gradient
        by the student's reaches its parameters.
      second_view: its answer to the second view of each image, of the same fields; None
        unless a method needs it.
      rotated: its answer to the images turned by 90, 180 and 270 degrees, of the same
        fields for 3B examples: the three of the first image, those of the second, and
        so on; None unless a method needs it.
    """

    logits: jax.Array | None
    features: Features
    input_gradient: jax.Array | None = None
    classifier: Classifier | None = None
    second_view: "Outputs | None" = None
    rotated: "Outputs | None" = None


class Inputs(NamedTuple):
    """What the answers are to: one device's share of a batch.

    Attributes:
      image: normalized, [B, H, W, 3].
      label: class of each, [B] int32.
      index: place of each in the training split, [B] int32.
      key: randomness of this step, the same on all devices.
      epoch: complete epochs of the phase, int32.
      progress: fraction of the phase's steps that are done, in [0, 1), float32.
      second_image: the second view of each image, normalized, [B, H, W, 3]; None unless
        a method needs it.
    """

    image: jax.Array
    label: jax.Array
    index: jax.Array
    key: jax.Array
    epoch: jax.Array | int = 0
    progress: jax.Array | float = 0.0
    second_image: jax.Array | None = None


class Teacher(NamedTuple):
    """What a method may look at before training starts.

    Attributes:
      name: the network's name, for `models.margin_batch_norms`.
      variables: its parameters and running statistics.
      outputs: walks over the training images once, not augmented, in order and in
        batches of the training size, and gives the teacher's outputs in the batch norm
        mode of the training.
      label: gives the classes of the training images, on the host, [N], for which
        they may have to be read; None without any.
    """

    name: str
    variables: Variables
    outputs: Callable[[], Iterator[Outputs]]
    label: Callable[[], np.ndarray] | None = None


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
    `methods.<name>`. Those marked internal are the training's own: `dtype`, the type of
    the computation; `batch_norm_axis` and `data_axis`, the device axis of synchronized
    batch norms and that over which a batch is spread, None without; `num_classes`; and
    `num_examples`, of the training split.

    A method that `pretrains` learns something on the teacher alone, in a phase of its
    own before the student starts.

    Attributes:
      name: under which the method stands in a configuration.
      taxonomy: the method's row in the table of methods.
      pretrains: whether it learns on the teacher alone first.
      depends_on: which examples a value of its terms depends on, in words.
      needs_teacher: whether it compares with a trained teacher at all.
      needs_teacher_logits: whether it reads the teacher's `Outputs.logits`, or anything
        made of them. They are None where the teacher was trained for other classes.
      needs_label: whether it reads `Inputs.label`, or anything made of it. Mixed
        images have no one class, and no such method.
      needs_input_gradient: whether it reads `Outputs.input_gradient`, which costs a
        backward pass of both networks and is made of the logits and the label.
      needs_classifier: whether it reads `Outputs.classifier`, which has no place beside
        a teacher for other classes.
      needs_second_view: whether it reads `Outputs.second_view`, or
        `Inputs.second_image`. It costs a pass of both networks, and the task's
        cross-entropy is then that of both views, added up.
      needs_rotations: whether it reads `Outputs.rotated`. Both networks then see four
        times as many images in one pass, whose statistics are those of the batch; the
        task's cross-entropy remains that of the upright ones.
      brings_head: whether the student predicts by a head of the method, also after the
        training; `with_head` returns such a student.
      takes_from_teacher: modules of that student, by their names in the parameters,
        that are the teacher's of the same name and do not learn.
      needs_distillation_token: whether it trains the second classifier of a student
        that has a token to distill to, by `Features.heads`. The first one then learns
        the task alone.
      weight: factor on the sum of the method's terms in the training loss.
      warm_up: epochs in which the weight rises linearly, reaching its value in the
        last of them.
      gradient_combination: how its gradient meets the task's, a key of
        `gradients.RULES`.
      momentum_deltas: what the rule "by_term" adds to SGD's momentum for each term, and
        for the gradient of the task, "task"; empty if the method has no such momenta.
    """

    name: ClassVar[str]
    taxonomy: ClassVar[Taxonomy]
    pretrains: ClassVar[bool] = False
    depends_on: ClassVar[str] = "its example"
    needs_teacher: ClassVar[bool] = True
    needs_teacher_logits: ClassVar[bool] = False
    needs_label: ClassVar[bool] = False
    needs_input_gradient: ClassVar[bool] = False
    needs_classifier: ClassVar[bool] = False
    needs_second_view: ClassVar[bool] = False
    needs_rotations: ClassVar[bool] = False
    brings_head: ClassVar[bool] = False
    takes_from_teacher: ClassVar[tuple[str, ...]] = ()
    needs_distillation_token: ClassVar[bool] = False

    weight: float
    warm_up: int = 0
    gradient_combination: str = gradients.SUM
    dtype: Any = dataclasses.field(default="float32", metadata={"internal": True})
    batch_norm_axis: str | None = dataclasses.field(
        default=None, metadata={"internal": True}
    )
    data_axis: str | None = dataclasses.field(default=None, metadata={"internal": True})
    num_classes: int | None = dataclasses.field(
        default=None, metadata={"internal": True}
    )
    num_examples: int | None = dataclasses.field(
        default=None, metadata={"internal": True}
    )

    @property
    def momentum_deltas(self) -> Mapping[str, float]:
        """What "by_term" adds to the momentum of each term and of the task."""
        return {}

    def _require_choice(self, field: str, choices: Iterable[str]) -> None:
        """Raises a ValueError if a hyperparameter is none of its choices."""
        if getattr(self, field) not in choices:
            raise ValueError(
                f"methods.{self.name}.{field}={getattr(self, field)!r} is none of "
                f"{sorted(choices)}"
            )

    def _require_positive(self, field: str) -> None:
        """Raises a ValueError if a number is not 1 or more, or is senselessly large."""
        if getattr(self, field) < 1:
            raise ValueError(
                f"methods.{self.name}.{field}={getattr(self, field)} is less than 1"
            )
        if getattr(self, field) > _MOST:
            raise ValueError(
                f"methods.{self.name}.{field}={getattr(self, field)} is more than "
                f"{_MOST}"
            )

    def _require_not_negative(self, *fields: str) -> None:
        """Raises a ValueError if a number is negative."""
        for field in fields:
            if getattr(self, field) < 0:
                raise ValueError(
                    f"methods.{self.name}.{field}={getattr(self, field)} is negative"
                )

    def check_teacher(self, name: str) -> None:
        """Raises a ValueError if a network, given by its name, cannot teach so."""
        del name  # Any can, unless a method says otherwise.

    def with_head(
        self, network: nn.Module, student: Outputs, teacher: Outputs
    ) -> nn.Module:
        """Returns the student with the method's head, which is part of it from then on.

        Hyperparameters and shapes determine it: it is built anew wherever the trained
        student is loaded, when the teacher may be gone.

        Args:
          network: from `models.build`.
          student: shapes and types of its outputs on one image.
          teacher: those of the teacher's outputs.

        Returns:
          A module with the outputs of a network; its linear layer `classifier` stands
          at the top of its parameters.

        Raises:
          ValueError: if the network or the teacher does not suit the head.
        """
        raise NotImplementedError(f"{type(self).__name__} brings no head")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the variables that are learned together with the student.

        Args:
          key: randomness of their start.
          student: shapes and types of the student's outputs.
          teacher: shapes and types of the teacher's outputs.

        Returns:
          Collections `params` and `batch_stats`, whose statistics are averaged over
          devices; or `params` and `method_state`, which a method keeps between steps
          and makes the same on all devices. Empty where nothing is learned.

        Raises:
          ValueError: if the method cannot join this student and teacher.
        """
        return {}

    def pretrain_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes the variables that are learned on the teacher alone.

        Args:
          key: randomness of their start.
          teacher: shapes and types of the teacher's outputs.

        Returns:
          Collections `params` and `batch_stats`. As they stand after the phase, the
          values precomputed have them under `pretrained`.

        Raises:
          ValueError: if the method cannot learn on this teacher.
        """
        raise NotImplementedError(f"{type(self).__name__} pretrains nothing")

    def pretrain_loss(
        self, variables: Variables, key: jax.Array, teacher: Outputs
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the loss by which these variables are learned.

        Args:
          variables: what `pretrain_init` made, as it stands now.
          key: randomness of this step, the same on all devices.
          teacher: the teacher's outputs on one batch; their gradient is stopped.

        Returns:
          Named terms, [B] each, and the new `batch_stats`.
        """
        raise NotImplementedError(f"{type(self).__name__} pretrains nothing")

    def precompute(self, teacher: Teacher) -> Variables:
        """Reads off the teacher what stays fixed throughout the training."""
        return {}

    @abc.abstractmethod
    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Compares the two networks' answers to one batch.

        Args:
          variables: what `init` made, as it stands now.
          precomputed: what `precompute` returned.
          student: the student's outputs in training mode.
          teacher: the teacher's outputs; their gradient is already stopped.
          inputs: what both answer to.

        Returns:
          Named terms, [B] each, whose sum is weighted and averaged by the caller, and
          the new `batch_stats`, or the new `method_state` of a method that has one.
        """
