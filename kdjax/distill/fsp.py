"""FSP: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning" (CVPR 2017).

How the channels of one stage go together with those of the next is the flow of the
solution procedure; the student's is drawn to the teacher's. As in
HobbitLong/RepDistiller, `FSP`, and sseung0703/KD_methods_with_TF, `FSP`.
"""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.distill import distances
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.singular_vector_method import WIDTHS
from kdjax.distill.stages import pool_larger, require_as_many


def _mean_pooled(front: jax.Array, back: jax.Array) -> tuple[jax.Array, jax.Array]:
    ((front, back),) = pool_larger([front], [back])
    return front, back


def _max_pooled(front: jax.Array, back: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = tuple(map(min, front.shape[1:3], back.shape[1:3]))

    def pooled(x: jax.Array) -> jax.Array:
        window = tuple(n // m for n, m in zip(x.shape[1:3], size, strict=True))
        return nn.max_pool(x, window, strides=window)

    return pooled(front), pooled(back)


#: How two adjacent points of one network are brought to one height and width, by the
#: name used in `methods.fsp.pool`.
POOLS = {"mean": _mean_pooled, "max": _max_pooled}


def fsp_matrix(front: jax.Array, back: jax.Array, *, pool: str = "mean") -> jax.Array:
    """Averages over space the products of two points' channels.

    Source: the paper's equation 1; as in RepDistiller, `FSP.compute_fsp`, with "mean".
    Differs from the original in: nothing.

    Args:
      front: feature map, [B, H, W, C_front].
      back: the map of the next point, [B, H', W', C_back].
      pool: a key of `POOLS`.

    Returns:
      [B, C_front, C_back], float32 or wider.
    """
    front, back = POOLS[pool](front, back)
    wide = jnp.promote_types(front.dtype, jnp.float32)
    products = jnp.einsum(
        "bhwc,bhwd->bcd",
        front.astype(wide),
        back.astype(wide),
        precision=jax.lax.Precision.HIGHEST,
    )
    return products / (front.shape[1] * front.shape[2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fsp(Method):
    """Difference of the matrices between every two adjacent points of the networks.

    The terms are `pair_1`, `pair_2`, ... . By default as in RepDistiller. As in
    KD_methods_with_TF, which has half the squared Frobenius norm by 1e-3, it is

        {"pool": "max", "distance": "l2", "stem": False, "weight": 5e-4}

    The paper and both codes initialize a student with it, which then learns the task
    alone: `config.distill_first.epochs`, 30 in RepDistiller and 40 in
      KD_methods_with_TF.

    Differs from the original in: stages of other widths can be connected, which the
    originals refuse.

    Attributes:
      weight: RepDistiller's, which it applies to nothing: its initialization has 1.
      stem: the first point is what the stages start from.
      pool: "mean" or "max", how the larger map of a pair is brought to the smaller.
      distance: "mean_squared" of the matrices' entries, or "l2", their sum.
      widths: "connect" points of other widths to the teacher's by a learned 1x1
        convolution and batch norm, named after the place among the points, or "refuse".
    """

    name = "fsp"
    taxonomy = Taxonomy(
        teacher_transform="correlation (Gram) matrix of adjacent stages",
        student_transform="correlation (Gram) matrix of adjacent stages",
        position="after the ReLU that ends a stage",
        distance="L2",
        missing_information="the spatial axes",
    )

    weight: float = 50.0
    stem: bool = True
    pool: str = "mean"
    distance: str = "mean_squared"
    widths: str = "connect"

    def __post_init__(self):
        self._require_choice("pool", POOLS)
        self._require_choice("distance", ("mean_squared", "l2"))
        self._require_choice("widths", WIDTHS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; refuses points that cannot be compared."""
        require_as_many(self.name, student.features.post, teacher.features.post)
        ours, theirs = self._points(student), self._points(teacher)
        if len(theirs) < 2:
            raise ValueError(
                f"methods.fsp needs two points or more, not {len(theirs)}; stem=True "
                "adds one"
            )
        if self.pool == "max":
            for points in (ours, theirs):
                _require_whole_windows([x.shape[1:3] for x in points])
        widths = [[x.shape[-1] for x in points] for points in (ours, theirs)]
        if self.widths == "refuse" and widths[0] != widths[1]:
            raise ValueError(
                "methods.fsp.widths='refuse' needs points of equal width: the "
                f"student's are {widths[0]}, the teacher's {widths[1]}; 'connect' "
                "joins them"
            )
        features = [jnp.zeros(x.shape, x.dtype) for x in ours]
        return self._connectors(ours, theirs).init(key, features)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of the matrices of every two adjacent points, [B]."""
        ours, theirs = self._points(student), self._points(teacher)
        ours, updates = self._connectors(ours, theirs).apply(
            variables, ours, mutable=["batch_stats"]
        )
        distance = distances.DISTANCES[self.distance]
        terms = {}
        for pair, both in enumerate(
            zip(itertools.pairwise(ours), itertools.pairwise(theirs), strict=True),
            start=1,
        ):
            matrices = (fsp_matrix(*maps, pool=self.pool) for maps in both)
            terms[f"pair_{pair}"] = distance(*matrices)
        return terms, updates.get("batch_stats", {})

    def _points(self, outputs: Outputs) -> tuple[jax.Array, ...]:
        stem = (outputs.features.stem,) if self.stem else ()
        return (*stem, *outputs.features.post)

    def _connectors(self, student, teacher) -> Connectors:
        widths = tuple(
            None if ours.shape[-1] == theirs.shape[-1] else theirs.shape[-1]
            for ours, theirs in zip(student, teacher, strict=True)
        )
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)


def _require_whole_windows(sizes: list[tuple[int, int]]) -> None:
    for front, back in itertools.pairwise(sizes):
        if any(max(pair) % min(pair) for pair in zip(front, back, strict=True)):
            raise ValueError(
                "methods.fsp.pool='max' needs sizes that divide each other, not "
                f"{front} and {back}"
            )
