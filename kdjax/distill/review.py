"""ReviewKD: Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021).

Fuses each stage of the student with the stages above it, from the top down, and matches
the result to the teacher's stage. Original: dvlab-research/ReviewKD,
`CIFAR-100/model/reviewkd.py`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.stages import POSITIONS, require_as_many
from kdjax.models import layers

#: Upper bound of the width at which stages are fused.
_MOST_CHANNELS = 512

#: U(-sqrt(3 / in), sqrt(3 / in)): `kaiming_uniform_(a=1)`.
_kaiming_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


def nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes [B, H, W, C] by nearest-neighbor interpolation.

    Source: PyTorch's `interpolate(mode="nearest")`, which takes floor(i H / H').
    Differs from the original in: nothing.
    """
    for axis, (before, after) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if after % before == 0:
            x = jnp.repeat(x, after // before, axis)
        else:
            x = jnp.take(x, np.arange(after) * before // after, axis, mode="clip")
    return x


class ReviewFusion(nn.Module):
    """Fuses a student's maps from the top down.

    Source: the paper's attention based fusion; original: `ABF` and `ReviewKD.forward`.
    Differs from the original in: sizes are those of the maps, where the original has a
    table of pairs.

    Attributes:
      channels: of the teacher's maps, bottom to top.
      sizes: height and width of the teacher's maps.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    channels: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps [B, H, W, C_student], bottom to top, to the teacher's shapes."""
        width = min(_MOST_CHANNELS, maps[-1].shape[-1])
        found, above = [], None
        for index in reversed(range(len(maps))):
            level = f"level{index + 1}"
            x = self._layer(width, 1, f"{level}_in")(maps[index])
            if above is not None:
                above = nearest(above, x.shape[1:3])
                both = jnp.concatenate([x, above], axis=-1)
                gate = nn.sigmoid(
                    nn.Conv(
                        2,
                        (1, 1),
                        kernel_init=layers.torch_linear,
                        bias_init=layers.torch_bias(2 * width),
                        dtype=self.dtype,
                        name=f"{level}_gate",
                    )(both)
                )
                x = x * gate[..., :1] + above * gate[..., 1:]
            above = nearest(x, self.sizes[index])
            found.append(self._layer(self.channels[index], 3, f"{level}_out")(above))
        return found[::-1]

    def _layer(self, width: int, size: int, name: str):
        return nn.Sequential(
            [
                layers.convolution(
                    width,
                    size,
                    dtype=self.dtype,
                    kernel_init=_kaiming_uniform,
                    name=f"{name}_conv",
                ),
                layers.batch_norm(
                    True,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"{name}_bn",
                ),
            ]
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Review(Method):
    """Fused stages of the student against the teacher's, the pooled features on top.

    The terms are `stage_1`, ... and `pooled`. Any two networks with as many stages can
    be joined.

    Differs from the original in: what `losses.hierarchical_context` and `ReviewFusion`
    say; in the warm-up, which starts at its first step here and at 0 there.

    Attributes:
      weight: 1 as the original's default and for resnet110-resnet32; published are 0.6
        for resnet56-resnet20, 5 for the wide ResNets, resnet32x4-resnet8x4 and
        ShuffleNet V1, and 8 for ShuffleNet V2.
      student_position: where the student's features are taken, of
        `stages.POSITIONS`.
      teacher_position: where the teacher's are taken.
    """

    name = "review"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="fusion with the stages above",
        position="before the ReLU that ends a stage; output of a block in the student",
        distance="L2 at several sizes",
        missing_information="none",
    )

    weight: float = 1.0
    warm_up: int = 20
    student_position: str = "block"
    teacher_position: str = "pre"

    def __post_init__(self):
        self._require_choice("student_position", POSITIONS)
        self._require_choice("teacher_position", POSITIONS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the fusion; rejects networks with different numbers of stages."""
        student_maps, teacher_maps = jax.eval_shape(self._maps, student, teacher)
        maps = [jnp.zeros(x.shape, x.dtype) for x in student_maps]
        return self._fusion(teacher_maps).init(key, maps)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the hierarchical context loss of every level, [B] each."""
        student_maps, teacher_maps = self._maps(student, teacher)
        fused, updates = self._fusion(teacher_maps).apply(
            variables, student_maps, mutable=["batch_stats"]
        )
        names = [f"stage_{stage}" for stage in range(1, len(fused))] + ["pooled"]
        terms = {
            name: losses.hierarchical_context(*maps)
            for name, *maps in zip(names, fused, teacher_maps, strict=True)
        }
        return terms, updates["batch_stats"]

    def _maps(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Returns both networks' levels; the pooled features as maps of one pixel."""
        stages = (
            getattr(student.features, self.student_position),
            getattr(teacher.features, self.teacher_position),
        )
        require_as_many(self.name, *stages)
        return tuple(
            [*maps, outputs.features.pooled[:, None, None, :]]
            for maps, outputs in zip(stages, (student, teacher), strict=True)
        )

    def _fusion(self, teacher: Sequence[jax.Array]) -> ReviewFusion:
        return ReviewFusion(
            tuple(x.shape[-1] for x in teacher),
            tuple(x.shape[1:3] for x in teacher),
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
        )
