import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import contrast, crd, transforms
from kdjax.distill.method import Inputs, Teacher
from tests.distill import peers, relations


def test_matches_repdistiller():
    """Loss, gradient, both precomputed, and the loss after the memories' update."""
    expected = peers.reference("CRD/n50_k16_dim32")
    method = crd.Crd(num_examples=50, width=32, negatives=16, dtype="float64")
    with jax.enable_x64(True):
        drawn = relations.drawn
        params = {
            side: {
                "kernel": jnp.asarray(drawn(seed, 32, width).T),
                "bias": jnp.asarray(drawn(seed + 1, 32)),
            }
            for side, seed, width in (("student", 70, 64), ("teacher", 72, 128))
        }
        bound = 1 / np.sqrt(32 / 3)
        stats = {
            side: {
                "memory": jnp.asarray(
                    np.random.RandomState(seed).uniform(-bound, bound, (50, 32))
                ),
                "log_normalizer": jnp.asarray(-jnp.inf),
            }
            for side, seed in (("student", 74), ("teacher", 75))
        }
        place = np.concatenate(
            [np.arange(8)[:, None], np.random.RandomState(76).randint(8, 50, (8, 16))],
            axis=1,
        )

        def loss(student, stats):
            embedded = method.embedded(params, student, jnp.asarray(drawn(41, 8, 128)))
            terms, stats = method.nce(stats, embedded, place)
            return sum(map(jnp.mean, terms.values())), stats

        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        student = jnp.asarray(drawn(40, 8, 64))
        (first, stats), gradient = run(student, stats)
        (second, _), _ = run(student, stats)
    np.testing.assert_allclose(first, expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(gradient), expected["grad_norm"][0], rtol=1e-6
    )
    # The reference keeps its precomputed in float32.
    for side, name in (("student", "Z_v1"), ("teacher", "Z_v2")):
        found = np.exp(stats[side]["log_normalizer"])
        np.testing.assert_allclose(found, expected[name], rtol=1e-6)
    np.testing.assert_allclose(
        second, expected["loss_second_call_after_memory_update"], rtol=1e-6
    )


LABEL = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 0, 0, 1])
TEACHER = Teacher("a", {}, lambda: iter([]), lambda: LABEL)


def made(negatives=6, **settings):
    method = crd.Crd(
        num_examples=len(LABEL),
        num_classes=4,
        width=4,
        negatives=negatives,
        **settings,
    )
    return method, method.precompute(TEACHER)


def inputs_of(index, key=0):
    index = np.asarray(index, np.int32)
    return Inputs(None, LABEL[index], index, jax.random.key(key))


def test_negatives_are_uniform_over_other_classes():
    method, precomputed = made(12)
    everyone = np.arange(12)
    found = [
        method._negatives(precomputed, inputs_of(everyone, key)) for key in range(20)
    ]
    found = np.concatenate(found, axis=1)
    for index, places in zip(everyone, found, strict=True):
        others = np.flatnonzero(LABEL[index] != LABEL)
        counts = np.bincount(places, minlength=12)
        np.testing.assert_array_equal(np.flatnonzero(counts), others)
        # Uniform: 240 drawn from 7 or 8.
        assert np.max(counts) < 60
    # Anew for each step and image.
    assert np.any(found[1, :12] != found[1, 12:24])
    assert np.any(found[1, :12] != found[4, :12])


def test_small_split_has_fewer_negatives():
    method, precomputed = made(16384)
    found = method._negatives(precomputed, inputs_of([0, 1]))
    assert found.shape == (2, 12)


def test_four_devices_match_one():
    """Terms, gradients, and memories and normalizers to the last bit on each."""
    method, precomputed = made(dtype="float64")
    _, _, (learned, stats) = relations.assert_four_devices_match_one(
        method, precomputed
    )
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(learned))
    for side in ("student", "teacher"):
        lengths = np.linalg.norm(stats[side]["memory"][:8], axis=1)
        np.testing.assert_allclose(lengths, np.ones(8))
        assert np.isfinite(stats[side]["log_normalizer"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e12])
def test_memories_change_and_normalizers_stay(dtype, scale):
    method, precomputed = made(dtype=dtype)
    student, teacher = (
        relations.outputs_of(
            jnp.asarray(scale * relations.drawn(seed, 3, width), dtype)
        )
        for seed, width in ((0, 5), (1, 7))
    )
    before = method.init(jax.random.key(0), student, teacher)
    inputs = inputs_of([4, 9, 2])
    run = jax.jit(
        lambda stats: method.loss(
            before | {"batch_stats": stats}, precomputed, student, teacher, inputs
        )
    )
    terms, stats = run(before["batch_stats"])
    _, again = run(stats)
    for side, term in terms.items():
        assert term.shape == (3,)
        assert term.dtype == jnp.float32
        assert np.all(np.isfinite(term))
        known = stats[side]["log_normalizer"]
        assert np.isfinite(known)
        assert again[side]["log_normalizer"] == known
        moved = np.any(
            stats[side]["memory"] != before["batch_stats"][side]["memory"], axis=1
        )
        np.testing.assert_array_equal(np.flatnonzero(moved), [2, 4, 9])
    shapes = [jax.tree.map(jnp.shape, x) for x in (stats, before["batch_stats"])]
    assert shapes[0] == shapes[1]


def test_large_scores_do_not_overflow():
    """Where exp(score) is beyond float32."""
    score = jnp.asarray([[200.0, -200.0, 3.0, 0.0], [200.0, -200.0, 0.0, 0.0]])
    place = np.array([[0, 1, 2, 2], [1, 0, 2, 3]])

    def loss(score):
        return contrast.loss(score, place, log_normalizer=jnp.zeros(()))

    # Three negatives of four images: of the first row the two equal ones cost.
    expected = -2 * np.log(0.75 / (0.75 + np.exp(3)))
    np.testing.assert_allclose(loss(score)[0], expected, rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(loss(x)))(score)
    assert np.all(np.isfinite(loss(score)))
    assert np.all(np.isfinite(gradient))


def test_low_temperatures_do_not_overflow():
    """Where the normalizer itself is beyond float64."""
    method, _ = made(temperature=1e-3)
    place = np.array([[4, 0, 0, 2], [9, 3, 11, 4], [2, 2, 7, 8]])
    embedded, memories = (
        {
            side: transforms.unit(relations.drawn(seed + i, size, 4, dtype="float32"))
            for i, side in enumerate(("student", "teacher"))
        }
        for seed, size in ((0, 3), (2, 12))
    )
    stats = {
        side: {"memory": memory, "log_normalizer": jnp.asarray(-jnp.inf)}
        for side, memory in memories.items()
    }

    def loss(embedded):
        terms, new = method.nce(stats, embedded, place)
        return sum(map(jnp.mean, terms.values())), new

    (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(embedded)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in gradients.values())
    for side, other in (("student", "teacher"), ("teacher", "student")):
        products = np.float64(embedded[side]) @ np.float64(memories[other]).T
        score = np.take_along_axis(products, place, axis=1) / method.temperature
        expected = np.logaddexp.reduce(score.ravel()) + np.log(12 / place.size)
        assert expected > np.log(np.finfo(np.float64).max)
        np.testing.assert_allclose(new[side]["log_normalizer"], expected, rtol=1e-5)


def test_rejects_invalid_settings():
    for settings, message in (
        ({"negatives": 0}, r"methods\.crd\.negatives=0 is less than 1"),
        ({"temperature": 0.0}, r"temperature=0\.0 is not above 0"),
        ({"momentum": 1.0}, r"momentum=1\.0 is not in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            crd.Crd(**settings)
    with pytest.raises(ValueError, match="needs the classes of the training images"):
        crd.Crd().precompute(TEACHER._replace(label=None))
    with pytest.raises(ValueError, match="all training images are of class 2"):
        crd.Crd().precompute(TEACHER._replace(label=lambda: np.full(3, 2)))
    outputs = relations.outputs_of(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="needs the number of training images"):
        crd.Crd().init(jax.random.key(0), outputs, outputs)
