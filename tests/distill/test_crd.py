import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import crd
from kdjax.distill.method import Inputs, Teacher
from tests.distill import relations
from tests.losses import batches, contrast
from tests.losses.feature_maps import reference

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


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1.0), ("float32", 1e12), ("bfloat16", 0.0)]
)
def test_memories_change_and_normalizers_stay(dtype, scale):
    method, precomputed = made(dtype=dtype)
    student, teacher = (
        relations.outputs_of(jnp.asarray(scale * batches.drawn(seed, 3, width), dtype))
        for seed, width in ((0, 5), (1, 7))
    )
    before = method.init(jax.random.key(0), student, teacher)
    inputs = inputs_of([4, 9, 2])
    run = jax.jit(
        lambda state: method.loss(
            before | {"method_state": state}, precomputed, student, teacher, inputs
        )
    )
    terms, state = run(before["method_state"])
    _, again = run(state)
    for side, term in terms.items():
        assert term.shape == (3,)
        assert term.dtype == jnp.float32
        assert np.all(np.isfinite(term))
        known = state[side]["log_normalizer"]
        assert np.isfinite(known)
        assert again[side]["log_normalizer"] == known
        changed = np.any(
            state[side]["memory"] != before["method_state"][side]["memory"], axis=1
        )
        np.testing.assert_array_equal(np.flatnonzero(changed), [2, 4, 9])
    shapes = [jax.tree.map(jnp.shape, x) for x in (state, before["method_state"])]
    assert shapes[0] == shapes[1]


def test_of_a_repeated_image_the_last_embedding_is_remembered():
    """And the other rows are those of a batch without repeats."""
    method, _ = made()
    memory = jnp.asarray(batches.drawn(0, 12, 4), jnp.float32)
    embedding = jnp.asarray(batches.drawn(1, 4, 4), jnp.float32)
    found = method._updated(memory, embedding, jnp.array([7, 3, 7, 5]))
    expected = method._updated(memory, embedding[1:], jnp.array([3, 7, 5]))
    np.testing.assert_array_equal(found, expected)
    # On the CPU, rows are written in order; elsewhere in any.
    last = crd.last_of_each(jnp.array([7, 3, 7, 5, 3, 7]))
    np.testing.assert_array_equal(last, [5, 4, 5, 3, 4, 5])


def test_memory_update_matches_repdistiller():
    """The first loss, the normalizers, and the loss after the memories' update."""
    expected = reference("CRD/n50_k16_dim32")
    method = crd.Crd(num_examples=50, temperature=contrast.TEMPERATURE)

    @jax.jit
    def run(state, student, teacher):
        embedded = contrast.embedded(student, teacher)
        terms, state = method.contrast(state, embedded, contrast.INDEX)
        return sum(map(jnp.mean, terms.values())), state

    with jax.enable_x64(True):
        state = {
            side: {
                "memory": jnp.asarray(memory),
                "log_normalizer": jnp.asarray(-jnp.inf),
            }
            for side, memory in contrast.MEMORIES.items()
        }
        pooled = list(map(jnp.asarray, batches.pooled()))
        first, state = run(state, *pooled)
        second, _ = run(state, *pooled)
    np.testing.assert_allclose(first, expected["loss"], rtol=1e-9)
    for side, name in (("student", "Z_v1"), ("teacher", "Z_v2")):
        found = np.exp(state[side]["log_normalizer"])
        np.testing.assert_allclose(found, expected[name], rtol=1e-9)
    np.testing.assert_allclose(
        second, expected["loss_second_call_after_memory_update"], rtol=1e-9
    )


def test_normalizer_is_computed_only_if_unknown():
    method, _ = made()
    state = {
        side: {"memory": jnp.ones((12, 4)), "log_normalizer": jnp.zeros(())}
        for side in ("student", "teacher")
    }
    embedded = {side: jnp.ones((2, 4)) for side in state}
    traced = jax.make_jaxpr(method.contrast)(state, embedded, np.zeros((2, 3), int))
    names = [equation.primitive.name for equation in traced.eqns]
    assert names.count("cond") == 2
    # That of the loss alone, one a side; the normalizer has another.
    assert names.count("dot_general") == 2


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
