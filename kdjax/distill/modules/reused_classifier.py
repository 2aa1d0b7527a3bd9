"""SimKD's student: a network that ends in a projector and the teacher's classifier."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.losses.pooling import pool_to
from kdjax.models import Features, layers

#: Name of every network's last layer.
_CLASSIFIER = "classifier"


class Projector(nn.Module):
    """Three convolutions to the teacher's width, with batch norm and ReLU each.

    Source: DefangChen/SimKD, `models/util.py`, `SimKD`.
    Differs from the original in: nothing.

    Attributes:
      width: channels of the teacher's map.
      factor: by which the 3x3 convolution in the middle is narrower than that.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    width: int
    factor: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C_student] to [B, H, W, width]."""
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        narrow = self.width // self.factor
        for number, (width, size) in enumerate(
            ((narrow, 1), (narrow, 3), (self.width, 1)), start=1
        ):
            x = conv(width, size, name=f"conv{number}")(x)
            x = nn.relu(norm(name=f"bn{number}")(x))
        return x


class ReusedClassifier(nn.Module):
    """A network whose classifier reads its projected last map.

    Its variables are those of the network within, but for a `classifier` as wide as the
    teacher's, and a `projector`. Of its features, `last` and `pooled` are what the
    classifier reads; the others are the network's own.

    Attributes:
      backbone: from `models.build`. Not called `network`, since two modules that share
        a scope cannot have a submodule of one name, and others stand around this one.
      projector: of its last map.
      size: height and width of the teacher's last map.
    """

    backbone: nn.Module
    projector: Projector
    size: tuple[int, int]

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] images.

        A map that is larger than the teacher's is averaged down to its size.
        """
        classifier, features = self._without_classifier(image, train)
        x = features.last
        x = pool_to(x, tuple(map(min, x.shape[1:3], self.size)))
        x = self.projector(x, train)
        pooled = layers.global_average(x)
        return classifier(pooled), features._replace(last=x, pooled=pooled)

    def _without_classifier(
        self, image: jax.Array, train: bool
    ) -> tuple[nn.Dense, Features]:
        """Returns the network's last layer, which was not called, and its features."""
        found = []

        def skip(run, args, kwargs, context):
            layer = context.module
            if layer.path != (*self.path, _CLASSIFIER):
                return run(*args, **kwargs)
            found.append(layer)
            return jnp.zeros((*image.shape[:1], layer.features), args[0].dtype)

        with nn.intercept_methods(skip):
            _, features = self.backbone(image, train)
        (classifier,) = found
        return classifier, features
