"""MHGD: Lee and Song, "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

A batch becomes a graph: each image has a vector at the front and at the back of a part
of the network, and an attention network, trained on the teacher alone, says how the
back of one image relates to the front of another. The student learns to relate them as
the teacher does. Original: sseung0703/KD_methods_with_TF, `MHGD.py`.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from kdjax.distill.linalg import singular_vectors
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules import attention_network
from kdjax.distill.relational import RelationalMethod
from kdjax.distill.singular_vector_method import PointVectorMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mhgd(PointVectorMethod, RelationalMethod):
    """Graphs of a batch by multi-head attention between two points of a network.

    Every two consecutive stages, front and back, have an attention network of their
    own. It learns in the phase before, to estimate the teacher's back vectors by its
    front vectors, and is frozen then. The terms are `pair_1`, `pair_2`, ... : the
    divergences of the student's graphs from the teacher's, row by row.

    Batch-relational: a graph relates the images of a batch with one another.

    Differs from the original in: `attention_network.AttentionNetwork`,
    `attention_network.kept_heads` and `singular_vectors.compress` say what.

    Attributes:
      weight: factor on the mean over the batch. The original has none and sums over
        its batch of 128; which matters where the gradient is not clipped.
      heads: graphs of a pair.
      smoothing: what bounds the logits, a key of `attention_network.SMOOTHINGS`:
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
        PointVectorMethod.__post_init__(self)
        RelationalMethod.__post_init__(self)
        self._require_positive("heads")
        self._require_choice("smoothing", attention_network.SMOOTHINGS)

    @property
    def _teacher_vectors(self) -> int:
        return 1

    def pretrain_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes an attention network for every two consecutive stages."""
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
        """Returns how far the estimates are from the teacher's back vectors, [B] each.

        Statistics, graph and estimates are those of all images in scope, on every
        device; what it returns is the device's own.
        """
        vectors = [
            singular_vectors.compress(x, 1, route=self.route)[..., 0]
            for x in teacher.features.post
        ]
        gathered = [self._gather(v) for v in vectors]
        size, own = len(gathered[0]), self._own_rows(len(vectors[0]))
        pairs = list(_pairs(gathered))
        terms, stats = {}, {}
        for (name, (front, back)), pair_key in zip(
            pairs, jax.random.split(key, len(pairs)), strict=True
        ):
            noise = attention_network.head_noise(
                pair_key, heads=self.heads, position=jnp.arange(size), batch_size=size
            )
            estimate, updates = self._network_of(front, back).apply(
                _of_pair(variables, name),
                front,
                back,
                attention_network.kept_heads(noise),
                train=True,
                mutable=["batch_stats"],
            )
            terms[name] = attention_network.estimation_loss(estimate, back)[own]
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
        points, stats = self.points(variables, student, teacher)
        ours, theirs = ([x[..., 0] for x in side] for side in zip(*points, strict=True))
        graphs = zip(
            self.logits(precomputed["pretrained"], ours),
            self.logits(precomputed["pretrained"], theirs),
            strict=True,
        )
        terms = {
            name: attention_network.graph_divergence(*logits, smoothing=self.smoothing)
            for name, logits in zip(_names(len(points) - 1), graphs, strict=True)
        }
        return terms, stats

    def logits(
        self, prepared: Variables, vectors: Sequence[jax.Array]
    ) -> list[jax.Array]:
        """Relates the images by a network's vectors, pair by pair.

        Args:
          prepared: the attention networks, with their running statistics.
          vectors: of each stage, [B, C].

        Returns:
          [A, B, B_all] each: the device's own images to all in scope.
        """
        found = []
        for name, (front, back) in _pairs(vectors):
            network = self._network_of(front, back)
            found.append(
                network.apply(
                    _of_pair(prepared, name),
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


def _names(pairs: int) -> list[str]:
    return [f"pair_{number + 1}" for number in range(pairs)]


def _pairs(points: Sequence) -> Iterator[tuple[str, tuple]]:
    """Names every two consecutive points, front and back."""
    pairs = list(itertools.pairwise(points))
    return zip(_names(len(pairs)), pairs, strict=True)


def _of_pair(variables: Variables, name: str) -> Variables:
    return {collection: tree[name] for collection, tree in variables.items()}
