"""FT: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor
Transfer" (NeurIPS 2018).

Compresses the teacher's last stage to factors by an auto-encoder, the paraphraser; the
student learns them through a translator. Original:
Jangho-Kim/Factor-Transfer-pytorch; as in HobbitLong/RepDistiller, `FactorTransfer`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.paraphraser import Paraphraser, Stack
from kdjax.distill.stages import StagewiseMethod
from kdjax.losses.elementwise import l1, mean_squared
from kdjax.losses.factor_transfer import TRANSFORMS

#: Reconstruction losses of the paraphraser.
RECONSTRUCTIONS = {"mean_squared": mean_squared, "l1": l1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorTransfer(StagewiseMethod):
    """Mean absolute difference of the factors of the last stage.

    The paraphraser learns in a phase of its own: `config.pretrain.epochs = 30` in
    RepDistiller, with a learning rate of 0.01 where the student is a ResNet or a wide
    ResNet; 5 in the authors' code. By default all is as in RepDistiller; as in the
    authors' code, it is

        {"reconstruction": "l1", "factor_transform": "flat_unit",
         "translator_batch_norm": False, "weight": 500.0}

    Differs from the original in: what `losses.factor_transfer` says; biases start at 0,
    and the decoder's kernels from the range of a convolution, not of a transposed one.
    KD_methods_with_TF has another paraphraser, with a stride, which is not offered.

    Attributes:
      weight: beta of the paper; RepDistiller's, for images of 32x32. Factors have
        length 1 whatever their size, so that the weight must shrink with the maps: for
        the 8x8 digits, whose maps have a sixteenth of the positions, it is 200 / 16.
      rate: factors by channels of the teacher, k of the paper.
      reconstruction: what the paraphraser minimizes, "mean_squared" or "l1".
      factor_transform: how factors are normalized: "attention_map", or "flat_unit",
        which keeps the channels apart.
      translator_batch_norm: whether the translator has batch norms.
    """

    name = "factor_transfer"
    taxonomy = Taxonomy(
        teacher_transform="encoder of an auto-encoder",
        student_transform="encoder",
        position="output of the last block of the last stage",
        distance="L1",
        missing_information="what the auto-encoder drops",
    )
    pretrains = True

    weight: float = 200.0
    rate: float = 0.5
    reconstruction: str = "mean_squared"
    factor_transform: str = "attention_map"
    translator_batch_norm: bool = True

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("rate")
        self._require_choice("reconstruction", RECONSTRUCTIONS)
        self._require_choice("factor_transform", TRANSFORMS)

    def pretrain_init(self, key: jax.Array, teacher: Outputs) -> Variables:
        """Makes the paraphraser; rejects a rate that leaves no factor."""
        last = self._last(teacher)
        if self._factors(last) < 1:
            raise ValueError(
                f"methods.factor_transfer.rate={self.rate} leaves none of the "
                f"teacher's {last.shape[-1]} channels"
            )
        made = self._paraphraser(last).init(key, jnp.zeros(last.shape, last.dtype))
        return {"params": made["params"], "batch_stats": {}}

    def pretrain_loss(
        self, variables: Variables, key: jax.Array, teacher: Outputs
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the reconstruction error of the teacher's maps, [B]."""
        last = self._last(teacher)
        _, reconstructed = self._paraphraser(last).apply(variables, last)
        distance = RECONSTRUCTIONS[self.reconstruction]
        return {"reconstruction": distance(reconstructed, last)}, {}

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the translator; rejects maps of one position where all are equal."""
        last = self._last(student)
        size = tuple(map(min, last.shape[1:3], self._last(teacher).shape[1:3]))
        if self.factor_transform == "attention_map" and size == (1, 1):
            raise ValueError(
                "methods.factor_transfer.factor_transform='attention_map' is the same "
                f"for all maps of height and width {size}: 'flat_unit' tells them apart"
            )
        return self._translator(student, teacher).init(
            key, jnp.zeros(last.shape, last.dtype)
        )

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the difference of the factors, [B]."""
        translated, updates = self._translator(student, teacher).apply(
            variables, self._last(student), mutable=["batch_stats"]
        )
        last = self._last(teacher)
        factor, _ = self._paraphraser(last).apply(precomputed["pretrained"], last)
        difference = losses.factor_transfer(
            translated, jax.lax.stop_gradient(factor), transform=self.factor_transform
        )
        return {"factor": difference}, updates.get("batch_stats", {})

    def _last(self, outputs: Outputs) -> jax.Array:
        return getattr(outputs.features, self.position)[-1]

    def _factors(self, last: jax.Array) -> int:
        return int(self.rate * last.shape[-1])

    def _paraphraser(self, last: jax.Array) -> Paraphraser:
        return Paraphraser(last.shape[-1], self._factors(last), dtype=self.dtype)

    def _translator(self, student: Outputs, teacher: Outputs) -> Stack:
        factors = self._factors(self._last(teacher))
        return Stack(
            (self._last(student).shape[-1], factors, factors),
            batch_norm=self.translator_batch_norm,
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
        )
