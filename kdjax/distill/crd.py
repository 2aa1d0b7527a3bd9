"""CRD: Tian et al., "Contrastive Representation Distillation" (ICLR 2020).

Contrasts the student's and the teacher's embeddings of an image against negatives of
other classes from a memory bank. Original: HobbitLong/RepDistiller, `crd/`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.distill.method import (
    Inputs,
    Method,
    Outputs,
    Taxonomy,
    Teacher,
    Variables,
)
from kdjax.distill.modules.embeddings import Embeddings
from kdjax.losses.numerics import l2_normalize
from kdjax.losses.relations import gather

#: Each network with the one whose memory its embeddings are contrasted with.
_SIDES = {"student": "teacher", "teacher": "student"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crd(Method):
    """Contrast of each network's embeddings with the other's memory bank.

    The terms are `student` and `teacher`, named after the embeddings. The memory bank
    and the normalizer of each side are the method's state, and in checkpoints. The
    normalizer is that of the first batch; its logarithm is stored, -inf before it.

    Every device holds the entire memory bank, which the images of all devices update,
    and normalizers are those of the global batch: the loss does not depend on the
    number of devices.

    Differs from the original in: negatives are drawn with replacement, anew in every
    step; without replacement there, as long as there are as many. If the training split
    has fewer images than `negatives`, as many as it has are drawn.

    Attributes:
      weight: 0.8, with 1 for the task. With KD the authors add it with a weight of 1.
      width: entries of an embedding.
      negatives: K of the paper, images of other classes drawn for each image.
      temperature: tau of the paper.
      momentum: factor on the old embedding in the memory bank's update.
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
        """Creates embeddings, and memory banks of random vectors of about length 1."""
        if self.num_examples is None:
            raise ValueError("methods.crd needs the number of training images")
        pooled = [x.features.pooled for x in (student, teacher)]
        embed_key, *memory_keys = jax.random.split(key, 3)
        embeddings = self._embeddings.init(
            embed_key, *(jnp.zeros(x.shape, x.dtype) for x in pooled)
        )
        bound = (3 / self.width) ** 0.5
        shape = (self.num_examples, self.width)
        state = {
            side: {
                "memory": jax.random.uniform(
                    memory_key, shape, jnp.float32, -bound, bound
                ),
                "log_normalizer": jnp.full((), -jnp.inf, jnp.float32),
            }
            for side, memory_key in zip(_SIDES, memory_keys, strict=True)
        }
        return {"params": embeddings["params"], "method_state": state}

    def precompute(self, teacher: Teacher) -> Variables:
        """Sorts the training images by class.

        Returns:
          `order`, indices in the training split, [N]; and for each class the `start`
          and the `size` of its part of them, [K] each.

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
        classes = {
            "order": np.argsort(label, kind="stable"),
            "start": np.cumsum(size) - size,
            "size": size,
        }
        return {name: x.astype(np.int32) for name, x in classes.items()}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the contrast of each side, [B] each, and the new memory banks."""
        embeddings = self._embeddings.apply(
            {"params": variables["params"]},
            student.features.pooled,
            teacher.features.pooled,
        )
        embedded = dict(zip(_SIDES, map(l2_normalize, embeddings), strict=True))
        index = jnp.concatenate(
            [inputs.index[:, None], self._negatives(precomputed, inputs)], axis=1
        )
        return self.contrast(variables["method_state"], embedded, index)

    def contrast(
        self, state: Variables, embedded: dict[str, jax.Array], index: jax.Array
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Contrasts embeddings with memory banks, and updates these.

        Args:
          state: `memory` and `log_normalizer` of each side.
          embedded: each side's embeddings, of length 1, [B, D].
          index: of each image itself and its negatives, [B, 1 + K].

        Returns:
          The contrast of each side, [B] each, and the new state.
        """
        terms, new = {}, {}
        for side, other in _SIDES.items():
            memory = state[other]["memory"]
            log_normalizer = self._log_normalizer(
                state[side]["log_normalizer"],
                jax.lax.stop_gradient(embedded[side]),
                memory,
                index,
            )
            terms[side] = losses.crd(
                embedded[side],
                memory,
                index,
                log_normalizer=log_normalizer,
                temperature=self.temperature,
            )
            new[side] = {
                "memory": self._updated(
                    state[side]["memory"],
                    jax.lax.stop_gradient(embedded[side]),
                    index[:, 0],
                ),
                "log_normalizer": log_normalizer,
            }
        return terms, new

    def _log_normalizer(
        self,
        known: jax.Array,
        embedding: jax.Array,
        memory: jax.Array,
        index: jax.Array,
    ) -> jax.Array:
        """Returns the known normalizer, or estimates it if there is none yet."""

        def estimate():
            return losses.crd_log_normalizer(
                embedding,
                memory,
                index,
                temperature=self.temperature,
                axis_name=self.data_axis,
            ).astype(known.dtype)

        # Costs as much as the loss itself, and is needed once.
        return jax.lax.cond(known > -jnp.inf, lambda: known, estimate)

    def _updated(
        self, memory: jax.Array, embedding: jax.Array, index: jax.Array
    ) -> jax.Array:
        """Moves the rows of the global batch's images toward their new embeddings.

        Source: RepDistiller, `ContrastMemory.forward`.
        Differs from the original in: of an image that a batch holds several times, as
        `data.sampling` may draw it, the last embedding counts; any there.
        """
        embedding, index = (gather(x, self.data_axis) for x in (embedding, index))
        # All writes to a row are of one value, since their order is not defined.
        embedding = embedding[last_of_each(index)]
        rows = self.momentum * memory[index]
        rows += (1 - self.momentum) * embedding.astype(memory.dtype)
        return memory.at[index].set(l2_normalize(rows))

    def _negatives(self, precomputed: Variables, inputs: Inputs) -> jax.Array:
        """Draws images of other classes, [B, K] indices in the training split.

        The draws depend on the step and on the image alone.
        """
        count = min(self.negatives, self.num_examples)
        order, starts, sizes = (
            jnp.asarray(precomputed[name]) for name in ("order", "start", "size")
        )

        def draw(index: jax.Array, label: jax.Array) -> jax.Array:
            start, size = starts[label], sizes[label]
            draws = jax.random.randint(
                jax.random.fold_in(inputs.key, index),
                (count,),
                0,
                self.num_examples - size,
            )
            # Skips the image's own class.
            return order[jnp.where(draws < start, draws, draws + size)]

        return jax.vmap(draw)(inputs.index, inputs.label)

    @property
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.width, jnp.promote_types(self.dtype, "float32"))


def last_of_each(index: jax.Array) -> jax.Array:
    """Returns where the value of each entry of an array occurs last, [B] int."""
    position = jnp.arange(len(index))
    same = index[:, None] == index[None]
    return jnp.max(jnp.where(same, position[None], 0), axis=1)
