import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import distill, models, objective
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.method import Inputs, Outputs
from kdjax.distill.mutual_learning import MutualLearning

CLASSES = 10
IMAGE = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
LABEL = jnp.asarray([3, 1, 4, 1])


@pytest.fixture(scope="module")
def peer():
    """Returns a peer and its variables."""
    outputs = Outputs(jax.ShapeDtypeStruct((1, CLASSES), jnp.float32), None)
    method = MutualLearning(peer="resnet8")
    variables = jax.jit(lambda key: method.init(key, outputs, None))(jax.random.key(1))
    return models.build("resnet8", CLASSES), variables


def student_logits():
    return jax.random.normal(jax.random.key(2), (4, CLASSES))


def terms_of(method, variables, logits):
    inputs = Inputs(IMAGE, LABEL, None, None)
    return method.loss(variables, {}, Outputs(logits, None), None, inputs)


def answer(network, params, stats):
    """Returns logits and new running statistics in training mode."""
    variables = {"params": params, "batch_stats": stats}
    (logits, _), updates = network.apply(
        variables, IMAGE, train=True, mutable=["batch_stats"]
    )
    return logits, updates["batch_stats"]


def divergence(p, q):
    """KL(softmax(p) || softmax(q)), averaged over the batch."""
    log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1))


def task(logits):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, LABEL))


@pytest.mark.parametrize("distance", ["from_other", "symmetric"])
def test_each_network_gets_gradients_of_its_own_terms_only(peer, distance):
    """Gradients of the whole objective against losses written out for each network.

    With a weight of 3, the peer's cross-entropy still counts once.
    """
    network, variables = peer
    student = models.build("wrn_10_1", CLASSES)
    start = jax.jit(lambda key: student.init(key, IMAGE, train=False))(
        jax.random.key(3)
    )
    methods = distill.build(
        {"mutual_learning": {"peer": "resnet8", "weight": 3.0, "distance": distance}}
    )
    student_objective = objective.student_objective(
        student, None, methods, teacher_train=False
    )
    gradients = jax.jit(student_objective)(
        {
            "student": start["params"],
            "methods": {"mutual_learning": variables["params"]},
        },
        {
            "student": start["batch_stats"],
            "methods": {"mutual_learning": variables["batch_stats"]},
        },
        objective.Frozen(precomputed={"mutual_learning": {}}),
        Batch(IMAGE, LABEL, jnp.ones(4), jnp.arange(4)),
        jax.random.key(0),
        jnp.int32(0),
    )

    def by_hand(own, other):
        logits, _ = answer(*own)
        fixed, _ = jax.lax.stop_gradient(answer(*other))
        mutual = divergence(fixed, logits)
        if distance == "symmetric":
            mutual = (mutual + divergence(logits, fixed)) / 2
        return task(logits) + 3 * mutual

    sides = {
        "student": (student, start["params"], start["batch_stats"]),
        "peer": (network, variables["params"], variables["batch_stats"]),
    }
    found = {
        "student": gradients.summed["student"],
        "peer": gradients.summed["methods"]["mutual_learning"],
    }
    for side, other in (("student", "peer"), ("peer", "student")):
        net, params, stats = sides[side]
        expected = jax.jit(
            jax.grad(
                lambda p, net=net, stats=stats, other=other: by_hand(
                    (net, p, stats), sides[other]
                )
            )
        )(params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            found[side],
            expected,
        )
    logits, stats = answer(network, variables["params"], variables["batch_stats"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        gradients.batch_stats["methods"]["mutual_learning"],
        stats,
    )
    np.testing.assert_allclose(
        jnp.mean(gradients.values["mutual_learning/peer_cross_entropy"]),
        task(logits) / 3,
        rtol=1e-5,
    )


def test_zero_for_equal_networks(peer):
    network, variables = peer
    logits, _ = answer(network, variables["params"], variables["batch_stats"])
    terms, _ = terms_of(MutualLearning(peer="resnet8"), variables, logits)
    for name in ("mutual", "mutual_peer"):
        np.testing.assert_allclose(terms[name], 0, atol=1e-6)


@pytest.mark.parametrize("distance", ["from_other", "symmetric"])
@pytest.mark.parametrize(
    ("scale", "dtype"), [(1, "bfloat16"), (1e3, "float32"), (1e30, "float32")]
)
def test_terms_are_float32_and_finite(peer, scale, dtype, distance):
    _, variables = peer
    method = MutualLearning(peer="resnet8", distance=distance)

    def total(logits):
        terms, _ = terms_of(method, variables, logits)
        return sum(jnp.mean(term) for term in terms.values()), terms

    logits = scale * student_logits().astype(dtype)
    gradient, terms = jax.grad(total, has_aux=True)(logits)
    for term in terms.values():
        assert (term.shape, term.dtype) == ((4,), jnp.float32)
        assert np.isfinite(term).all()
    assert np.isfinite(gradient.astype(jnp.float32)).all()


def test_peer_without_batch_norm():
    """Shapes alone: mhgd_vgg7 is large."""
    method = MutualLearning(peer="mhgd_vgg7")
    outputs = Outputs(jnp.zeros((4, CLASSES)), None)
    inputs = Inputs(jnp.zeros((4, 32, 32, 3)), LABEL, None, None)

    def both(key):
        variables = method.init(key, outputs, None)
        return method.loss(variables, {}, outputs, None, inputs)

    terms, stats = jax.eval_shape(both, jax.random.key(0))
    assert terms.keys() == {"mutual", "mutual_peer", "peer_cross_entropy"}
    assert stats == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"methods\.mutual_learning\.peer='' but mutual learning needs a second"),
        ({"peer": "resnt8"}, r"methods\.mutual_learning\.peer: no network is called"),
        ({"distance": "l2"}, r"methods\.mutual_learning\.distance='l2' is none of"),
        ({"weight": 0.0}, r"methods\.mutual_learning\.weight=0\.0 is not above 0"),
        ({"warm_up": 5}, r"methods\.mutual_learning\.warm_up=5 is not 0"),
    ],
)
def test_rejects_invalid_settings(given, message):
    if "peer" not in given and given:
        given = {"peer": "resnet8", **given}
    with pytest.raises(ValueError, match=message):
        MutualLearning(**given)


def test_no_teacher_is_needed():
    assert not MutualLearning.needs_teacher
    assert distill.hyperparameters("mutual_learning", peer="resnet8") == {
        "weight": 1.0,
        "warm_up": 0,
        "gradient_combination": "sum",
        "peer": "resnet8",
        "distance": "from_other",
    }
