"""OFD: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

The student's features before their ReLU pass a 1x1 connector and are drawn to the
teacher's, clipped from below at a channel's mean negative response, by a distance that
leaves alone what both networks keep silent. Original: clovaai/overhaul-distillation,
`CIFAR-100/distiller.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from kdjax import models
from kdjax.distill import distances, transforms
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Teacher, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import pool_larger, require_as_many

#: Below this share of negative responses the authors do not divide by it.
_RARE = 0.001


def margins(scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Computes E[F | F < 0] of responses F ~ N(bias, scale^2), channel by channel.

    Where fewer than one response in a thousand is negative, -3 |scale| is taken
    instead, as released. A channel with scale 0 always responds with its bias; its
    margin is the limit of the formula, min(bias, 0).

    Source: the paper's appendix A, equation 10; original: `get_margin_from_BN`.
    Differs from the original in: scale = 0, which raises there; the result stays
    float64, which is rounded to float32 there.

    Args:
      scale: gamma of the batch norm, of either sign, [C].
      bias: its beta, [C].

    Returns:
      Margins on the host, float64, [C]; negative wherever the scale is not 0.
    """
    sigma = np.abs(np.asarray(scale, np.float64))
    mean = np.asarray(bias, np.float64)
    # Overflow of z and underflow of the density are harmless limits here.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        z = mean / sigma
        density = np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)
        negative_share = special.ndtr(-z)
        expected = mean - sigma * (density / negative_share)
        margin = np.where(negative_share > _RARE, expected, -3 * sigma)
    return np.where(sigma == 0, np.minimum(mean, 0), margin)


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

    Serves features that are not the output of a batch norm, where the closed form does
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
    """Computes the margins from the batch norms that end the teacher's stages."""
    found = []
    for path in models.margin_batch_norms(teacher.name):
        norm = teacher.variables["params"]
        for name in path:
            norm = norm[name]
        found.append(margins(np.asarray(norm["scale"]), np.asarray(norm["bias"])))
    return found


#: Where margins come from, by the name used in `methods.overhaul.margin`.
MARGINS = {"closed_form": _closed_form_margins, "measured": measured_margins}


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
      margin: "closed_form" from the teacher's batch norms or "measured" from the data.
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

    def __post_init__(self):
        self._require_choice("margin", MARGINS)

    def check_teacher(self, name: str) -> None:
        """Refuses closed-form margins of networks without the batch norms."""
        if self.margin == "closed_form":
            models.margin_batch_norms(name)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors; refuses networks with other numbers of stages."""
        require_as_many("overhaul", student.features.pre, teacher.features.pre)
        features = [jnp.zeros(x.shape, x.dtype) for x in student.features.pre]
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
        """Returns the weighted partial L2 of every stage, [B] each."""
        ours, theirs = zip(
            *pool_larger(student.features.pre, teacher.features.pre), strict=True
        )
        connected, updates = self._connectors(teacher).apply(
            variables, ours, mutable=["batch_stats"]
        )
        stages = list(zip(connected, theirs, precomputed["margins"], strict=True))
        terms = {}
        for stage, (ours, theirs, margin) in enumerate(stages, start=1):
            distance = distances.partial_l2(
                ours, transforms.margin_relu(theirs, margin)
            )
            terms[f"stage_{stage}"] = 2.0 ** (stage - len(stages)) * distance
        return terms, updates["batch_stats"]

    def _connectors(self, teacher: Outputs) -> Connectors:
        # Used even where the widths agree.
        widths = tuple(x.shape[-1] for x in teacher.features.pre)
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)
