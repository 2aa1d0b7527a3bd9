"""One device and four, the same global batch: the same training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from kdjax import distill, models, objective, optim, recipes, train_state
from kdjax import step as step_lib
from kdjax.data import pipeline
from kdjax.data.pipeline.batches import Batch
from kdjax.data.split import Split
from kdjax.evaluate import Evaluator

CLASSES = 10


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


def train(num_devices, batch_norm, methods=None, steps=2, batch_size=16):
    """Distills for some steps; returns the state and the metrics of each step."""
    methods = methods or {"overhaul": {}}
    axis_name = step_lib.DEVICES if batch_norm == "synchronized" else None
    network = models.build("wrn_10_1", CLASSES, dtype=jnp.float64, axis_name=axis_name)
    methods = distill.build(
        methods,
        dtype=jnp.float64,
        batch_norm_axis=axis_name,
        data_axis=step_lib.DEVICES,
        num_classes=CLASSES,
        num_examples=40,
    )
    image = jax.random.normal(jax.random.key(0), (batch_size, 8, 8, 3), jnp.float64)
    outputs, variables = network.init_with_output(jax.random.key(1), image, train=False)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    label = np.arange(40) % CLASSES
    teacher = distill.Teacher("wrn_10_1", variables, lambda: iter(()), lambda: label)
    outputs = distill.Outputs(*outputs)
    learned = {
        name: jax.tree.map(
            lambda x: x.astype(jnp.float64),
            method.init(jax.random.key(2), outputs, outputs),
        )
        for name, method in methods.items()
    }
    # Not the teacher's own values, which would end where they start.
    student = jax.tree.map(lambda x: 0.9 * x, variables)
    optimizer = optim.sgd(
        0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        deltas=distill.gradients.deltas(methods, 0.075),
    )
    state = train_state.create(student, learned, optimizer)
    precomputed = {name: m.precompute(teacher) for name, m in methods.items()}
    for name, method in methods.items():
        if method.pretrains:
            prepared = method.pretrain_init(jax.random.key(3), outputs)
            prepared = jax.tree.map(lambda x: x.astype(jnp.float64), prepared)
            precomputed[name] |= {"pretrained": prepared}
    frozen = objective.Frozen(variables, precomputed)
    train_step = step_lib.data_parallel(
        step_lib.make_train_step(
            objective.student_objective(network, network, methods, teacher_train=True),
            optimizer,
            axis_name=step_lib.DEVICES,
        ),
        jax.devices()[:num_devices],
        in_axes=(None, None, 0),
    )
    batch = Batch(
        image=image,
        label=jnp.arange(batch_size, dtype=jnp.int32) % CLASSES,
        mask=jnp.ones(batch_size),
        index=jnp.arange(batch_size, dtype=jnp.int32),
    )
    share = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)
    found = []
    for _ in range(steps):
        state, metrics = train_step(state, frozen, share)
        found.append(metrics)
    return jax.device_get((state, found))


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    "methods",
    [
        {"overhaul": {}},
        # What both do across devices is in tests/distill/test_mhgd.py.
        pytest.param({"mhgd": {}}, marks=pytest.mark.slow),
        pytest.param({"kd_svd": {}}, marks=pytest.mark.slow),
        # Those that relate the examples of a batch, all at once, and none too strong;
        # their gradients by every rule.
        {
            "rkd": {"gradient_combination": "pcgrad"},
            "similarity_preserving": {"weight": 1.0},
            "correlation_congruence": {},
            "pkt": {"weight": 1.0, "gradient_combination": "min_norm"},
            "dist": {"gradient_combination": "dot"},
            "mlkd": {},
            "crd": {},
        },
        # With rotated images, of which some that the teacher gets wrong are left out.
        {"sskd": {"rotation_errors": 0.5}},
    ],
    ids="+".join,
)
def test_training_is_the_same_on_one_device_and_on_four(methods):
    one, one_metrics = train(1, "synchronized", methods)
    four, four_metrics = train(4, "synchronized", methods)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        four_metrics,
        one_metrics,
    )
    for part in ("params", "batch_stats", "opt_state"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
            getattr(four, part),
            getattr(one, part),
        )


@pytest.mark.usefixtures("double_precision")
def test_statistics_per_device_are_another_training():
    one, _ = train(1, "per_device")
    four, _ = train(4, "per_device")
    one, four = (s.params["student"]["stem"]["kernel"] for s in (one, four))
    assert not np.allclose(one, four, rtol=1e-6)
    assert np.isfinite(four).all()


def mesh(num_devices):
    return Mesh(np.asarray(jax.devices()[:num_devices]), (step_lib.DEVICES,))


def some_images(number):
    rng = np.random.default_rng(0)
    return Split(
        rng.integers(0, 256, (number, 8, 8, 3), np.uint8),
        rng.integers(0, CLASSES, number).astype(np.int32),
    )


def data_config():
    return recipes.compose().data


def batch(num_devices, step, *, stream=None, **overrides):
    """Makes the full batch of a step: 40 images, in batches of 16, 16 and 8."""
    config = data_config()
    config.update(overrides)
    size = {"batch_size": 16, "mesh": mesh(num_devices)}
    batches = pipeline.train_batches(some_images(40), config, seed=5, **size)
    if stream:
        batches = batches.with_stream(stream)
    made = step_lib.data_parallel(
        lambda replicated, sharded: batches.make_batch(
            replicated, sharded, jnp.int32(step)
        ),
        jax.devices()[:num_devices],
        in_axes=(None, 0),
        out_axes=0,
    )(*next(batches.batches(step, step + 1)))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)
    assert len(flat.label) == batches.plan.size(step)
    return flat


@pytest.mark.parametrize("step", [0, 2, 3, 5])
@pytest.mark.parametrize(
    "fields", [{}, {"random_erasing": 0.5}, {"sampling": "balanced"}], ids=str
)
def test_a_batch_is_the_same_on_one_device_and_on_four(step, fields):
    """Full batches and the smaller last one, in the first epoch and the second."""
    one, four = (batch(n, step, **fields) for n in (1, 4))
    jax.tree.map(np.testing.assert_array_equal, one, four)


def test_every_step_and_every_phase_erases_elsewhere():
    def erased(step, stream):
        size = {"random_erasing": 1.0, "mean": (-1.0,) * 3, "std": (1.0,) * 3}
        return np.asarray(batch(1, step, stream=stream, **size).image) == 0

    first = erased(0, None)
    assert first.any((1, 2, 3)).all()
    for step, stream in ((1, None), (0, "distill_first")):
        assert (erased(step, stream) != first).any()


@pytest.mark.parametrize("step", [0, 5])
def test_a_mixed_batch_is_a_mixture_of_the_same_on_one_device_and_on_four(step):
    plain = batch(1, step)
    one, four = (batch(n, step, mixup=1.0) for n in (1, 4))
    np.testing.assert_allclose(four.image, one.image, rtol=1e-6, atol=1e-6)
    jax.tree.map(
        np.testing.assert_array_equal, four._replace(image=0), one._replace(image=0)
    )
    np.testing.assert_array_equal(one.label, plain.label)
    np.testing.assert_array_equal(one.index, plain.index)
    assert plain.mixed is None
    # Whichever image of the partner's class fits: one does.
    lam = np.asarray(one.mixed.lam, np.float64)[0]
    for image, own, label in zip(one.image, plain.image, one.mixed.label, strict=True):
        others = np.asarray(plain.image)[plain.label == label]
        mixtures = lam * own[None] + (1 - lam) * others
        away = np.abs(mixtures - image[None]).max((1, 2, 3))
        assert away.min() < 1e-5


def test_every_step_and_every_phase_draws_another_lambda():
    first, second = (batch(1, step, mixup=1.0) for step in (0, 1))
    other = batch(1, 0, mixup=1.0, stream="distill_first")
    lams = {float(found.mixed.lam[0]) for found in (first, second, other)}
    assert len(lams) == 3


@pytest.mark.parametrize("num_devices", [1, 4])
def test_evaluation_counts_every_example_once(num_devices):
    """31 examples in batches of 8: the last is filled up."""
    split = some_images(31)
    network = models.build("wrn_10_1", CLASSES)
    config = data_config()
    mean, std = (np.asarray(v, np.float32) for v in (config.mean, config.std))
    image = (split.image.astype(np.float32) - mean) / std
    (logits, _), variables = network.init_with_output(
        jax.random.key(0), jnp.asarray(image), train=False
    )
    whole = pipeline.eval_batches(split, config, batch_size=8, mesh=mesh(num_devices))
    teacher_prediction = np.zeros(31, np.int32)
    found = Evaluator(
        network,
        whole,
        jax.devices()[:num_devices],
        teacher_prediction=teacher_prediction,
    )(variables)
    prediction = np.argmax(np.asarray(logits), -1)
    log_probability = np.asarray(jax.nn.log_softmax(logits))[np.arange(31), split.label]
    np.testing.assert_array_equal(found.prediction, prediction)
    assert found.metrics == pytest.approx(
        {
            "loss": -float(np.mean(log_probability)),
            "accuracy": np.mean(prediction == split.label),
            "agreement": np.mean(prediction == teacher_prediction),
        },
        rel=1e-5,
    )
