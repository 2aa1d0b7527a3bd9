"""What a configuration stands for: data, networks, methods and compiled functions."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax import distill, models, optim, rngs, train_state
from kdjax import step as step_lib
from kdjax import teacher as teacher_lib
from kdjax.data import datasets
from kdjax.data.batches import Batch, TrainBatches, WholeSplit
from kdjax.data.split import Split
from kdjax.evaluate import Evaluator
from kdjax.metrics import Sums
from kdjax.train_state import TrainState


class Experiment:
    """Everything of a run that does not change while it trains.

    Attributes:
      config: as given.
      batches: of the training split.
      test: the whole test split.
      student: the network that is trained, with or without a teacher.
      teacher: the trained network and its variables; None without methods.
      teacher_metrics: of the teacher on the test split; None without a teacher.
      methods: terms of the distillation loss by name.
      frozen: what the step reads of teacher and methods.
      schedule: learning rate over steps.
      train_step: `(state, frozen, split, order) -> (state, metrics)` on all devices;
        takes over the memory of `state`.
      evaluate: evaluates variables of the student on the test split.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        """Loads the data and the teacher, measures the teacher, builds the functions.

        Raises:
          ValueError: if something the configuration names does not fit.
          FileNotFoundError: if the data set is not prepared.
        """
        self.config = config
        self._devices = jax.devices()
        mesh = Mesh(np.asarray(self._devices), (step_lib.DEVICES,))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        num_classes = datasets.num_classes(config.data.name)
        splits = datasets.load(config.data)
        size = {"batch_size": config.batch_size, "mesh": mesh}
        self.batches = TrainBatches(
            splits["train"], config.data, seed=config.seed, **size
        )
        self.test = WholeSplit(splits["test"], config.data, **size)

        synchronised = config.batch_norm == "synchronised"
        computation = {
            "dtype": jnp.dtype(config.dtype),
            "axis_name": step_lib.DEVICES if synchronised else None,
        }
        self.student = models.build(config.model, num_classes, **computation)
        self.methods = distill.build(config.methods, **computation)
        self.teacher = self.teacher_metrics = teacher_prediction = None
        self.frozen = step_lib.Frozen()
        if self.methods:
            self.teacher = teacher_lib.load(config.teacher, num_classes, **computation)
            measured = Evaluator(self.teacher.network, self.test, self._devices)(
                self.teacher.variables
            )
            teacher_prediction = measured.prediction
            self.teacher_metrics = measured.metrics
            teacher_lib.check_above_chance(
                measured.metrics["accuracy"], num_classes, self.test.num_examples
            )
            constants = self._constants(splits["train"])
            self.frozen = jax.device_put(
                step_lib.Frozen(self.teacher.variables, constants), self._replicated
            )

        self._optimizer, self.schedule = optim.build(
            config.optimizer,
            epochs=config.epochs,
            steps_per_epoch=self.batches.steps_per_epoch,
        )
        self._objective = step_lib.make_objective(
            self.student,
            self.teacher and self.teacher.network,
            self.methods,
            teacher_train=self._teacher_train,
        )
        self.train_step = self._compile_step()
        self.evaluate = Evaluator(
            self.student,
            self.test,
            self._devices,
            teacher_prediction=teacher_prediction,
        )

    @property
    def total_steps(self) -> int:
        """Updates from the first to the last."""
        return self.config.epochs * self.batches.steps_per_epoch

    @property
    def _teacher_train(self) -> bool:
        return self.config.teacher.batch_norm == "batch"

    def _constants(self, train: Split) -> dict[str, Any]:
        """Lets every method read off the teacher what stays fixed."""
        teacher = distill.Teacher(
            name=self.config.teacher.model,
            variables=self.teacher.variables,
            outputs=lambda: teacher_lib.outputs_on(
                self.teacher,
                train,
                self.config.data,
                batch_size=self.config.batch_size,
                train=self._teacher_train,
            ),
        )
        return {name: m.constants(teacher) for name, m in self.methods.items()}

    def _compile_step(self):
        train_step = step_lib.make_train_step(
            self._objective,
            self._optimizer,
            log_every=self.config.log_every_steps,
            clips=any(m.combination == "clip" for m in self.methods.values()),
            steps_per_epoch=self.batches.steps_per_epoch,
            axis_name=step_lib.DEVICES,
        )

        def take_and_step(state, frozen, split, order):
            batch = self.batches.take(split, order, state.step)
            return train_step(state, frozen, batch)

        return step_lib.data_parallel(
            take_and_step, self._devices, in_axes=(None, None, None, 0), donate=(0,)
        )

    def initial_state(self) -> TrainState:
        """Makes the state before the first step, the same on every device."""
        seed = self.config.seed
        image = jnp.zeros((1, *self._image_shape))
        init = jax.jit(lambda key: self.student.init(key, image, train=False))
        student = init(rngs.key(seed, "student"))
        learned = {}
        for name, method in self.methods.items():
            learned[name] = method.init(
                rngs.key(seed, f"methods/{name}"),
                _output_shapes(self.student, student, image),
                _output_shapes(self.teacher.network, self.teacher.variables, image),
            )
        state = train_state.create(student, learned, self._optimizer)
        state = state.replace(metrics=Sums.zeros(self._metric_names(state)))
        # Placed where the step leaves it, or the second step would compile anew.
        return jax.device_put(state, self._replicated)

    @property
    def _image_shape(self) -> tuple[int, ...]:
        return self.batches.split.image.shape[1:]

    def _metric_names(self, state: TrainState) -> list[str]:
        """Lists what the step measures, from the shapes of its objective."""
        share = (len(self._devices), 1)
        batch = Batch(
            image=jax.ShapeDtypeStruct((*share, *self._image_shape), jnp.float32),
            label=jax.ShapeDtypeStruct(share, jnp.int32),
            mask=jax.ShapeDtypeStruct(share, jnp.float32),
            index=jax.ShapeDtypeStruct(share, jnp.int32),
        )
        objective = step_lib.data_parallel(
            self._objective, self._devices, in_axes=(None, None, None, 0)
        )
        _, measured = jax.eval_shape(
            objective, state.params, state.batch_stats, self.frozen, batch
        )
        return step_lib.metric_names(measured.terms)


def _output_shapes(network, variables, image) -> distill.Outputs:
    """Returns shapes and types of a network's outputs on an image."""
    outputs, _ = jax.eval_shape(
        lambda v: step_lib.forward(network, v, image, train=False), variables
    )
    return outputs
