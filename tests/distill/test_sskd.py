"""SSKD: the whole loss, the teacher's head, and what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import method_recipes, phases, recipes, train
from kdjax import step as step_lib
from kdjax.config import checks
from kdjax.distill.method import Inputs, Outputs
from kdjax.distill.sskd import Sskd
from kdjax.models import Features
from tests import small_runs
from tests.losses import released, test_sskd

LABEL, CLASSES = released.LABEL, released.CLASSES


def outputs_of(logits, pooled):
    """Makes outputs of what has no map."""
    return Outputs(jnp.asarray(logits), Features(None, (), (), pooled, last=None))


def network(side, *, logits, rotated_logits, upright, rotated):
    """Returns a network's outputs, and its head's parameters."""

    def flat(x):
        return jnp.asarray(x.reshape(-1, x.shape[-1]))

    width = upright.shape[-1]
    head = {
        f"linear{number}": {
            "kernel": jnp.asarray(
                released.drawn(f"{side} linear{number} kernel", width, width)
            ),
            "bias": jnp.asarray(released.drawn(f"{side} linear{number} bias", width)),
        }
        for number in (1, 2)
    }
    turned = outputs_of(flat(rotated_logits), flat(rotated))
    found = outputs_of(logits, jnp.asarray(upright))._replace(rotated=turned)
    return found, head


def networks():
    rotated = dict(zip(("student", "teacher"), test_sskd.rotated_logits(), strict=True))
    return [
        network(
            side,
            logits=3 * released.drawn(side, len(LABEL), CLASSES),
            rotated_logits=rotated[side],
            **dict(
                zip(
                    ("upright", "rotated"),
                    test_sskd.embeddings(side).values(),
                    strict=True,
                )
            ),
        )
        for side in ("student", "teacher")
    ]


def test_the_whole_loss_is_that_of_the_release():
    """With the cross-entropy; by logits, pooled features and the student's head.

    With 0.65 of the errors no two of one level compete for the last place, which the
    release's sorting gives to either.
    """
    method = Sskd(similarity_errors=0.65)
    config = method_recipes.of_methods("sskd", "wrn_40_2-wrn_16_2")
    with jax.enable_x64(True):
        method = dataclasses.replace(method, dtype=jnp.float64)
        (student, head), (teacher, teacher_head) = networks()
        label = jnp.asarray(LABEL)

        @jax.jit
        @jax.value_and_grad
        def run(learned):
            student, head = learned
            terms, _ = method.loss(
                {"params": head},
                {"pretrained": {"params": teacher_head}},
                student,
                teacher,
                Inputs(None, label, None, None),
            )
            assert all(term.shape == label.shape for term in terms.values())
            task = optax.softmax_cross_entropy_with_integer_labels(
                student.logits, label
            )
            return config.task_weight * task.mean() + sum(map(jnp.mean, terms.values()))

        value, (by_outputs, by_head) = jax.device_get(run((student, head)))
    gradients = {
        "student": by_outputs.logits,
        "rotated student": by_outputs.rotated.logits.reshape(7, 3, -1),
        "student embedding": by_outputs.features.pooled,
        "rotated student embedding": by_outputs.rotated.features.pooled.reshape(
            7, 3, -1
        ),
    } | {
        f"student {layer} {part}": by_head[layer][part]
        for layer in ("linear1", "linear2")
        for part in ("kernel", "bias")
    }
    assert gradients.keys() == released.values()["sskd/all"]["gradient"].keys()
    released.assert_close("sskd/all", value, gradients)


def test_the_head_learns_to_find_the_upright_image():
    method = Sskd()
    _, (teacher, _) = networks()
    teacher = jax.tree.map(lambda x: x.astype(jnp.float32), teacher)
    variables = method.pretrain_init(jax.random.key(0), teacher)
    assert {
        name: layer["kernel"].shape for name, layer in variables["params"].items()
    } == {"linear1": (6, 6), "linear2": (6, 6)}
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(params, state):
        def loss(params):
            terms, _ = method.pretrain_loss(
                variables | {"params": params}, jax.random.key(0), teacher
            )
            return jnp.mean(terms["contrast"])

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, values = variables["params"], []
    state = optimizer.init(params)
    for _ in range(60):
        params, state, value = step(params, state)
        values.append(value)
    assert values[-1] < values[0] - 0.3


@pytest.mark.parametrize("scope", ["global", "per_device"])
def test_the_head_contrasts_the_images_in_scope(scope):
    """On four devices: all of the batch as on one, or those of each device."""
    pooled = released.drawn("eight", 8, 6).astype(np.float32)
    turned = released.drawn("eight turned", 24, 6).astype(np.float32)
    teacher = outputs_of(np.zeros((8, 2)), jnp.asarray(pooled))
    teacher = teacher._replace(
        rotated=outputs_of(np.zeros((24, 2)), jnp.asarray(turned))
    )
    variables = Sskd().pretrain_init(jax.random.key(0), teacher)

    def contrast(method, teacher):
        terms, _ = method.pretrain_loss(variables, jax.random.key(0), teacher)
        return terms["contrast"]

    spread = Sskd(scope=scope, data_axis=step_lib.DEVICES)
    parts = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), teacher)
    found = step_lib.data_parallel(
        functools.partial(contrast, spread),
        jax.devices()[:4],
        in_axes=(0,),
        out_axes=0,
    )(parts)
    shares = [teacher]
    if scope == "per_device":
        shares = [jax.tree.map(lambda x, n=n: x[n], parts) for n in range(4)]
    expected = jnp.concatenate([contrast(Sskd(), share) for share in shares])
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5)


def test_labels_are_read_to_leave_out_errors_on_rotated_images_alone():
    """So that the released settings also train on mixed images."""
    assert not Sskd().needs_label
    assert Sskd(rotation_errors=0.5).needs_label
    config = recipes.distillation("resnet8-resnet8,digits", {"sskd": {}})
    config.teacher.checkpoint = "somewhere"
    config.data.mixup = 1.0
    checks.check(config)
    config.methods.sskd.rotation_errors = 0.5
    with pytest.raises(ValueError, match=r"data\.mixup=1\.0 mixes .*\['sskd'\] need"):
        checks.check(config)


def test_a_second_view_is_refused():
    methods = {"sskd": {}, "mlkd": {"views": 2}}
    config = recipes.distillation("resnet8-resnet8,digits", methods)
    config.teacher.checkpoint = "somewhere"
    message = r"methods=\['sskd'\] turn .* but methods=\['mlkd'\] compare it with a sec"
    with pytest.raises(ValueError, match=message):
        checks.check(config)
    config.methods.mlkd.views = 1
    checks.check(config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, r"methods\.sskd\.temperature=0\.0 is not above 0"),
        ({"similarity_temperature": -1.0}, r"similarity_temperature=-1\.0 is not ab"),
        ({"rotation_errors": 1.5}, r"sskd\.rotation_errors=1\.5 is not in \[0, 1\]"),
        ({"similarity_errors": -0.5}, r"similarity_errors=-0\.5 is not in \[0, 1\]"),
        ({"rotation_weight": -1.0}, r"sskd\.rotation_weight=-1\.0 is negative"),
        ({"scope": "x"}, r"methods\.sskd\.scope='x' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Sskd(**given)


def test_the_recipe_is_that_of_the_release():
    config = method_recipes.of_methods("sskd", "resnet50-mobilenet_v2")
    assert (config.epochs, config.batch_size, config.task_weight) == (240, 64, 0.1)
    assert config.optimizer.learning_rate == 0.01
    assert config.teacher.batch_norm == "running"
    # The head's rate is that of large networks, whatever the student.
    assert (config.pretrain.epochs, config.pretrain.optimizer.learning_rate) == (
        60,
        0.05,
    )
    assert config.pretrain.optimizer.lr_milestones == (0.5, 0.75)


def test_both_phases_are_traced_on_the_digits(tmp_path):
    small_runs.write_teacher(tmp_path)
    config = recipes.distillation("resnet8-resnet8,digits", {"sskd": {}})
    config.teacher.checkpoint, config.steps_per_dispatch = str(tmp_path), 1
    with small_runs.shortcuts():
        experiment = train.build_experiment(config)
    pretrain, learn = phases.plan(experiment)
    found, previous = {}, None
    for phase in (pretrain, learn):
        state, frozen = jax.eval_shape(
            lambda phase=phase, previous=previous: phases.initial_state(phase, previous)
        )
        step = phases.build_step(phase)
        previous, found[phase.name] = jax.eval_shape(
            step, state, frozen, *phase.pipeline.shapes()
        )
    assert "sskd/contrast" in found["pretrain"]
    assert {"sskd/upright", "sskd/rotations", "sskd/similarities"} < found[
        "train"
    ].keys()
