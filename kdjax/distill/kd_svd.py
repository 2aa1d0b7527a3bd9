"""KD-SVD: Lee et al., "Self-supervised Knowledge Distillation Using Singular Value
Decomposition" (ECCV 2018).

A feature map is compressed to its first singular vector. The student learns how the
vectors of one stage relate to those of the stage before, entry by entry under a radial
basis. Original: sseung0703/KD_methods_with_TF, `SVD.py`, `KD_SVD` and `KD_EID`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax

from kdjax.distill.bases.singular_vectors import SingularVectorMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.losses.kd_svd import vector_difference, vector_relations
from kdjax.losses.linalg import singular_vectors


def _relations(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Returns `vector_relations` of every two adjacent stages."""
    pairs = zip(itertools.pairwise(student), itertools.pairwise(teacher), strict=True)
    return {
        f"pair_{number}": vector_relations(*pair)
        for number, pair in enumerate(pairs, start=1)
    }


def _direct(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Returns `vector_difference` of every stage."""
    return {
        f"stage_{number}": vector_difference(*pair)
        for number, pair in enumerate(zip(student, teacher, strict=True), start=1)
    }


#: What is compared, by the name used in `methods.kd_svd.transfer`.
TRANSFERS = {"relation": _relations, "direct": _direct}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdSvd(SingularVectorMethod):
    """Relations of the first singular vectors of adjacent stages.

    The terms are `pair_1`, `pair_2`, ... , each of a stage and the next; with direct
    transfer they are `stage_1`, `stage_2`, ... , each of one stage.

    Attributes:
      weight: factor on the mean over the batch. The original has none and sums over
        its batch of 128, which matters where the gradient is not clipped.
      teacher_vectors: vectors of the teacher; more than one are weighted by their
        singular values, as in sseung0703/SSKD_SVD.
      transfer: "relation" or "direct".
    """

    taxonomy = Taxonomy(
        teacher_transform="first right singular vector",
        student_transform="right singular vector nearest the teacher's",
        position="after the ReLU that ends a stage",
        distance="squared difference of radial bases between adjacent stages",
        missing_information="all but the strongest direction of the channels",
    )
    name = "kd_svd"

    weight: float = 128.0
    teacher_vectors: int = 1
    transfer: str = "relation"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("transfer", TRANSFERS)
        self._require_positive("teacher_vectors")

    @property
    def _teacher_vectors(self) -> int:
        return self.teacher_vectors

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; rejects stages that cannot be compared."""
        variables = super().init(key, student, teacher)
        if self.transfer == "relation" and len(teacher.features.post) < 2:
            raise ValueError(
                "methods.kd_svd.transfer='relation' needs two stages or more, not "
                f"{len(teacher.features.post)}"
            )
        return variables

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the difference of every pair of stages, or of every stage, [B]."""
        *vectors, stats = self.vectors(variables, student, teacher)
        weights = [
            singular_vectors.weights(x, right)[:, None]
            for x, right in zip(teacher.features.post, vectors[1], strict=True)
        ]
        weighted = (
            [x * weight for x, weight in zip(side, weights, strict=True)]
            for side in vectors
        )
        return TRANSFERS[self.transfer](*weighted), stats
