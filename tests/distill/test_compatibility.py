"""Every method on pairs of every family, abstractly, and one real gradient of each."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from experiments import methods_page
from kdjax import distill, models, objective, recipes
from kdjax.config import checks
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import __main__ as table
from kdjax.distill import compatibility, heads, shapes
from kdjax.forward import forward

#: Pairs that differ in family, number and sizes of stages, and widths. What a method
#: sees of a network does not depend on its depth.
PAIRS = (
    "wrn_10_2-resnet8",
    "pyramidnet_14_20_basic-wrn_10_1",
    "resnet8-pyramidnet_20_6_bottleneck",
    "resnet14_zero_padded-shufflenet_v1",
    "wrn_10_1-shufflenet_v2",
    "vgg8-mobilenet_v2",
    "resnet50-vgg8",
    "mhgd_vgg16-mhgd_vgg7",
    "wrn_10_2-mhgd_mobilenet",
    "wrn_10_1-vit_4_64_distilled",
    "vit_4_64-wrn_10_2",
    "convnext_atto-mobilenet_v2",
)

#: What cannot be joined by its defaults, and why.
REJECTED = {
    **{("deit", pair): "a student with a distillation token" for pair in PAIRS},
    **{
        (name, pair): "no average of it: it reads a token"
        for name in ("cat_kd", "sdd", "simkd")
        for pair in PAIRS[-3:]
    },
    **{
        ("overhaul", pair): "need methods.overhaul.margin='measured'"
        for pair in PAIRS[-2:]
    },
    ("overhaul", "mhgd_vgg16-mhgd_vgg7"): "need methods.overhaul.margin='measured'",
    **{
        (name, "mhgd_vgg16-mhgd_vgg7"): "one reads 1024 features, and the map has 512"
        for name in ("cat_kd", "sdd", "simkd")
    },
}
del REJECTED["deit", "wrn_10_1-vit_4_64_distilled"]


@pytest.mark.parametrize("name", sorted(distill.METHODS))
def test_every_method_joins_every_pair_or_is_rejected_with_a_reason(name):
    method = table.build(name)
    for pair in PAIRS:
        found = table.refusal(method, pair)
        if (name, pair) in REJECTED:
            assert REJECTED[name, pair] in found
        else:
            assert found is None, (pair, found)


def test_every_family_ends_in_a_classifier_that_methods_can_read():
    for name in {name for pair in PAIRS for name in pair.split("-")}:
        found = shapes.outputs(models.build(name, 10), (32, 32, 3))
        kernel, bias = found.classifier
        assert kernel.shape == (found.features.pooled.shape[1], 10), name
        assert bias.shape == (10,), name


def test_a_network_without_a_classifier_is_refused_to_a_method_that_reads_it(
    monkeypatch,
):
    found = shapes.outputs(models.build("resnet8", 10), (32, 32, 3))
    headless = found._replace(classifier=None)
    monkeypatch.setattr(compatibility, "outputs", lambda *_: headless)
    method = table.build("kd")
    assert table.refusal(method, "resnet8-resnet8") is None
    monkeypatch.setattr(type(method), "needs_classifier", True)
    assert table.refusal(method, "resnet8-resnet8") == (
        "methods.kd reads the classifiers, but resnet8 does not end in a linear layer "
        "`classifier`"
    )


class TracedOnce:
    """A network whose passes are traced for the first method, and then kept."""

    def __init__(self, network):
        self._apply = jax.jit(network.apply, static_argnames=("train", "mutable"))

    def apply(self, *given, mutable=False, **settings):
        return self._apply(*given, mutable=mutable and tuple(mutable), **settings)


@pytest.fixture(scope="module")
def networks():
    """Two networks, their variables, drawn with numpy, and a batch; by the student."""
    rng = np.random.default_rng(0)
    batch = Batch(
        image=jnp.asarray(rng.normal(size=(4, 16, 16, 3)), jnp.float32),
        label=jnp.asarray([0, 1, 2, 1], jnp.int32),
        mask=jnp.ones(4),
        index=jnp.arange(4, dtype=jnp.int32),
    )

    @functools.cache
    def with_student(student):
        built = [models.build(name, 10) for name in (student, "wrn_10_2")]
        variables = [{"batch_stats": {}} | drawn(x, batch.image) for x in built]
        teacher = jax.jit(lambda x: forward(built[1], variables[1], x, train=False)[0])(
            batch.image
        )
        return built, list(map(TracedOnce, built)), variables, teacher, batch

    return with_student


def drawn(network, image):
    """Returns variables of the usual size; draws them faster than the network does."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            std = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(rng.normal(0, std, leaf.shape), leaf.dtype)
        ones = path[-1].key in ("scale", "var")
        return jnp.full(leaf.shape, float(ones), leaf.dtype)

    wanted = jax.eval_shape(
        lambda image: network.init(jax.random.key(0), image, train=False), image
    )
    return jax.tree_util.tree_map_with_path(draw, dict(wanted))


@pytest.mark.parametrize("name", sorted(distill.METHODS))
def test_terms_and_gradients_are_finite_and_what_is_read_is_declared(name, networks):
    """One trace tells the shapes of the terms and what depends on the label.

    It also tells what depends on the teacher's last layer, and so on its logits. Before
    the training, a method that does not declare to read them is not given any.
    From drawn weights, everything that the method learns gets a gradient.
    """
    (method,) = distill.build(
        {name: table.REQUIRED.get(name, {})}, num_classes=10, num_examples=20
    ).values()
    token = method.needs_distillation_token
    built, (student, teacher), variables, teacher_outputs, batch = networks(
        "vit_4_64_distilled" if token else "resnet8"
    )
    plain, taught_by = built
    network = heads.with_head(plain, {name: method}, (16, 16, 3), taught_by)
    if network is not plain:
        student, variables = network, [drawn(network, batch.image), variables[1]]
    outputs = [shapes.outputs(x, (16, 16, 3)) for x in (network, taught_by)]
    if method.needs_second_view:
        batch = batch._replace(second_image=batch.image[::-1])
    if not method.needs_teacher_logits:
        teacher_outputs = teacher_outputs._replace(logits=None)
        outputs = [outputs[0], outputs[1]._replace(logits=None)]
    taught = method.needs_teacher
    key = jax.random.key(0)
    precomputed = {}
    if taught:
        view = distill.Teacher(
            "wrn_10_2",
            variables[1],
            lambda: iter([teacher_outputs]),
            label=lambda: np.arange(20) % 10,
        )
        precomputed = dict(method.precompute(view))
    if method.pretrains:
        made = jax.jit(lambda key: method.pretrain_init(key, outputs[1]))(key)
        precomputed["pretrained"] = {"params": {}, "batch_stats": {}} | made
    learned = {"params": {}, "batch_stats": {}} | jax.jit(
        lambda key: method.init(key, outputs[0], outputs[1] if taught else None)
    )(key)
    gradients_of = objective.student_objective(
        student, teacher if taught else None, {name: method}, teacher_train=False
    )
    params = {"student": variables[0]["params"], "methods": {name: learned["params"]}}
    batch_stats = {
        "student": variables[0]["batch_stats"],
        "methods": {name: learned["batch_stats"]},
    }
    if "method_state" in learned:
        batch_stats["method_state"] = {name: learned["method_state"]}

    def terms(label, classifier):
        params_of_teacher = variables[1]["params"] | {"classifier": classifier}
        frozen = objective.Frozen(
            variables[1] | {"params": params_of_teacher} if taught else None,
            {name: precomputed},
        )
        found = gradients_of(
            params,
            batch_stats,
            frozen,
            batch._replace(label=label),
            key,
            jnp.zeros((), jnp.int32),
        )
        own = {k: v for k, v in found.values.items() if k.startswith(f"{name}/")}
        gradients = found.summed, found.by_rule
        stats = {k: v for k, v in found.batch_stats.items() if k != "student"}
        return own, stats, found.values, gradients

    given = batch.label, variables[1]["params"]["classifier"]
    traced = jax.jit(terms).trace(*given)
    own, stats, values, _ = traced.out_info
    assert own
    for term, value in values.items():
        assert value.shape == (4,), term
        assert value.dtype in (jnp.float32, jnp.bool), term

    jaxpr = traced.jaxpr.jaxpr
    read = len(jax.tree.leaves((own, stats)))
    wanted = [index < read for index in range(len(jaxpr.outvars))]
    _, used = partial_eval.dce_jaxpr(jaxpr, wanted)
    *_, reads_label, _, reads_classifier = used
    assert reads_label == method.needs_label
    assert reads_classifier == (method.needs_teacher_logits or method.needs_classifier)
    assert method.needs_label or not method.needs_input_gradient

    # GPUs and TPUs have every operation of it.
    traced.lower(lowering_platforms=("cuda", "tpu"))
    own, _, _, (summed, by_rule) = traced.lower().compile()(*given)
    assert all(np.all(np.isfinite(value)) for value in own.values())
    gradients = summed, *by_rule.values()
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))
    # What is clipped to the gradient of the task is added to the rest after it.
    moved = jax.tree.map(lambda *x: bool(np.any(np.asarray(x))), *gradients)
    assert all(jax.tree.leaves(moved["methods"])), moved["methods"]
    assert any(jax.tree.leaves(moved["student"]))


def test_tables_fit_a_terminal(capsys):
    assert table.main([]) == 0
    printed = capsys.readouterr().out
    assert "partial L2" in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_the_page_of_methods_is_what_the_code_prints():
    """If not: make docs."""
    page = pathlib.Path(checks.__file__).parent.parent.parent / "docs/methods.md"
    assert page.read_text() == "\n".join(methods_page.page()) + "\n"


def test_a_method_that_cannot_join_is_rejected_when_the_config_is_read():
    config = recipes.distillation("mhgd_vgg16-mhgd_vgg7", {"overhaul": {}})
    config.teacher.checkpoint = "somewhere"
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin='measured'"):
        checks.check(config)
    config.methods.overhaul.margin = "measured"
    checks.check(config)
