"""DML: Zhang et al., "Deep Mutual Learning" (CVPR 2018).

No teacher: the student and a peer learn together from scratch, each from the labels and
from the other's probabilities. Original: YingZhangDUT/Deep-Mutual-Learning,
`train_models.py`; also in sseung0703/KD_methods_with_TF, `DML.py`.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax import losses, models
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.losses.numerics import promote

#: What a network learns from the other, by the name used in `distance`: losses of its
#: logits and the other's.
DISTANCES = {
    "from_other": functools.partial(losses.kd, temperature=1.0),
    "symmetric": losses.symmetric_kl,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MutualLearning(Method):
    """Two networks that learn from the labels and from one another.

    The peer is among the method's variables: it is trained with the student by the same
    optimizer, and neither evaluated on the test split nor exported. The terms are
    `mutual`, whose gradient reaches the student only, and `mutual_peer` and
    `peer_cross_entropy`, whose gradients reach the peer only.

    The peer learns from the labels with a factor of 1 for every weight: since the
    weight multiplies all terms, `peer_cross_entropy` is divided by it.

    Differs from the original in: both networks step at once, from one batch and from
    each other's outputs before the step, where the original lets them step in turn; the
    divergence has no 1e-8 inside its logarithm, log(1e-8 + q / (p + 1e-8)) there, which
    changes the value by 3e-4 and the gradient by 6e-3 of it on logits of deviation 3.

    Attributes:
      weight: factor on what either learns from the other.
      peer: name of the other network, for example "resnet56". Those whose linear layers
        fix the size of the images, mhgd_vgg16 and mhgd_vgg7, need images of the size
        in the name.
      distance: "from_other", KL(other || own) with no gradient for the other, as
        published; or "symmetric", half of the sum of both directions, as released with
        MHGD.
    """

    name = "mutual_learning"
    needs_label = True
    needs_teacher = False
    taxonomy = Taxonomy(
        teacher_transform="softmax, of a peer that learns too",
        student_transform="softmax",
        position="logits",
        distance="KL(peer || student)",
        missing_information="all but the probabilities of the classes",
    )

    weight: float = 1.0
    peer: str = ""
    distance: str = "from_other"

    def __post_init__(self):
        field = f"methods.{self.name}"
        if not self.peer:
            raise ValueError(
                f"{field}.peer='' but mutual learning needs a second network: name one"
            )
        try:
            self._network(num_classes=1)
        except ValueError as error:
            raise ValueError(f"{field}.peer: {error}") from None
        self._require_choice("distance", DISTANCES)
        if not self.weight > 0:
            raise ValueError(
                f"{field}.weight={self.weight} is not above 0: neither network would "
                "learn from the other"
            )
        if self.warm_up:
            raise ValueError(
                f"{field}.warm_up={self.warm_up} is not 0: it would also warm up "
                "the peer's cross-entropy"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: None) -> Variables:
        """Creates the peer's variables."""
        size = models.image_size(self.peer)
        image = jnp.zeros((1, size, size, 3))
        return self._network(student.logits.shape[-1]).init(key, image, train=False)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: None,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what student and peer learn, [B] each, and the peer's statistics."""
        peer = self._network(student.logits.shape[-1])
        (logits, _), updates = peer.apply(
            variables, inputs.image, train=True, mutable=["batch_stats"]
        )
        distance, fixed = DISTANCES[self.distance], jax.lax.stop_gradient
        (wide,) = promote(logits)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
            wide, inputs.label
        )
        terms = {
            "mutual": distance(student.logits, fixed(logits)),
            "mutual_peer": distance(logits, fixed(student.logits)),
            "peer_cross_entropy": cross_entropy / self.weight,
        }
        # A network without batch norms has none.
        return terms, updates.get("batch_stats", {})

    def _network(self, num_classes: int) -> nn.Module:
        return models.build(
            self.peer, num_classes, dtype=self.dtype, axis_name=self.batch_norm_axis
        )
