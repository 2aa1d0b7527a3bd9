"""SSKD: Xu et al., "Knowledge Distillation Meets Self-Supervision" (ECCV 2020).

The teacher also teaches what it makes of rotated images: their logits, and how similar
they are to the upright images of the batch. Original: xuguodong03/SSKD.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.projection_head import ProjectionHead


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sskd(RelationalMethod):
    """Divergences on upright images, on rotated ones, and of their similarities.

    The terms are `upright`, `rotations` and `similarities`, with their factors. Logits
    are compared in the first two. Similarities are cosines between a rotated image and
    all upright ones, of their pooled features behind a projection head.

    The teacher's head learns in a phase of its own, to find the upright image of a
    rotated one: `config.pretrain.epochs = 60` as released. The student's learns with
    the student.

    Batch-relational: similarities to all images in scope, of which errors of the
    teacher are left out.

    Differs from the original in: what `losses.rotation_kd` and `losses.similarity_kd`
    say; the rotations are those of one crop, where the original crops each anew.

    Attributes:
      weight: factor on all terms.
      upright_weight: factor on `upright`.
      rotation_weight: factor on `rotations`.
      similarity_weight: factor on `similarities`.
      temperature: of the softmax of logits.
      similarity_temperature: of the softmax of similarities; the teacher's head learns
        without one.
      rotation_errors: part of the rotated images that the teacher takes for another
        class which count in `rotations`. Below 1, they are found by their labels.
      similarity_errors: part of those less similar to their own upright image than to
        another, in the teacher, which count in `similarities`.
    """

    name = "sskd"
    taxonomy = Taxonomy(
        teacher_transform="softmax of logits, and of cosines with rotated images",
        student_transform="softmax of logits, and of cosines with rotated images",
        position="logits, and pooled features behind a projection head",
        distance="KL(teacher || student)",
        missing_information="some of the teacher's errors",
    )
    pretrains = True
    needs_teacher_logits = True
    needs_rotations = True

    weight: float = 1.0
    upright_weight: float = 0.9
    rotation_weight: float = 2.7
    similarity_weight: float = 10.0
    temperature: float = 4.0
    similarity_temperature: float = 0.5
    rotation_errors: float = 1.0
    similarity_errors: float = 0.75

    @property
    def needs_label(self) -> bool:
        """Whether it reads labels, to find the teacher's errors on rotated images."""
        return self.rotation_errors < 1

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative(
            "upright_weight", "rotation_weight", "similarity_weight"
        )
        for field in ("temperature", "similarity_temperature"):
            if not getattr(self, field) > 0:
                raise ValueError(
                    f"methods.{self.name}.{field}={getattr(self, field)} is not above 0"
                )
        for field in ("rotation_errors", "similarity_errors"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(
                    f"methods.{self.name}.{field}={getattr(self, field)} is not in "
                    "[0, 1]"
                )

    def pretrain_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes the teacher's projection head."""
        return {"params": self._head_of(key, teacher), "batch_stats": {}}

    def pretrain_loss(
        self, variables: Variables, key: jax.Array, teacher: Outputs
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the cross-entropy of finding a rotated image's upright one, [B]."""
        contrast = losses.rotation_contrast(
            *self._projected(variables["params"], teacher),
            axis_name=self._relation_axis,
        )
        return {"contrast": contrast}, {}

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the student's projection head."""
        return {"params": self._head_of(key, student)}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted divergences, [B] each."""
        terms = {
            "upright": self.upright_weight
            * losses.kd(student.logits, teacher.logits, temperature=self.temperature),
            "rotations": self.rotation_weight
            * losses.rotation_kd(
                *(_of_images(x.rotated.logits) for x in (student, teacher)),
                inputs.label if self.needs_label else None,
                temperature=self.temperature,
                kept=self.rotation_errors,
                axis_name=self._relation_axis,
            ),
            "similarities": self.similarity_weight
            * losses.similarity_kd(
                self._projected(variables["params"], student),
                self._projected(precomputed["pretrained"]["params"], teacher),
                temperature=self.similarity_temperature,
                kept=self.similarity_errors,
                axis_name=self._relation_axis,
            ),
        }
        return terms, {}

    def _head_of(self, key: jax.Array, network: Outputs) -> Variables:
        pooled = network.features.pooled
        made = self._head.init(key, jnp.zeros(pooled.shape, pooled.dtype))
        return made["params"]

    def _projected(
        self, params: Variables, network: Outputs
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the embeddings of upright and rotated images, [B, C], [B, 3, C]."""
        pooled = network.features.pooled, _of_images(network.rotated.features.pooled)
        upright, rotated = (self._head.apply({"params": params}, x) for x in pooled)
        return upright, rotated

    @property
    def _head(self) -> ProjectionHead:
        return ProjectionHead(jnp.promote_types(self.dtype, "float32"))


def _of_images(rotated: jax.Array) -> jax.Array:
    """Returns the rotations of each image, [B, 3, K] for [3B, K]."""
    return rotated.reshape(-1, 3, rotated.shape[-1])
