"""AB: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed
by Hidden Neurons" (AAAI 2019).

Transfers on which side of its boundary a neuron is, not how far. Original:
bhheo/AB_distillation; as in HobbitLong/RepDistiller, `ABLoss`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import StagewiseMethod, pool_pairs

#: Which stages are connected, by the name used in
#: `methods.activation_boundary.connect`: those of differing widths, or all.
CONNECT = ("widths", "always")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationBoundary(StagewiseMethod):
    """Marginal L2 to the sign of the teacher's features before their ReLU.

    The terms are `stage_1`, `stage_2`, ... , stage i of n weighted 2^(i - n); the
    margin is 1. Made to initialize a student, which then learns the task alone:
    `config.distill_first.epochs = 30`. As in KD_methods_with_TF, which looks after the
    ReLU, connects every stage and weighs stage i of 3 by 2^(i - 1), it is

        {"position": "post", "connect": "always", "weight": 1.2e-2}

    with 40 epochs of initialization.

    Differs from the original in: where sizes differ, the larger map is averaged down,
    and RepDistiller's connectors there are strided or transposed convolutions, even
    where the widths agree.

    Attributes:
      weight: on the sum over a stage's entries: 3 / 1000, as released.
      connect: "widths" has a learned 1x1 convolution and batch norm where the widths
        differ, "always" at every stage.
    """

    name = "activation_boundary"
    taxonomy = Taxonomy(
        teacher_transform="binarization",
        student_transform="1x1 convolution and batch norm where the widths differ",
        position="before the ReLU that ends a stage",
        distance="marginal L2",
        missing_information="values of the features: only their signs are kept",
    )

    weight: float = 3e-3
    position: str = "pre"
    connect: str = "widths"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("connect", CONNECT)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors; rejects networks with different numbers of stages."""
        maps = jax.eval_shape(self._maps, student, teacher)
        features = [jnp.zeros(x.shape, x.dtype) for x in maps[0]]
        return self._connectors(*maps).init(key, features)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted marginal L2 of every stage, [B] each."""
        maps = self._maps(student, teacher)
        connected, updates = self._connectors(*maps).apply(
            variables, maps[0], mutable=["batch_stats"]
        )
        terms = {}
        for stage, both in enumerate(zip(connected, maps[1], strict=True), start=1):
            distance = losses.activation_boundary(*both)
            terms[f"stage_{stage}"] = 2.0 ** (stage - len(connected)) * distance
        return terms, updates.get("batch_stats", {})

    def _maps(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Returns both networks' features, brought to equal height and width."""
        pairs = pool_pairs(*self._stages(student, teacher))
        return tuple(zip(*pairs, strict=True))

    def _connectors(self, student, teacher) -> Connectors:
        return Connectors.between(
            student,
            teacher,
            always=self.connect == "always",
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
        )
