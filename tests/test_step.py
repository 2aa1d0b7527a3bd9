"""The whole distillation step against the overhaul paper's own code."""

import contextlib
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from kdjax import forward as forward_lib
from kdjax import models, objective, optim, train_state
from kdjax import step as step_lib
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import overhaul
from kdjax.distill.modules import connectors
from kdjax.interop import torch_layout

#: Agreement by type: losses, logits and features of the largest entry, gradients by
#: relative L2 norm a tensor.
TOLERANCE = {
    "float64": {"loss": 1e-10, "output": 1e-10, "gradient": 1e-9},
    "float32": {"loss": 5e-6, "output": 1e-5, "gradient": 1e-4},
}


class Pair(NamedTuple):
    """Where the numbers of a teacher and a student are, and what the two are called."""

    file: str
    prefix: str
    teacher: str
    student: str
    num_classes: int


PAIRS = {
    "wrn": Pair("distiller_wrn16x1_wrn10x1", "wrn/", "wrn_16_1", "wrn_10_1", 100),
    "pyramidnet": Pair(
        "distiller_pyramid20_resnet8",
        "mix/",
        "pyramidnet_20_6_bottleneck",
        "resnet8",
        10,
    ),
}


def part(arrays, prefix):
    return {
        k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
    }


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def assert_output_close(actual, expected, tolerance):
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )


def relative_l2(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def connector_name(torch_name):
    """Turns "<stage>.<0 or 1>.<leaf>" into the path of a connector's variable."""
    stage, layer, leaf = torch_name.split(".")
    module = f"stage{int(stage) + 1}_{'conv' if layer == '0' else 'bn'}"
    if layer == "0":
        return "params", module, "kernel"
    return {
        "weight": ("params", module, "scale"),
        "bias": ("params", module, "bias"),
        "running_mean": ("batch_stats", module, "mean"),
        "running_var": ("batch_stats", module, "var"),
    }[leaf]


def connectors_from_torch(arrays):
    flat = {}
    for name, array in arrays.items():
        if not name.endswith("num_batches_tracked"):
            axes = (2, 3, 1, 0) if array.ndim == 4 else (0,)
            flat[connector_name(name)] = array.transpose(axes)
    return traverse_util.unflatten_dict(flat)


@pytest.fixture(params=["float64", "float32"], scope="module")
def dtype(request):
    """A type of the computation, at its full precision."""
    with contextlib.ExitStack() as stack:
        if request.param == "float64":
            stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.default_matmul_precision("highest"))
        yield request.param


@pytest.fixture(params=PAIRS, scope="module")
def golden_step(request, golden, dtype):
    """A golden step with kdjax's networks, variables and objective in one type."""
    return GoldenStep(PAIRS[request.param], golden, dtype)


class GoldenStep:
    def __init__(self, pair, golden, dtype):
        self.arrays = arrays = golden(pair.file, pair.prefix)
        self.dtype = jnp.dtype(dtype)
        self.tolerance = TOLERANCE[dtype]
        self.teacher, self.student = (
            models.build(name, pair.num_classes, dtype=self.dtype)
            for name in (pair.teacher, pair.student)
        )
        self.teacher_variables = self.variables(self.teacher, "teacher/")
        student = self.variables(self.student, "student/")
        widths = tuple(len(arrays[f"margin{stage}"]) for stage in (1, 2, 3))
        self.connectors = connectors.Connectors(widths, dtype=self.dtype)
        learned = self.cast(connectors_from_torch(part(arrays, "connector/")))
        self.optimizer = optim.sgd(
            float(arrays.get("steps/lr", 0.1)),
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
        )
        self.state = train_state.create(student, {"overhaul": learned}, self.optimizer)
        self.params, self.batch_stats = self.state.params, self.state.batch_stats
        self.method = overhaul.Overhaul(dtype=self.dtype)
        # As `Overhaul.precompute` makes them, but not rounded to float32.
        margins = [
            overhaul.margins(
                *(self._teacher_leaf(path, leaf) for leaf in ("scale", "bias"))
            )
            for path in models.margin_batch_norms(pair.teacher)
        ]
        self.frozen = objective.Frozen(
            self.teacher_variables, {"overhaul": {"margins": self.cast(margins)}}
        )

    def _teacher_leaf(self, path, leaf):
        tree = self.teacher_variables["params"]
        for name in path:
            tree = tree[name]
        return np.asarray(tree[leaf])

    def cast(self, tree):
        return jax.tree.map(lambda x: jnp.asarray(x, self.dtype), tree)

    def variables(self, network, prefix):
        return self.cast(
            torch_layout.from_state_dict(network, part(self.arrays, prefix))
        )

    def batch(self, images, labels):
        return Batch(
            image=jnp.asarray(nhwc(images), self.dtype),
            label=jnp.asarray(labels, jnp.int32),
            mask=jnp.ones(len(labels)),
            index=jnp.arange(len(labels), dtype=jnp.int32),
        )

    def student_variables(self):
        return {
            "params": self.params["student"],
            "batch_stats": self.batch_stats["student"],
        }

    def connector_variables(self):
        return {
            "params": self.params["methods"]["overhaul"],
            "batch_stats": self.batch_stats["methods"]["overhaul"],
        }

    def first_batch(self):
        return self.batch(self.arrays["images"], self.arrays["labels"])

    def objective(self, teacher_train=True):
        return objective.student_objective(
            self.student,
            self.teacher,
            {"overhaul": self.method},
            teacher_train=teacher_train,
        )

    @functools.cache  # noqa: B019 (as long as the tests of this file)
    def gradients(self, teacher_train=True):
        """Returns losses and gradients of the first batch."""
        return jax.jit(self.objective(teacher_train))(
            self.params,
            self.batch_stats,
            self.frozen,
            self.first_batch(),
            jax.random.key(0),
            jnp.zeros((), jnp.int32),
        )


def test_margins_and_features_are_the_authors(golden_step):
    g, tolerance = golden_step, golden_step.tolerance["output"]
    image = g.first_batch().image
    for name, network, variables in (
        ("teacher", g.teacher, g.teacher_variables),
        ("student", g.student, g.student_variables()),
    ):
        forward = jax.jit(functools.partial(forward_lib.forward, network, train=True))
        outputs, _ = forward(variables, image)
        assert_output_close(outputs.logits, g.arrays[f"train/{name}_logits"], tolerance)
        assert_stages_close(g, outputs.features.pre, f"{name}_feat")
        forward = jax.jit(functools.partial(forward_lib.forward, network, train=False))
        evaluated, _ = forward(variables, image)
        assert_output_close(
            evaluated.logits, g.arrays[f"eval/{name}_logits"], tolerance
        )
    # The student's, which come last.
    connected, _ = g.connectors.apply(
        g.connector_variables(), outputs.features.pre, mutable=["batch_stats"]
    )
    assert_stages_close(g, connected, "connector_out")
    for stage, margin in enumerate(
        g.frozen.precomputed["overhaul"]["margins"], start=1
    ):
        np.testing.assert_allclose(
            margin, g.arrays[f"margin{stage}"], rtol=max(tolerance, 1e-10)
        )


def assert_stages_close(g, stages, name):
    """Compares maps, of which some files hold the first image alone, in float32."""
    for index, stage in enumerate(stages, start=1):
        expected = nhwc(g.arrays[f"train/{name}{index}"])
        tolerance = max(g.tolerance["output"], 1e-7)
        assert_output_close(stage[: len(expected)], expected, tolerance)


@pytest.mark.parametrize("teacher_train", [True, False])
def test_losses_are_the_authors(golden_step, teacher_train):
    g = golden_step
    found = g.gradients(teacher_train)
    stages = [jnp.sum(found.values[f"overhaul/stage_{i}"]) for i in (1, 2, 3)]
    rtol = g.tolerance["loss"]
    if not teacher_train:
        np.testing.assert_allclose(
            sum(stages), g.arrays["teacher_eval/loss_distill"], rtol=rtol
        )
        return
    np.testing.assert_allclose(
        stages, g.arrays["train/stage_loss"] * g.arrays["train/stage_weight"], rtol=rtol
    )
    np.testing.assert_allclose(
        jnp.mean(found.values["cross_entropy"]), g.arrays["train/loss_ce"], rtol=rtol
    )
    np.testing.assert_allclose(found.loss, g.arrays["train/loss_total"], rtol=rtol)
    assert found.by_rule == {}


def torch_gradients(g, gradient):
    """Returns the gradients under the authors' names, in PyTorch's axes."""
    student = {"params": gradient["student"]}
    found = torch_layout.to_state_dict(g.student, student, "overhaul")
    found = {f"student/{name}": value for name, value in found.items()}
    learned = traverse_util.flatten_dict(gradient["methods"]["overhaul"])
    for name in part(g.arrays, "connector/"):
        collection, *path = connector_name(name)
        if collection == "params":
            value = np.asarray(learned.pop(tuple(path)))
            axes = (3, 2, 0, 1) if value.ndim == 4 else (0,)
            found[f"connector/{name}"] = value.transpose(axes)
    assert not learned
    return found


def test_every_gradient_is_the_authors(golden_step):
    g, tolerance = golden_step, golden_step.tolerance["gradient"]
    gradients = torch_gradients(g, g.gradients().summed)
    assert gradients.keys() == set(g.arrays["grad_names"])
    for index, name in enumerate(g.arrays["grad_names"]):
        actual, expected = gradients[name], g.arrays[f"grad/{name}"]
        stored = 1e-7 if expected.dtype == np.float32 else 0
        difference = relative_l2(actual, expected.astype(np.float64))
        assert difference < max(tolerance, stored), (name, difference)
        # What was computed of the unrounded gradients.
        norm = g.arrays["grad_norm_total"][index]
        np.testing.assert_allclose(np.linalg.norm(actual), norm, rtol=tolerance)
        weight = np.cos(np.arange(actual.size))
        np.testing.assert_allclose(
            actual.ravel() @ weight,
            g.arrays["grad_dot_cos_total"][index],
            rtol=0,
            atol=tolerance * norm * np.linalg.norm(weight),
        )


def training_pass(network, variables, inputs, **kwargs):
    """Returns outputs, new statistics, and the values that batch norms average over."""

    @jax.jit
    def run(variables, inputs):
        return network.apply(
            variables,
            inputs,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, nn.BatchNorm),
            **kwargs,
        )

    outputs, updates = run(variables, inputs)
    norms = traverse_util.flatten_dict(updates["intermediates"])
    numbers = {path[:-1]: x[0][..., 0].size for path, x in norms.items()}
    return outputs, updates["batch_stats"], numbers


def test_running_statistics_are_the_authors(golden_step):
    g = golden_step
    image = g.first_batch().image
    # A step throws the teacher's away.
    _, teacher_stats, teacher_numbers = training_pass(
        g.teacher, g.teacher_variables, image, train=True
    )
    (_, features), _, student_numbers = training_pass(
        g.student, g.student_variables(), image, train=True
    )
    _, _, numbers = training_pass(g.connectors, g.connector_variables(), features.pre)
    step = g.gradients().batch_stats
    learned = step["methods"]["overhaul"]
    compare_statistics(g, "teacher", teacher_stats, teacher_numbers)
    compare_statistics(g, "student", step["student"], student_numbers)
    compare_statistics(g, "connector", learned, numbers)


def compare_statistics(g, who, stats, numbers):
    """Compares the statistics of all batch norms that the authors call once a step."""
    before, after = part(g.arrays, f"{who}/"), part(g.arrays, f"after/{who}/")
    once = [k for k, v in after.items() if k.endswith("num_batches_tracked") and v == 1]
    checked = 0
    for (*module, leaf), actual in traverse_util.flatten_dict(stats).items():
        if who == "connector":
            name = f"{int(module[0].removeprefix('stage').removesuffix('_bn')) - 1}.1"
        else:
            network = {"teacher": g.teacher, "student": g.student}[who]
            name = network.torch_modules(tuple(module))["overhaul"]
        if f"{name}.num_batches_tracked" not in once:
            # We call it once, the authors twice.
            continue
        expected = after[f"{name}.running_{leaf}"]
        if leaf == "var":
            # PyTorch stores the unbiased variance of n values, Flax the biased one.
            kept = 0.9 * before[f"{name}.running_var"].astype(np.float64)
            n = numbers[tuple(module)]
            expected = kept + (expected - kept) * (n - 1) / n
        tolerance = g.tolerance["loss"]
        np.testing.assert_allclose(
            actual, expected, rtol=tolerance, atol=tolerance, err_msg=f"{who} {name}"
        )
        checked += 1
    assert checked == 2 * len(once) > 0


# The other pair has no updates.
@pytest.mark.parametrize("golden_step", ["wrn"], indirect=True)
def test_four_updates_are_the_authors(golden_step):
    g = golden_step
    train_step = jax.jit(step_lib.make_train_step(g.objective(), g.optimizer))
    state = g.state
    batches = [g.first_batch()] + [
        g.batch(images, labels)
        for images, labels in zip(
            g.arrays["steps/images"], g.arrays["steps/labels"], strict=True
        )
    ]
    rtol = 10 * g.tolerance["loss"]
    for batch, (loss_ce, loss_distill, loss_total) in zip(
        batches, g.arrays["steps/losses"], strict=True
    ):
        state, mean = train_step(state, g.frozen, batch)
        np.testing.assert_allclose(mean["cross_entropy"], loss_ce, rtol=rtol)
        distill = 2 * sum(mean[f"overhaul/stage_{i}"] for i in (1, 2, 3))
        np.testing.assert_allclose(distill, loss_distill, rtol=rtol)
        np.testing.assert_allclose(mean["loss"], loss_total, rtol=rtol)
    norms = dict(
        zip(g.arrays["grad_names"], g.arrays["steps/param_norms"], strict=True)
    )
    for path, value in traverse_util.flatten_dict(state.params["student"]).items():
        *module, leaf = path
        leaf = "bias" if leaf == "bias" else "weight"
        name = f"student/{g.student.torch_modules(tuple(module))['overhaul']}.{leaf}"
        np.testing.assert_allclose(
            np.linalg.norm(value), norms[name], rtol=10 * g.tolerance["gradient"]
        )
    assert int(state.step) == 4
