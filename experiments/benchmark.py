"""Times a distillation step against the least it can cost, in one run.

    python -m experiments.benchmark --teacher=wrn_16_2 --student=wrn_16_1 \\
        --method=overhaul --batch=64

prints one JSON line: milliseconds and images/s of the distillation step, of the
student's own training step and of the teacher's forward pass, medians over rounds in
which they take turns, and `overhead` = distillation step / (student's step + teacher's
forward pass). The batch lies on the device and is never augmented.

`--anchor=NAME=COMMAND` runs another program in every round, too. The last line it
prints is a JSON object with `images_per_s`; `vs_NAME` is ours divided by its own, the
median over the rounds.
"""

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from kdjax import distill, metrics, models, objective, optim, rngs, train_state
from kdjax import step as step_lib
from kdjax.data.batches import Batch

_TEACHER = flags.DEFINE_string("teacher", "wrn_16_2", "Network that teaches.")
_STUDENT = flags.DEFINE_string("student", "wrn_16_1", "Network that learns.")
_METHOD = flags.DEFINE_string("method", "overhaul", "Method with its defaults.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images in a step, on one device.", 1)
_CLASSES = flags.DEFINE_integer("classes", 100, "Classes.", 2)
_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of an image.", 1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Type of the computation."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; medians are over them.", 1)
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of each kind in a round.", 1)
_ANCHORS = flags.DEFINE_multi_string("anchor", [], "NAME=COMMAND to compare with.")


class Subject:
    """Something that is done again and again, and timed."""

    def __init__(self, function: Callable, *arguments):
        """Compiles the function; its first result is its next first argument, if any.

        Args:
          function: returns a state to carry on, or None, and something to wait for.
          *arguments: of the first call.
        """
        self._function, self._arguments = function, arguments
        self.seconds: list[float] = []
        self.run(2)
        self.seconds.clear()

    def run(self, steps: int) -> None:
        """Runs some steps and notes how long one took."""
        start = time.perf_counter()
        for _ in range(steps):
            carried, result = self._function(*self._arguments)
            if carried is not None:
                self._arguments = (carried, *self._arguments[1:])
        jax.block_until_ready(result)
        self.seconds.append((time.perf_counter() - start) / steps)

    @property
    def median_s(self) -> float:
        """Returns the median seconds of a step."""
        return statistics.median(self.seconds)


def subjects(
    *,
    teacher: str,
    student: str,
    method: str,
    batch_size: int,
    num_classes: int,
    image_size: int,
    dtype: str,
) -> dict[str, Subject]:
    """Builds the three things to time: `distillation`, `student` and `teacher`.

    Raises:
      ValueError: if a network or the method is unknown.
    """
    networks = {
        name: models.build(name, num_classes, dtype=jnp.dtype(dtype))
        for name in (teacher, student)
    }
    methods = distill.build({method: {}}, dtype=jnp.dtype(dtype))
    key = rngs.key(0, "benchmark")
    shape = (batch_size, image_size, image_size, 3)
    batch = Batch(
        image=jax.random.normal(key, shape),
        label=jax.random.randint(key, (batch_size,), 0, num_classes),
        mask=jnp.ones(batch_size),
        index=jnp.arange(batch_size),
    )
    variables, outputs = {}, {}
    for name, network in networks.items():
        init = jax.jit(lambda key, n=network: n.init(key, batch.image, train=False))
        variables[name] = init(key)
        outputs[name] = jax.eval_shape(
            lambda v, n=network: objective.forward(n, v, batch.image, train=False)[0],
            variables[name],
        )
    view = distill.Teacher(teacher, variables[teacher], outputs=lambda: iter(()))
    constants = {name: m.constants(view) for name, m in methods.items()}
    for name, m in methods.items():
        if m.prepares:
            constants[name] |= {"prepared": m.prepare_init(key, outputs[teacher])}
    frozen = objective.Frozen(variables[teacher], constants)
    learned = {
        name: m.init(key, outputs[student], outputs[teacher])
        for name, m in methods.items()
    }
    optimizer = optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step(methods):
        demand = objective.of_student(
            networks[student], networks[teacher], methods, teacher_train=True
        )
        state = train_state.create(
            jax.tree.map(jnp.copy, variables[student]),
            {name: learned[name] for name in methods},
            optimizer,
        )
        found = jax.eval_shape(
            demand, state.params, state.batch_stats, frozen, batch, key
        )
        names = step_lib.metric_names(found.values)
        state = state.replace(metrics=metrics.Sums.zeros(names))
        train_step = step_lib.make_train_step(demand, optimizer, log_every=100)
        return Subject(jax.jit(train_step, donate_argnums=0), state, frozen, batch)

    @jax.jit
    def teacher_forward(variables, image):
        found, _ = objective.forward(networks[teacher], variables, image, train=True)
        return None, (found.logits, found.features.pre)

    return {
        "distillation": step(methods),
        "student": step({}),
        "teacher": Subject(teacher_forward, variables[teacher], batch.image),
    }


def anchor_speed(command: str) -> float:
    """Runs another program and returns the images/s in its last line.

    Raises:
      ValueError: if it fails or says nothing of the kind.
    """
    done = subprocess.run(
        shlex.split(command), stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"anchor {command!r} ended with status {done.returncode} and printed no "
            "images_per_s"
        ) from None


def main(argv: list[str]) -> None:
    """Times everything in turns and prints one JSON line."""
    logging.set_verbosity(logging.WARNING)
    try:
        report = measure()
    except ValueError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(report))


def measure() -> dict[str, object]:
    """Does what the flags say and returns the figures."""
    anchors = {}
    for anchor in _ANCHORS.value:
        name, equals, command = anchor.partition("=")
        if not equals:
            raise ValueError(f"anchor={anchor!r} is not NAME=COMMAND")
        anchors[name] = command
    timed = subjects(
        teacher=_TEACHER.value,
        student=_STUDENT.value,
        method=_METHOD.value,
        batch_size=_BATCH.value,
        num_classes=_CLASSES.value,
        image_size=_SIZE.value,
        dtype=_DTYPE.value,
    )
    ratios: dict[str, list[float]] = {name: [] for name in anchors}
    for _ in range(_ROUNDS.value):
        for subject in timed.values():
            subject.run(_STEPS.value)
        ours = _BATCH.value / timed["distillation"].seconds[-1]
        for name, command in anchors.items():
            ratios[name].append(ours / anchor_speed(command))

    floor = [
        s + t
        for s, t in zip(timed["student"].seconds, timed["teacher"].seconds, strict=True)
    ]
    overhead = [
        d / f for d, f in zip(timed["distillation"].seconds, floor, strict=True)
    ]
    report = {
        "teacher": _TEACHER.value,
        "student": _STUDENT.value,
        "method": _METHOD.value,
        "batch": _BATCH.value,
        "dtype": _DTYPE.value,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    for name, subject in timed.items():
        report[f"{name}_ms"] = round(1e3 * subject.median_s, 3)
        report[f"{name}_images_per_s"] = round(_BATCH.value / subject.median_s, 1)
    report["overhead"] = round(statistics.median(overhead), 3)
    for name, ratio in ratios.items():
        report[f"vs_{name}"] = round(statistics.median(ratio), 3)
    return report


if __name__ == "__main__":
    app.run(main)
