"""Connectors: 1x1 convolutions from the student's width to the teacher's."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers


class Connectors(nn.Module):
    """One 1x1 convolution and batch norm a stage, without an activation.

    The batch norms use the statistics of the batch, as the student's do in training;
    connectors take no part in an evaluation.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019);
    original: `distiller.py`, `build_feature_connector`.
    Differs from the original in: nothing but the layout of the arrays.

    Attributes:
      channels: the teacher's width at each stage; None passes a stage through.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    channels: Sequence[int | None]
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @classmethod
    def between(
        cls,
        student: Sequence[jax.Array],
        teacher: Sequence[jax.Array],
        *,
        always: bool = False,
        **settings: Any,
    ) -> "Connectors":
        """Returns connectors where the widths of two networks' features differ.

        Args:
          student: features of each stage, [B, H, W, C_student].
          teacher: as many, [B, H, W, C_teacher].
          always: connect equal widths too.
          **settings: `dtype` and `axis_name`.
        """
        widths = [
            (source.shape[-1], target.shape[-1])
            for source, target in zip(student, teacher, strict=True)
        ]
        return cls(
            tuple(
                target if always or source != target else None
                for source, target in widths
            ),
            **settings,
        )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Maps [B, H, W, C_student] of each stage to [B, H, W, C_teacher]."""
        connected = list(features)
        for index, width in enumerate(self.channels):
            if width is None:
                continue
            stage = f"stage{index + 1}"
            x = layers.convolution(width, 1, dtype=self.dtype, name=f"{stage}_conv")(
                features[index]
            )
            connected[index] = layers.batch_norm(
                True,
                axis_name=self.axis_name,
                dtype=self.dtype,
                name=f"{stage}_bn",
            )(x)
        return tuple(connected)
