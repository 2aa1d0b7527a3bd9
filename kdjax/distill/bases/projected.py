"""The base of methods that project the student's pooled features linearly."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from kdjax.distill.method import Method, Outputs, Variables
from kdjax.distill.modules.projectors import Projectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedMethod(Method):
    """A method that compares pooled features, the student's behind linear layers.

    Attributes:
      projectors: how many layers there are.
    """

    projectors: ClassVar[int] = 1

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the linear layers."""
        pooled = student.features.pooled
        return self._projectors(teacher).init(
            key, jnp.zeros(pooled.shape, pooled.dtype)
        )

    def _projected(
        self, variables: Variables, student: Outputs, teacher: Outputs
    ) -> list[jax.Array]:
        """Returns the student's features behind each layer, [B, C_teacher]."""
        return self._projectors(teacher).apply(variables, student.features.pooled)

    def _projectors(self, teacher: Outputs) -> Projectors:
        width = teacher.features.pooled.shape[-1]
        dtype = jnp.promote_types(self.dtype, "float32")
        return Projectors(width, dtype, self.projectors)
