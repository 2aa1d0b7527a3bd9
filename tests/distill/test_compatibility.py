"""Every method on every pair: found out abstractly, and one real step each."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import config as config_lib
from kdjax import distill, models, objective, optim, recipes, train_state
from kdjax import step as step_lib
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import __main__ as table
from kdjax.distill import compatibility

#: Small pairs of every family, of other widths and mostly of other sizes, too.
FAMILIES = (
    "wrn_10_2-resnet8",
    "pyramidnet_14_20_basic-wrn_10_1",
    "resnet8-pyramidnet_20_6_bottleneck",
    "resnet14_zero_padded-shufflenet_v1",
    "wrn_10_1-shufflenet_v2",
    "vgg8-mobilenet_v2",
    "vgg11-mobilenet",
    "resnet18-vgg8",
    "resnet8x4-mhgd_mobilenet",
)

#: What cannot be joined by its defaults, and why.
REFUSED = {
    ("overhaul", "mhgd_vgg16-mhgd_vgg7"): r"need methods\.overhaul\.margin='measured'"
}


@pytest.mark.parametrize("name", sorted(distill.METHODS))
def test_every_method_supports_every_published_pair_or_explains(name):
    method = table.build(name)
    for pair in table.PAIRS:
        found = table.refusal(method, pair)
        if (name, pair) in REFUSED:
            assert found is not None
            assert REFUSED[name, pair].replace("\\", "") in found
        else:
            assert found is None, (pair, found)


@pytest.fixture
def quickly_compiled():
    """What is compiled runs once: optimizing it would take longer."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


#: Where maps of 16x16 images would end too small for a method.
NEEDS = {"factor_transfer": "wrn_10_2-resnet8"}


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        (name, NEEDS.get(name, FAMILIES[index % len(FAMILIES)]))
        for index, name in enumerate(sorted(distill.METHODS))
    ],
)
def test_every_method_makes_a_step_and_moves_what_it_learns(
    name, pair, quickly_compiled
):
    """From drawn weights: finite, and nothing that learns stays as it was."""
    teacher_name, student_name = pair.split("-")
    given = table.REQUIRED.get(name, {})
    (method,) = distill.build({name: given}, num_classes=10, num_examples=20).values()
    rng = np.random.default_rng(0)
    batch = Batch(
        image=jnp.asarray(rng.normal(size=(4, 16, 16, 3)), jnp.float32),
        label=jnp.asarray([0, 1, 2, 1], jnp.int32),
        mask=jnp.ones(4),
        index=jnp.arange(4, dtype=jnp.int32),
    )
    student, teacher = (
        models.build(network, 10) for network in (student_name, teacher_name)
    )
    variables = [drawn(network, batch.image) for network in (student, teacher)]
    ours, theirs = (
        compatibility.outputs(network, 10, (16, 16, 3))
        for network in (student_name, teacher_name)
    )
    view = distill.Teacher(
        teacher_name,
        variables[1],
        lambda: iter(
            [objective.forward(teacher, variables[1], batch.image, train=False)[0]]
        ),
        label=lambda: np.arange(20) % 10,
    )
    precomputed = method.precompute(view) if method.needs_teacher else {}
    key = jax.random.key(0)
    if method.pretrains:
        made = jax.jit(lambda key: method.pretrain_init(key, theirs))(key)
        precomputed |= {"pretrained": {"params": {}, "batch_stats": {}} | made}
    learned = jax.jit(lambda key: method.init(key, ours, theirs))(key)
    demand = objective.student_objective(
        student,
        teacher if method.needs_teacher else None,
        {name: method},
        teacher_train=False,
    )
    frozen = objective.Frozen(
        variables[1] if method.needs_teacher else None, {name: precomputed}
    )
    optimizer = optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    state = train_state.create(variables[0], {name: learned}, optimizer)
    found = jax.eval_shape(
        demand, state.params, state.batch_stats, frozen, batch, key, jnp.zeros((), int)
    )
    for term, value in found.values.items():
        assert value.shape == (4,), term
        assert value.dtype in (jnp.float32, jnp.bool), term
    train_step = jax.jit(step_lib.make_train_step(demand, optimizer))
    after, metrics = train_step(state, frozen, batch)
    assert all(np.isfinite(value) for value in metrics.values())
    assert float(metrics["gradient_norm"]) > 0
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        after.params["methods"],
        state.params["methods"],
    )
    assert all(jax.tree.leaves(moved)), moved
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(after.params))


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


def test_the_tables_are_printed(capsys):
    assert table.main([]) == 0
    assert "partial L2" in capsys.readouterr().out


def test_the_page_of_tables_is_what_the_code_prints(capsys):
    """Where not: python -m kdjax.distill --markdown > docs/methods.md."""
    assert table.main(["--markdown"]) == 0
    page = pathlib.Path(__file__).parents[2] / "docs" / "methods.md"
    assert page.read_text() == capsys.readouterr().out


def test_config_rejects_a_method_that_does_not_fit():
    config = recipes.distillation("mhgd_vgg16-mhgd_vgg7", {"overhaul": {}})
    config.teacher.checkpoint = "somewhere"
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin='measured'"):
        config_lib.check(config)
    config.methods.overhaul.margin = "measured"
    config_lib.check(config)
