"""AB: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed
by Hidden Neurons" (AAAI 2019).

What is transferred is on which side of its boundary a neuron is, not how far. Original:
bhheo/AB_distillation; as in HobbitLong/RepDistiller, `ABLoss`.
"""

import dataclasses

from kdjax.distill.composed import Composed
from kdjax.distill.method import Taxonomy


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationBoundary(Composed):
    """Marginal L2 to the sign of the teacher's features before their ReLU.

    Made to initialize a student, which then learns the task alone:
    `config.distill_first.epochs = 30`. Stage i of n is weighted 2^(i - n), a neuron
    counts from one inside a margin of 1. As in KD_methods_with_TF, which looks after
    the ReLU, connects every stage and weighs stage i of 3 by 2^(i - 1), it is

        {"position": "post", "connect": "always", "weight": 1.2e-2}

    with 40 epochs of initialization.

    Differs from the original in: where sizes differ, the larger map is averaged down,
    and RepDistiller's connectors there are strided or transposed convolutions, even
    where the widths agree.

    Attributes:
      weight: on the sum over a stage's entries: 3 / 1000, as released.
    """

    name = "activation_boundary"
    taxonomy = Taxonomy(
        teacher_transform="binarisation",
        student_transform="1x1 convolution and batch norm where the widths differ",
        position="before the ReLU that ends a stage",
        distance="marginal L2",
        missing_information="values of the features: only their signs are kept",
    )

    weight: float = 3e-3
    position: str = "pre"
    connect: str = "widths"
    distance: str = "activation_boundary"
    stage_weights: str = "halving"
