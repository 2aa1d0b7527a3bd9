"""Networks and methods together against released codes: one batch, in float64."""

import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from kdjax import distill, models
from kdjax.distill.method import Inputs, Outputs
from kdjax.interop import torch_layout
from kdjax.models import wide_resnet
from tests.interop.torch_reference import drawing
from tests.parity import pairs

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "parity"

#: Methods by the tolerance of values and gradients: PKT leaves out an epsilon.
METHODS = {
    "kd": 1e-9,
    "fitnets": 1e-9,
    "attention_transfer": 1e-9,
    "nst": 1e-9,
    "similarity_preserving": 1e-9,
    "rkd": 1e-9,
    "pkt": 1e-6,
    "correlation_congruence": 1e-9,
    "vid": 1e-9,
    "activation_boundary": 1e-9,
    "factor_transfer": 1e-9,
    "fsp": 1e-9,
    "review": 1e-9,
}

#: Methods whose release has the weight in the loss.
WEIGHTED = ("activation_boundary",)

#: By method: paths of modules in kdjax, and how the release calls the module.
MODULES = {
    "fitnets": [(r"stage1_(conv|bn)", lambda m: m[1])],
    "activation_boundary": [
        (r"stage(\d)_(conv|bn)", lambda m: f"connectors.{int(m[1]) - 1}.{m[2]}")
    ],
    "vid": [
        (
            r"stage_(\d)/conv(\d)",
            lambda m: f"{int(m[1]) - 1}.regressor.{2 * int(m[2]) - 2}",
        ),
        (r"stage_(\d)", lambda m: f"{int(m[1]) - 1}"),
    ],
    # In the release an activation follows each batch norm.
    "factor_transfer": [
        (r"conv(\d)", lambda m: f"translator.encoder.{3 * int(m[1]) - 3}"),
        (r"bn(\d)", lambda m: f"translator.encoder.{3 * int(m[1]) - 2}"),
        (
            r"encoder/conv(\d)",
            lambda m: f"paraphraser.encoder.{3 * int(m[1]) - 3}",
        ),
    ],
    "correlation_congruence": [(r"(student|teacher)", lambda m: f"{m[1]}.linear")],
    # The release counts from the top, kdjax from the bottom.
    "review": [
        (r"level(\d)_in_conv", lambda m: f"{4 - int(m[1])}.conv1.0"),
        (r"level(\d)_in_bn", lambda m: f"{4 - int(m[1])}.conv1.1"),
        (r"level(\d)_gate", lambda m: f"{4 - int(m[1])}.att_conv.0"),
        (r"level(\d)_out_conv", lambda m: f"{4 - int(m[1])}.conv2.0"),
        (r"level(\d)_out_bn", lambda m: f"{4 - int(m[1])}.conv2.1"),
    ],
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
LEAVES |= {"raw_variance": "log_scale"}

#: From Flax's axes to PyTorch's.
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def released_name(method, path):
    """Names a learned parameter as the release does, by its path in kdjax."""
    *module, leaf = path
    for pattern, name in MODULES[method]:
        if match := re.fullmatch(pattern, "/".join(module)):
            return f"{method}.{name(match)}.{LEAVES[leaf]}"
    raise AssertionError(path)


def drawn(method, shapes):
    """Draws learned parameters as the release did, in kdjax's layout."""
    flat = {}
    for path, leaf in traverse_util.flatten_dict(dict(shapes)).items():
        name, axes = released_name(method, path), AXES[leaf.ndim]
        shape = tuple(leaf.shape[axis] for axis in axes)
        array = drawing.state_dict({name: shape})[name]
        flat[path] = jnp.asarray(array.transpose(np.argsort(axes)), jnp.float64)
    return traverse_util.unflatten_dict(flat)


class Network:
    """A network in float64 with the weights that the release got."""

    def __init__(self, name, side):
        self.side = side
        self.network = models.build(name, pairs.CLASSES, dtype=jnp.float64)
        image = jnp.zeros((1, 32, 32, 3))
        shapes = jax.eval_shape(
            lambda: self.network.init(jax.random.key(0), image, train=False)
        )
        written = torch_layout.to_state_dict(
            self.network,
            jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes),
            "overhaul",
        )
        named = {f"{side}.{name}": array.shape for name, array in written.items()}
        weights = {
            name.removeprefix(f"{side}."): array
            for name, array in drawing.state_dict(named).items()
        }
        self.variables = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64),
            torch_layout.from_state_dict(self.network, weights),
        )
        image = drawing.images(pairs.BATCH, 32).transpose(0, 2, 3, 1)
        self.image = jnp.asarray(image, jnp.float64)

    @functools.cached_property
    def outputs(self):
        return self._run(self.variables["params"])

    @functools.cached_property
    def _run(self):
        def run(params):
            variables = self.variables | {"params": params}
            if self.side == "teacher":
                return Outputs(*self.network.apply(variables, self.image, train=False))
            found, _ = self.network.apply(
                variables, self.image, train=True, mutable=["batch_stats"]
            )
            return Outputs(*found)

        return jax.jit(run)

    @functools.cached_property
    def _pull(self):
        return jax.jit(lambda params, out: jax.vjp(self._run, params)[1](out)[0])

    def gradients(self, of_outputs):
        """Returns the gradient by every parameter, by its name in the release."""
        params = self._pull(self.variables["params"], of_outputs)
        written = torch_layout.to_state_dict(
            self.network, {"params": params}, "overhaul"
        )
        return {f"{self.side}.{name}": array for name, array in written.items()}


@pytest.fixture(scope="module", params=pairs.PAIRS, ids=lambda pair: pair.name)
def networks(request):
    """Returns teacher, student, the teacher of FSP and the released figures."""
    pair = request.param
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        teacher = Network(pair.teacher, "teacher")
        student = Network(pair.student, "student")
        narrow = teacher
        if pair.fsp_teacher != pair.teacher:
            narrow = Network(pair.fsp_teacher, "teacher")
        with np.load(FOLDER / f"{pair.name}.npz") as arrays:
            yield teacher, student, narrow, dict(arrays)


def pretrained(name, method, teacher):
    """Returns what a method learned on the teacher, as the release drew it."""
    made = jax.eval_shape(method.pretrain_init, jax.random.key(0), teacher.outputs)
    encoder = drawn(name, {"encoder": made["params"]["encoder"]})
    # The decoder takes no part in the distillation.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), made["params"]["decoder"])
    return {"pretrained": {"params": encoder | {"decoder": zeros}}}


def loss_and_gradients(name, teacher, student, **settings):
    """Returns the loss of a method, and its gradient by each parameter, by name."""
    method = distill.build({name: settings}, dtype="float64")[name]
    made = jax.eval_shape(
        method.init, jax.random.key(0), student.outputs, teacher.outputs
    )
    params = drawn(name, made.get("params", {}))
    stats = jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.float64), made.get("batch_stats", {})
    )
    precomputed = pretrained(name, method, teacher) if method.pretrains else {}

    @jax.jit
    def run(params, outputs, teacher_outputs):
        def loss(params, outputs):
            variables = {"params": params, "batch_stats": stats}
            inputs = Inputs(None, None, None, jax.random.key(0))
            terms, _ = method.loss(
                variables, precomputed, outputs, teacher_outputs, inputs
            )
            return sum(map(jnp.mean, terms.values()))

        return jax.value_and_grad(loss, argnums=(0, 1))(params, outputs)

    value, (learned, of_outputs) = run(params, student.outputs, teacher.outputs)
    gradients = student.gradients(of_outputs)
    for path, leaf in traverse_util.flatten_dict(dict(learned)).items():
        gradients[released_name(name, path)] = np.asarray(leaf).transpose(
            AXES[leaf.ndim]
        )
    factor = method.weight if name in WEIGHTED else 1
    return factor * value, {key: factor * x for key, x in gradients.items()}


def gradient_error(gradients, names, expected):
    """Returns the worst error of the gradients, relative to the norm of each.

    Gradients that a batch norm makes zero are rounding errors on both sides; norms
    below a millionth of the largest count as that.
    """
    floor = 1e-6 * expected[:, 0].max()
    errors = []
    for parameter, wanted in zip(names, expected, strict=True):
        if parameter not in gradients:
            # A bias before a batch norm, which kdjax does not have.
            assert parameter.endswith("conv.bias")
            assert wanted[0] < 1e-9 * floor
            continue
        found = pairs.summary(parameter, gradients[parameter])
        errors.append(np.abs(found - wanted).max() / max(wanted[0], floor))
    return max(errors)


@pytest.mark.parametrize("name", METHODS)
def test_value_and_gradients_match_the_release(networks, name):
    """By every parameter of the student and of what the method learns."""
    teacher, student, narrow, arrays = networks
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        value, gradients = loss_and_gradients(
            name, narrow if name == "fsp" else teacher, student
        )
    wanted, tolerance = arrays[f"{name}/value"], METHODS[name]
    names = json.loads(str(arrays[f"{name}/names"]))
    error = gradient_error(gradients, names, arrays[f"{name}/gradient"])
    # The figures of docs/parity.md.
    print(f"\n{name}: value {abs(value / wanted - 1):.0e}, gradient {error:.0e}")
    np.testing.assert_allclose(value, wanted, rtol=tolerance)
    assert error < tolerance
    for parameter in gradients.keys() - set(names):
        assert not np.any(gradients[parameter]), parameter


def test_other_positions_are_other_losses_on_wide_resnets(networks):
    """What follows the next batch norm and ReLU is not what the release reads."""
    teacher, student, _, arrays = networks
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        value, _ = loss_and_gradients(
            "attention_transfer", teacher, student, position="post"
        )
    differs = abs(value / arrays["attention_transfer/value"] - 1) > 0.1
    assert differs == isinstance(student.network, wide_resnet.WideResNet)
