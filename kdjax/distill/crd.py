"""CRD: Tian et al., "Contrastive Representation Distillation" (ICLR 2020).

Embeddings of one image by student and teacher are to be told from pairs of images of
different classes, which come from a memory of all training images' embeddings.
Original: HobbitLong/RepDistiller, `crd/`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.distill import contrast, transforms
from kdjax.distill.method import (
    Inputs,
    Method,
    Outputs,
    Taxonomy,
    Teacher,
    Variables,
)
from kdjax.distill.modules.embeddings import Embeddings

_SIDES = ("student", "teacher")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crd(Method):
    """Contrast of each network's embeddings with the other's memory.

    The terms are `student` and `teacher`, by whose embeddings are compared. Memories
    and normalizers stand among the running statistics: with checkpoints they come back
    as they were. A normalizer is N times the mean of exp(score) in the first batch, and
    kept as its logarithm, which no temperature makes overflow; before it, -inf.

    Every device holds the whole memory, into which the images of all devices go, and
    the normalizers are those of the whole batch: the loss does not depend on the
    number of devices.

    Differs from the original in: negatives are drawn with replacement, anew in every
    step; without replacement there, as long as there are as many. Of a training split
    of fewer images than `negatives`, as many as it has images are drawn.

    Attributes:
      weight: 0.8, beside 1 of the task. With soft targets the authors add these with a
        weight of 1.
      width: entries of an embedding.
      negatives: K of the paper, images of other classes drawn for each image.
      temperature: tau of the paper.
      momentum: share of the old embedding in the memory.
    """

    name = "crd"
    depends_on = "its example and a memory of all"
    needs_label = True
    taxonomy = Taxonomy(
        teacher_transform="linear embedding of length 1",
        student_transform="linear embedding of length 1",
        position="pooled features",
        distance="noise-contrastive estimation",
        missing_information="what the embedding drops",
    )

    weight: float = 0.8
    width: int = 128
    negatives: int = 16384
    temperature: float = 0.07
    momentum: float = 0.5

    def __post_init__(self):
        self._require_positive("width")
        self._require_positive("negatives")
        if self.temperature <= 0:
            raise ValueError(
                f"methods.crd.temperature={self.temperature} is not above 0"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"methods.crd.momentum={self.momentum} is not in [0, 1)")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes embeddings, and memories of random vectors of about length 1."""
        if self.num_examples is None:
            raise ValueError("methods.crd needs the number of training images")
        pooled = [x.features.pooled for x in (student, teacher)]
        embed_key, *memory_keys = jax.random.split(key, 3)
        made = self._embeddings.init(
            embed_key, *(jnp.zeros(x.shape, x.dtype) for x in pooled)
        )
        bound = (3 / self.width) ** 0.5
        shape = (self.num_examples, self.width)
        stats = {
            side: {
                "memory": jax.random.uniform(
                    memory_key, shape, jnp.float32, -bound, bound
                ),
                "log_normalizer": jnp.full((), -jnp.inf, jnp.float32),
            }
            for side, memory_key in zip(_SIDES, memory_keys, strict=True)
        }
        return {"params": made["params"], "batch_stats": stats}

    def precompute(self, teacher: Teacher) -> Variables:
        """Sorts the training images by class.

        Returns:
          `order`, places in the training split, [N]; and of each class the `start`
          among them and the `size`, [K] each.

        Raises:
          ValueError: if the classes are unknown, or there is only one.
        """
        if teacher.label is None:
            raise ValueError("methods.crd needs the classes of the training images")
        label = np.asarray(teacher.label())
        size = np.bincount(label, minlength=self.num_classes or 0)
        if np.any(size == len(label)):
            raise ValueError(
                "methods.crd needs negatives, but all training images are of class "
                f"{int(label[0])}"
            )
        found = {
            "order": np.argsort(label, kind="stable"),
            "start": np.cumsum(size) - size,
            "size": size,
        }
        return {name: x.astype(np.int32) for name, x in found.items()}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the contrast of either side, [B] each, and the new memories."""
        place = jnp.concatenate(
            [inputs.index[:, None], self._negatives(precomputed, inputs)], axis=1
        )
        embedded = self.embedded(
            variables["params"], student.features.pooled, teacher.features.pooled
        )
        return self.nce(variables["batch_stats"], embedded, place)

    def embedded(
        self, params: Variables, student: jax.Array, teacher: jax.Array
    ) -> dict[str, jax.Array]:
        """Embeds the pooled features of each side, [B, C], by vectors of length 1."""
        found = self._embeddings.apply({"params": params}, student, teacher)
        return dict(zip(_SIDES, map(transforms.unit, found), strict=True))

    def nce(
        self, stats: Variables, embedded: dict[str, jax.Array], place: jax.Array
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Contrasts embeddings with memories.

        Args:
          stats: the memory and the normalizer of each side.
          embedded: of each side, [B, D].
          place: the image itself and its negatives in the split, [B, 1 + K].

        Returns:
          Terms of each side, [B] each, and the new memories and normalizers.
        """
        index = self._gather(place[:, 0])
        terms, new = {}, {}
        for side, other in zip(_SIDES, reversed(_SIDES), strict=True):
            score = contrast.scores(
                embedded[side],
                stats[other]["memory"],
                temperature=self.temperature,
            )
            known = stats[side]["log_normalizer"]
            measured = self._measured(score, place).astype(known.dtype)
            log_normalizer = jnp.where(known > -jnp.inf, known, measured)
            terms[side] = contrast.loss(score, place, log_normalizer=log_normalizer)
            new[side] = {
                "memory": contrast.updated(
                    stats[side]["memory"],
                    self._gather(jax.lax.stop_gradient(embedded[side])),
                    index,
                    momentum=self.momentum,
                ),
                "log_normalizer": log_normalizer,
            }
        return terms, new

    def _measured(self, score: jax.Array, place: jax.Array) -> jax.Array:
        """Returns the logarithm of the normalizer by what the whole batch has drawn."""
        means = self._gather(contrast.log_mean_exponential(score, place))
        return jax.nn.logsumexp(means, b=score.shape[1] / len(means))

    def _negatives(self, precomputed: Variables, inputs: Inputs) -> jax.Array:
        """Draws images of other classes, [B, K] places in the training split.

        What an image draws depends on the step and on the image alone.
        """
        count = min(self.negatives, self.num_examples)
        order, starts, sizes = (
            jnp.asarray(precomputed[name]) for name in ("order", "start", "size")
        )

        def draw(index: jax.Array, label: jax.Array) -> jax.Array:
            start, size = starts[label], sizes[label]
            place = jax.random.randint(
                jax.random.fold_in(inputs.key, index),
                (count,),
                0,
                self.num_examples - size,
            )
            # Over the image's own class.
            return order[jnp.where(place < start, place, place + size)]

        return jax.vmap(draw)(inputs.index, inputs.label)

    def _gather(self, x: jax.Array) -> jax.Array:
        if self.data_axis is None:
            return x
        return jax.lax.all_gather(x, self.data_axis, tiled=True)

    @property
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.width, jnp.promote_types(self.dtype, "float32"))
