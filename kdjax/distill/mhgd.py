"""MHGD: Lee and Song, "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

A batch becomes a graph: each image has a vector at the front and at the back of a part
of the network, and an attention network, trained on the teacher alone, relates the back
vector of each image to the front vectors of all images. The student learns to relate
them as the teacher does. Original: sseung0703/KD_methods_with_TF, `MHGD.py`.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.bases.singular_vectors import SingularVectorMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules import attention_network
from kdjax.losses.mhgd import SMOOTHINGS, estimation_loss, graph_divergence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mhgd(SingularVectorMethod, RelationalMethod):
    """Graphs of a batch by multi-head attention between two stages of a network.

    Every two adjacent stages, front and back, have an attention network of their own.
    Pretraining teaches it to estimate the teacher's back vectors from its front
    vectors; then it is frozen. The terms are `pair_1`, `pair_2`, ... : the divergences
    of the student's graphs from the teacher's, row by row.

    Batch-relational: a graph relates the images of a batch with one another.

    Differs from the original in: `attention_network.AttentionNetwork`,
    `attention_network.head_dropout_mask` and `singular_vectors.compress` say what.

    Attributes:
      weight: factor on the mean over the batch. The original has none and sums over
        its batch of 128, which matters where the gradient is not clipped.
      heads: number of graphs of a pair.
      smoothing: what bounds the logits, a key of `losses.mhgd.SMOOTHINGS`:
        "tanh", or "centered_tanh" as first released in July 2019.
    """

    taxonomy = Taxonomy(
        teacher_transform="attention graph of the batch's singular vectors",
        student_transform="the same, by the teacher's attention network",
        position="after the ReLU that ends a stage",
        distance="KL(student's graph || teacher's graph)",
        missing_information="all but relations between the images of a batch",
    )
    name = "mhgd"
    pretrains = True

    weight: float = 128.0
    heads: int = 8
    smoothing: str = "tanh"

    def __post_init__(self):
        SingularVectorMethod.__post_init__(self)
        RelationalMethod.__post_init__(self)
        self._require_positive("heads")
        self._require_choice("smoothing", SMOOTHINGS)

    @property
    def _teacher_vectors(self) -> int:
        return 1

    def pretrain_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes an attention network for every two adjacent stages."""
        if len(teacher.features.post) < 2:
            raise ValueError(
                "methods.mhgd needs two stages or more, the teacher has "
                f"{len(teacher.features.post)}"
            )
        pairs = list(_pairs([x.shape[-1] for x in teacher.features.post]))
        variables = {"params": {}, "batch_stats": {}}
        for (name, channels), pair_key in zip(
            pairs, jax.random.split(key, len(pairs)), strict=True
        ):
            front, back = (jnp.zeros((1, width)) for width in channels)
            kept = jnp.ones((self.heads, 1, 1), bool)
            made = self._network(*channels).init(
                pair_key, front, back, kept, train=False
            )
            for collection, tree in variables.items():
                tree[name] = made[collection]
        return variables

    def pretrain_loss(
        self, variables: Variables, key: jax.Array, teacher: Outputs
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the estimation loss of every pair of stages, [B] each.

        Every device computes statistics, graph and estimates of all images in scope,
        and returns the losses of its own images.
        """
        vectors = [x[..., 0] for x in self._compress(teacher.features.post)]
        gathered = [self._gather(v) for v in vectors]
        size, own = len(gathered[0]), self._own_rows(len(vectors[0]))
        pairs = list(_pairs(gathered))
        terms, stats = {}, {}
        for (name, (front, back)), pair_key in zip(
            pairs, jax.random.split(key, len(pairs)), strict=True
        ):
            kept = attention_network.head_dropout_mask(
                pair_key, heads=self.heads, index=jnp.arange(size), batch_size=size
            )
            estimate, updates = self._network_of(front, back).apply(
                _of_pair(variables, name),
                front,
                back,
                kept,
                train=True,
                mutable=["batch_stats"],
            )
            terms[name] = estimation_loss(estimate, back)[own]
            stats[name] = updates["batch_stats"]
        return terms, stats

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the divergence of the graphs of every pair of stages, [B] each."""
        *vectors, stats = self.vectors(variables, student, teacher)
        graphs = (
            self.logits(precomputed["pretrained"], [x[..., 0] for x in side])
            for side in vectors
        )
        terms = {
            f"pair_{number}": graph_divergence(*logits, smoothing=self.smoothing)
            for number, logits in enumerate(zip(*graphs, strict=True), start=1)
        }
        return terms, stats

    def logits(
        self, pretrained: Variables, vectors: Sequence[jax.Array]
    ) -> list[jax.Array]:
        """Computes the attention logits of a network's vectors, pair by pair.

        Args:
          pretrained: the attention networks, with their running statistics.
          vectors: one an image, [B, C] for every stage.

        Returns:
          [A, B, B_all] for every pair: the device's own images by all in scope.
        """
        found = []
        for name, (front, back) in _pairs(vectors):
            network = self._network_of(front, back)
            found.append(
                network.apply(
                    _of_pair(pretrained, name),
                    self._gather(front),
                    back,
                    train=False,
                    method=network.logits,
                )
            )
        return found

    def _network(self, front: int, back: int) -> attention_network.AttentionNetwork:
        # In float32 throughout: unscaled products of long vectors are its logits.
        return attention_network.AttentionNetwork(
            front,
            back,
            heads=self.heads,
            dtype=jnp.promote_types(self.dtype, "float32"),
        )

    def _network_of(self, front: jax.Array, back: jax.Array):
        return self._network(front.shape[-1], back.shape[-1])


def _pairs(stages: Sequence[Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names every two adjacent stages, front and back."""
    for number, pair in enumerate(itertools.pairwise(stages), start=1):
        yield f"pair_{number}", pair


def _of_pair(variables: Variables, name: str) -> Variables:
    return {collection: tree[name] for collection, tree in variables.items()}
