"""Workloads of the benchmark: training steps, forward passes, parts of methods."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import distill, models, objective, optim, rngs, train_state
from kdjax import step as step_lib
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import gradients, heads, shapes
from kdjax.distill.bases.singular_vectors import SingularVectorMethod
from kdjax.forward import forward
from kdjax.losses.linalg import singular_vectors


class Workload:
    """A compiled function that is run repeatedly and timed."""

    def __init__(self, function: Callable, *arguments, auxiliary: int = 0):
        """Compiles the function and runs it twice.

        Args:
          function: jitted; returns the next first argument, or None, and an array to
            wait for.
          *arguments: of the first call.
          auxiliary: number of auxiliary parameters of the method.
        """
        self._function = function.lower(*arguments).compile()
        self._arguments = arguments
        self.auxiliary = auxiliary
        self.seconds: list[float] = []
        self.run(1)
        self.run(1)
        self._last_s = self.seconds[-1]
        self.seconds.clear()

    def run(self, steps: int) -> None:
        """Runs some steps and appends the seconds of one to `seconds`."""
        start = time.perf_counter()
        for _ in range(steps):
            state, result = self._function(*self._arguments)
            if state is not None:
                self._arguments = (state, *self._arguments[1:])
        jax.block_until_ready(result)
        self.seconds.append((time.perf_counter() - start) / steps)

    def steps_within(self, seconds: float) -> int:
        """Returns how many steps fit into a time, going by the last; 1 or more."""
        return max(1, int(seconds / self._last_s))

    @property
    def peak_bytes(self) -> int:
        """Memory that the compiler reserves: arguments, results and temporaries."""
        memory = self._function.memory_analysis()
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )

    @property
    def median_s(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondBackward(distill.Method):
    """A method that costs a second backward pass and almost nothing else."""

    name = "second_backward"
    taxonomy = distill.Taxonomy(*[""] * 5)

    gradient_combination: str = "clip"

    def loss(self, variables, precomputed, student, teacher, inputs):
        """Returns the mean of the last stage, [B]."""
        return {"nothing": jnp.mean(student.features.post[-1], axis=(1, 2, 3))}, {}


class Setup:
    """Networks, their variables and one batch of random images on the device.

    Attributes:
      key: of all random numbers.
      batch: the batch.
      examples: number of training images.
      outputs: shapes and types of the networks' outputs, by role.
    """

    def __init__(
        self,
        *,
        teacher: str,
        student: str,
        batch_size: int,
        examples: int,
        num_classes: int,
        image_size: int,
        dtype: str,
    ):
        """Builds everything.

        Raises:
          ValueError: if a network is unknown, or the training images are no batch.
        """
        if examples < batch_size:
            raise ValueError(f"examples={examples} is less than batch={batch_size}")
        self.examples = examples
        self.key = rngs.key(0, "benchmark")
        self._names = {"teacher": teacher, "student": student}
        self._networks = {
            role: models.build(name, num_classes, dtype=jnp.dtype(dtype))
            for role, name in self._names.items()
        }
        self._label = jax.random.randint(self.key, (examples,), 0, num_classes)
        shape = (batch_size, image_size, image_size, 3)
        self.batch = Batch(
            image=jax.random.normal(self.key, shape),
            label=self._label[:batch_size],
            mask=jnp.ones(batch_size),
            index=jnp.arange(batch_size),
        )
        self._variables, self.outputs = {}, {}
        for role, network in self._networks.items():
            self._variables[role] = self._initialized(network)
            self.outputs[role] = shapes.outputs(network, shape[1:])

    def _initialized(self, network) -> dict[str, Any]:
        """Returns a network's variables."""
        init = jax.jit(lambda key: network.init(key, self.batch.image, train=False))
        return init(self.key)

    def _forward(self, role: str, variables) -> distill.Outputs:
        network = self._networks[role]
        return forward(network, variables, self.batch.image, train=True)[0]

    def _teacher_outputs(self) -> Iterator[distill.Outputs]:
        """Yields the teacher's outputs, as if the batch were all training images."""
        compute = jax.jit(functools.partial(self._forward, "teacher"))
        yield compute(self._variables["teacher"])

    def step(self, methods: Mapping[str, distill.Method]) -> Workload:
        """Builds the student's training step with some methods."""
        teacher = distill.Teacher(
            self._names["teacher"],
            self._variables["teacher"],
            outputs=self._teacher_outputs,
            label=lambda: np.asarray(self._label),
        )
        student = heads.with_head(
            self._networks["student"],
            methods,
            self.batch.image.shape[1:],
            self._networks["teacher"],
        )
        own, outputs = self._variables["student"], self.outputs["student"]
        if student is not self._networks["student"]:
            own = self._initialized(student)
            outputs = shapes.outputs(student, self.batch.image.shape[1:])
        variables, precomputed = {}, {}
        for name, method in methods.items():
            variables[name] = method.init(self.key, outputs, self.outputs["teacher"])
            precomputed[name] = method.precompute(teacher)
            if method.pretrains:
                precomputed[name] |= {
                    "pretrained": method.pretrain_init(
                        self.key, self.outputs["teacher"]
                    )
                }
        needs_teacher = any(method.needs_teacher for method in methods.values())
        frozen = objective.Frozen(
            self._variables["teacher"] if needs_teacher else None, precomputed
        )
        losses = objective.student_objective(
            student,
            self._networks["teacher"] if needs_teacher else None,
            methods,
            teacher_train=True,
        )
        optimizer = optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        state = train_state.create(jax.tree.map(jnp.copy, own), variables, optimizer)
        train_step = step_lib.make_train_step(losses, optimizer)
        train_step = jax.jit(train_step, donate_argnums=0)
        count = sum(x.size for x in jax.tree.leaves(state.params["methods"]))
        pretrained = [
            c.get("pretrained", {}).get("params", {}) for c in precomputed.values()
        ]
        count += sum(x.size for x in jax.tree.leaves(pretrained))
        batch = self.batch
        if any(method.needs_second_view for method in methods.values()):
            batch = batch._replace(second_image=jnp.flip(batch.image, axis=2))
        return Workload(train_step, state, frozen, batch, auxiliary=count)

    @functools.cache  # noqa: B019 (setups live as long as the program)
    def student_step(self, clips: bool) -> Workload:
        """Builds the training step without a method.

        Args:
          clips: whether there is a second backward pass, as for a clipped gradient.
        """
        return self.step(
            {"second_backward": SecondBackward(weight=1.0)} if clips else {}
        )

    @functools.cache  # noqa: B019
    def teacher_forward(self) -> Workload:
        """Builds the teacher's forward pass to logits and features."""

        @jax.jit
        def forward(variables):
            found = self._forward("teacher", variables)
            return None, (found.logits, found.features.pre)

        return Workload(forward, self._variables["teacher"])

    def compression(self, algorithm: str, student_vectors: int) -> Workload:
        """Builds the singular vectors of all stages, with the student's gradient."""
        maps = {
            role: jax.jit(functools.partial(self._forward, role))(
                variables
            ).features.post
            for role, variables in self._variables.items()
        }

        @jax.jit
        def compress(student, teacher):
            def total(student):
                vectors = singular_vectors.compress_all(
                    [*teacher, *student],
                    [1] * len(teacher) + [student_vectors] * len(student),
                    algorithm=algorithm,
                )
                targets, candidates = vectors[: len(teacher)], vectors[len(teacher) :]
                # A cotangent of one vector an image, as alignment leaves it.
                return sum(jnp.sum(v[..., 0] ** 3) for v in candidates), targets

            return None, jax.grad(total, has_aux=True)(student)

        return Workload(compress, maps["student"], maps["teacher"])


def workloads(
    setup: Setup, name: str, given: Mapping[str, Any], *, parts: bool = True
) -> dict[str, Workload]:
    """Builds `distillation`, `student`, `teacher` and, for some methods, parts.

    Args:
      setup: networks and batch.
      name: name of the method.
      given: hyperparameters other than the defaults.
      parts: whether to build the parts.

    Raises:
      ValueError: if the method or a hyperparameter is unknown or does not fit.
    """
    # In a network's own type, which its variables do not have.
    dtype = setup.outputs["student"].features.post[0].dtype
    (method,) = distill.build(
        {name: given},
        dtype=dtype,
        num_classes=setup.outputs["student"].logits.shape[1],
        num_examples=setup.examples,
    ).values()
    clips = method.gradient_combination != gradients.SUM
    found = {
        "distillation": setup.step({name: method}),
        "student": setup.student_step(clips),
        "teacher": setup.teacher_forward(),
    }
    if parts and isinstance(method, SingularVectorMethod):
        for algorithm in singular_vectors.ALGORITHMS:
            found[f"compress_{algorithm}"] = setup.compression(
                algorithm, method.student_vectors
            )
    return found
