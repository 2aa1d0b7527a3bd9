"""Evaluation on a full split: every example once, for any batch size."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import step as step_lib
from kdjax.data.pipeline.batches import EvalBatches
from kdjax.forward import forward


class Evaluation(NamedTuple):
    """The result of evaluating a network on a split.

    Attributes:
      metrics: means over the examples: `loss` in nats, `accuracy`, and with a teacher
        `agreement`, the fraction of examples that it classifies as the teacher does.
      prediction: the predicted class of each example, [N] int32.
      label: the class of each example, [N] int32.
    """

    metrics: dict[str, float]
    prediction: np.ndarray
    label: np.ndarray


class Evaluator:
    """Evaluates networks of one shape on one split."""

    def __init__(
        self,
        network: nn.Module,
        split: EvalBatches,
        devices: Sequence[jax.Device],
        *,
        teacher_prediction: np.ndarray | None = None,
    ):
        """Prepares the evaluation; it is compiled at the first call.

        Args:
          network: built for any batch size.
          split: what to evaluate on.
          devices: where to run.
          teacher_prediction: the classes that the teacher predicts, [N].
        """
        self._split = split
        self._network = network
        self._teacher_prediction = teacher_prediction
        self._step = step_lib.data_parallel(
            self._evaluate_batch,
            devices,
            in_axes=(None, None, 0),
        )

    def __call__(self, variables: Mapping[str, Any]) -> Evaluation:
        """Evaluates a network with its running statistics."""
        sums, classes = [], []
        for replicated, sharded in self._split:
            batch_sums, batch_classes = self._step(variables, replicated, sharded)
            sums.append(batch_sums)
            classes.append(batch_classes)
        total = jax.tree.map(lambda *x: sum(map(float, x)), *jax.device_get(sums))
        count = self._split.num_examples
        prediction, label = np.concatenate([np.reshape(x, (-1, 2)) for x in classes]).T[
            :, :count
        ]
        metrics = {name: value / count for name, value in total.items()}
        if self._teacher_prediction is not None:
            metrics["agreement"] = float(
                np.mean(prediction == self._teacher_prediction)
            )
        return Evaluation(metrics, prediction, label)

    def _evaluate_batch(self, variables, replicated, sharded):
        batch = self._split.make_batch(replicated, sharded)
        mask = batch.mask
        outputs, _ = forward(self._network, variables, batch.image, train=False)
        prediction = jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32)
        loss = optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, batch.label
        )
        sums = {
            "loss": jnp.sum(mask * loss),
            "accuracy": jnp.sum(mask * (prediction == batch.label)),
        }
        # Gathered, since each of several processes has only its own examples.
        classes = jnp.stack([prediction, batch.label], axis=-1)
        classes = jax.lax.all_gather(classes, step_lib.DEVICES)
        return jax.lax.psum(sums, step_lib.DEVICES), classes
