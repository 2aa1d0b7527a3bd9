"""FSP: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning" (CVPR 2017).

Matches the products of the channels of adjacent stages, the flow of the solution
procedure. As in HobbitLong/RepDistiller, `FSP`, and sseung0703/KD_methods_with_TF,
`FSP`.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.singular_vectors import WIDTHS
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import StagewiseMethod
from kdjax.losses.fsp import DISTANCES, POOLS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fsp(StagewiseMethod):
    """Difference of the matrices between every two adjacent stages.

    The terms are `pair_1`, `pair_2`, ... . By default as in RepDistiller. As in
    KD_methods_with_TF, which has half the squared Frobenius norm by 1e-3, it is

        {"position": "post", "pool": "max", "distance": "l2", "stem": False,
         "weight": 5e-4}

    The paper and both codes initialize a student with it, which then learns the task
    alone: `config.distill_first.epochs`, 30 in RepDistiller and 40 in
    KD_methods_with_TF.

    Differs from the original in: stages of different widths can be connected, which the
    originals reject.

    Attributes:
      weight: RepDistiller's, which it applies to nothing: its initialization has 1.
      stem: whether the stem counts as the first stage.
      pool: "mean" or "max", how the larger map of a pair is brought to the smaller.
      distance: "mean_squared" of the matrices' entries, or "l2", their sum.
      widths: "connect" stages of different widths by a learned 1x1 convolution and
        batch norm on the student, numbered from 1 with the stem, or "refuse" them.
    """

    name = "fsp"
    taxonomy = Taxonomy(
        teacher_transform="correlation (Gram) matrix of adjacent stages",
        student_transform="correlation (Gram) matrix of adjacent stages",
        position="stem and output of the last block of a stage",
        distance="L2",
        missing_information="the spatial axes",
    )

    weight: float = 50.0
    stem: bool = True
    pool: str = "mean"
    distance: str = "mean_squared"
    widths: str = "connect"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("pool", POOLS)
        self._require_choice("distance", DISTANCES)
        self._require_choice("widths", WIDTHS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; rejects stages that cannot be compared."""
        both = self._stages(student, teacher)
        if len(both[1]) < 2:
            raise ValueError(
                f"methods.fsp needs two stages or more, not {len(both[1])}; stem=True "
                "adds one"
            )
        if self.pool == "max":
            for features in both:
                _require_whole_windows([x.shape[1:3] for x in features])
        widths = [[x.shape[-1] for x in features] for features in both]
        if self.widths == "refuse" and widths[0] != widths[1]:
            raise ValueError(
                "methods.fsp.widths='refuse' needs stages of equal width: the "
                f"student's are {widths[0]}, the teacher's {widths[1]}; 'connect' "
                "joins them"
            )
        features = [jnp.zeros(x.shape, x.dtype) for x in both[0]]
        return self._connectors(*both).init(key, features)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of the matrices of every two adjacent stages, [B]."""
        student_maps, teacher_maps = self._stages(student, teacher)
        connected, updates = self._connectors(student_maps, teacher_maps).apply(
            variables, student_maps, mutable=["batch_stats"]
        )
        pairs = zip(
            itertools.pairwise(connected), itertools.pairwise(teacher_maps), strict=True
        )
        terms = {
            f"pair_{pair}": losses.fsp(*both, pool=self.pool, distance=self.distance)
            for pair, both in enumerate(pairs, start=1)
        }
        return terms, updates.get("batch_stats", {})

    def _stages(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Returns both networks' features, the stem first if it counts."""
        features = super()._stages(student, teacher)
        if not self.stem:
            return features
        return tuple(
            (outputs.features.stem, *stages)
            for outputs, stages in zip((student, teacher), features, strict=True)
        )

    def _connectors(self, student, teacher) -> Connectors:
        return Connectors.between(
            student, teacher, dtype=self.dtype, axis_name=self.batch_norm_axis
        )


def _require_whole_windows(sizes: list[tuple[int, int]]) -> None:
    for lower, upper in itertools.pairwise(sizes):
        if any(max(pair) % min(pair) for pair in zip(lower, upper, strict=True)):
            raise ValueError(
                "methods.fsp.pool='max' needs sizes that divide each other, not "
                f"{lower} and {upper}"
            )
