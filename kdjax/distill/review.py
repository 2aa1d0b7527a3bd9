"""ReviewKD: Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021).

Fuses each stage of the student with the stages above it, from the top down, and matches
the result to the teacher's stage. Original: dvlab-research/ReviewKD,
`CIFAR-100/model/reviewkd.py`.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.modules.review_fusion import ReviewFusion
from kdjax.distill.stages import POSITIONS, require_as_many


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review(Method):
    """Fused stages of the student against the teacher's, the pooled features on top.

    The terms are `stage_1`, ... and `pooled`. Any two networks with as many stages can
    be joined.

    Differs from the original in: what `losses.hierarchical_context` and `ReviewFusion`
    say; in the warm-up, which starts at its first step here and at 0 there.

    Attributes:
      weight: 1 as the original's default and for resnet110-resnet32; published are 0.6
        for resnet56-resnet20, 5 for the wide ResNets, resnet32x4-resnet8x4 and
        ShuffleNet V1, and 8 for ShuffleNet V2.
      student_position: where the student's features are taken, of
        `stages.POSITIONS`.
      teacher_position: where the teacher's are taken.
    """

    name = "review"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="fusion with the stages above",
        position="before the ReLU that ends a stage; output of a block in the student",
        distance="L2 at several sizes",
        missing_information="none",
    )

    weight: float = 1.0
    warm_up: int = 20
    student_position: str = "block"
    teacher_position: str = "pre"

    def __post_init__(self):
        self._require_choice("student_position", POSITIONS)
        self._require_choice("teacher_position", POSITIONS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the fusion; rejects networks with different numbers of stages."""
        student_maps, teacher_maps = jax.eval_shape(self._maps, student, teacher)
        maps = [jnp.zeros(x.shape, x.dtype) for x in student_maps]
        return self._fusion(teacher_maps).init(key, maps)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the hierarchical context loss of every level, [B] each."""
        student_maps, teacher_maps = self._maps(student, teacher)
        fused, updates = self._fusion(teacher_maps).apply(
            variables, student_maps, mutable=["batch_stats"]
        )
        names = [f"stage_{stage}" for stage in range(1, len(fused))] + ["pooled"]
        terms = {
            name: losses.hierarchical_context(*maps)
            for name, *maps in zip(names, fused, teacher_maps, strict=True)
        }
        return terms, updates["batch_stats"]

    def _maps(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Returns both networks' levels; the pooled features as maps of one pixel."""
        stages = (
            getattr(student.features, self.student_position),
            getattr(teacher.features, self.teacher_position),
        )
        require_as_many(self.name, *stages)
        return tuple(
            [*maps, outputs.features.pooled[:, None, None, :]]
            for maps, outputs in zip(stages, (student, teacher), strict=True)
        )

    def _fusion(self, teacher: Sequence[jax.Array]) -> ReviewFusion:
        return ReviewFusion(
            tuple(x.shape[-1] for x in teacher),
            tuple(x.shape[1:3] for x in teacher),
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
        )
