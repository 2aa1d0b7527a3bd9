"""OFD: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

Matches the student's features before their ReLU, through a 1x1 connector, to the
teacher's clipped from below at each channel's mean negative response, with a partial L2
that ignores positions where both are inactive. Original:
clovaai/overhaul-distillation, `CIFAR-100/distiller.py`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import models
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Teacher, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import pool_pairs, require_as_many
from kdjax.losses import margin_relu, margins, partial_l2
from kdjax.losses.elementwise import l2


@jax.jit
def _negative_sums(
    features: tuple[jax.Array, ...],
) -> list[tuple[jax.Array, jax.Array]]:
    """Sums and counts the negative responses of each stage, [C] and [C]."""
    axes = (0, 1, 2)
    return [
        (
            jnp.sum(jnp.minimum(x, 0), axes, jnp.float32),
            jnp.sum(x < 0, axes, jnp.float32),
        )
        for x in features
    ]


def measured_margins(teacher: Teacher) -> list[np.ndarray]:
    """Measures E[F | F < 0] of every `pre` feature over the training images.

    For features that are not the output of a batch norm, to which the closed form does
    not apply. A channel that is never negative gets 0.

    Source: the paper's definition of the margin, section 3.1.
    Differs from the original in: one mean over all negative responses, where the
    authors advise a running mean of the batches' means; the images are not augmented.

    Returns:
      Margins of each stage on the host, float64, [C].
    """
    totals = None
    for outputs in teacher.outputs():
        sums = jax.tree.map(
            lambda x: np.asarray(x, np.float64), _negative_sums(outputs.features.pre)
        )
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    return [total / np.maximum(count, 1) for total, count in totals]


def _closed_form_margins(teacher: Teacher) -> list[np.ndarray]:
    """Computes the margins from the teacher's batch norms."""
    found = []
    for path in models.margin_batch_norms(teacher.name):
        norm = teacher.variables["params"]
        for name in path:
            norm = norm[name]
        found.append(margins(np.asarray(norm["scale"]), np.asarray(norm["bias"])))
    return found


def _constant_margins(value: float, teacher: Teacher) -> list[np.ndarray]:
    """Returns the same margin for every channel."""
    features = next(teacher.outputs()).features.pre
    return [np.full(x.shape[-1], value) for x in features]


#: Where margins come from, by the name used in `methods.overhaul.margin`.
MARGINS = {
    "closed_form": _closed_form_margins,
    "measured": measured_margins,
    "zero": functools.partial(_constant_margins, 0.0),
    "none": functools.partial(_constant_margins, -np.inf),
}

#: Distances of the paper's comparison, by the name used in `methods.overhaul.distance`.
DISTANCES = {"partial_l2": partial_l2, "l2": l2}

#: Where features are taken, by the field of `models.Features`.
POSITIONS = ("pre", "post")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overhaul(Method):
    """Margin ReLU, 1x1 connectors and partial L2 on the features before the ReLU.

    The terms are `stage_1`, `stage_2`, ... , weighted 2^-(n-i) for stage i of n: the
    size of a feature map doubles from one stage to the one below.

    Differs from the original in: where the networks' stages differ in height and width,
    which it cannot compare, the larger map is averaged down to the smaller, before the
    connector and the margin ReLU.

    Attributes:
      weight: alpha of the paper; 1e-3 for CIFAR-100, 1e-4 for ImageNet.
      margin: "closed_form" from the teacher's batch norms or "measured" from the data;
        or, to compare with, "zero", which is the ReLU, or "none", which clips nothing.
      distance: "partial_l2", or "l2", which has no region where the student is free.
      position: "pre", before the ReLU that ends a stage, or "post", after it, where no
        response is negative and margins change nothing.
    """

    taxonomy = Taxonomy(
        teacher_transform="margin ReLU",
        student_transform="1x1 convolution and batch norm",
        position="before the ReLU that ends a stage",
        distance="partial L2",
        missing_information="negative responses below the margin",
    )

    name = "overhaul"

    weight: float = 1e-3
    margin: str = "closed_form"
    distance: str = "partial_l2"
    position: str = "pre"

    def __post_init__(self):
        self._require_choice("margin", MARGINS)
        self._require_choice("distance", DISTANCES)
        self._require_choice("position", POSITIONS)

    def check_teacher(self, name: str) -> None:
        """Rejects closed-form margins for networks without the batch norms."""
        if self.margin == "closed_form":
            models.margin_batch_norms(name)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors; rejects networks with different numbers of stages."""
        maps = self._maps(student)
        require_as_many("overhaul", maps, self._maps(teacher))
        features = [jnp.zeros(x.shape, x.dtype) for x in maps]
        return self._connectors(teacher).init(key, features)

    def precompute(self, teacher: Teacher) -> Variables:
        """Returns the margins of the teacher's stages, float32 as released."""
        found = MARGINS[self.margin](teacher)
        return {"margins": tuple(np.asarray(m, np.float32) for m in found)}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted distance of every stage, [B] each."""
        pairs = pool_pairs(self._maps(student), self._maps(teacher))
        student_maps, teacher_maps = zip(*pairs, strict=True)
        connected, updates = self._connectors(teacher).apply(
            variables, student_maps, mutable=["batch_stats"]
        )
        stages = zip(connected, teacher_maps, precomputed["margins"], strict=True)
        terms, compare = {}, DISTANCES[self.distance]
        for stage, (student_map, teacher_map, margin) in enumerate(stages, start=1):
            distance = compare(student_map, margin_relu(teacher_map, margin))
            terms[f"stage_{stage}"] = 2.0 ** (stage - len(pairs)) * distance
        return terms, updates["batch_stats"]

    def _maps(self, outputs: Outputs) -> tuple[jax.Array, ...]:
        return tuple(getattr(outputs.features, self.position))

    def _connectors(self, teacher: Outputs) -> Connectors:
        # Used even where the widths agree.
        widths = tuple(x.shape[-1] for x in self._maps(teacher))
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)
