import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import review
from kdjax.distill.method import Outputs
from kdjax.models import Features


def outputs_of(seed, shapes, pooled):
    rng = np.random.default_rng(seed)
    pre = tuple(
        jnp.asarray(rng.normal(size=(4, h, w, c)), jnp.float32) for h, w, c in shapes
    )
    post = tuple(jnp.maximum(x, 0) for x in pre)
    vectors = jnp.asarray(rng.normal(size=(4, pooled)), jnp.float32)
    return Outputs(jnp.zeros((4, 3)), Features(post[0], post, pre, vectors))


#: Sizes of ResNet to ResNet, of MobileNet to VGG and of ShuffleNet to ResNet, halved.
PAIRS = {
    "equal": ([(8, 8, 3), (4, 4, 5)], [(8, 8, 4), (4, 4, 6)]),
    "smaller": ([(4, 4, 3), (2, 2, 5)], [(8, 8, 4), (4, 4, 6)]),
    "larger": ([(6, 6, 3), (6, 6, 5)], [(4, 4, 4), (2, 3, 6)]),
}


@pytest.mark.parametrize("pair", ["smaller", "larger"])
def test_every_pair_is_fused_to_the_teachers_shapes(pair):
    student_shapes, teacher_shapes = PAIRS[pair]
    student, teacher = (
        outputs_of(0, student_shapes, 7),
        outputs_of(1, teacher_shapes, 9),
    )
    method = review.Review()
    variables = jax.jit(method.init)(jax.random.key(0), student, teacher)

    @jax.jit
    def run(params, student):
        def total(params, student):
            terms, stats = method.loss(
                variables | {"params": params}, {}, student, teacher, None
            )
            return sum(map(jnp.mean, terms.values())), (terms, stats)

        return jax.grad(total, argnums=(0, 1), has_aux=True)(params, student)

    (learned, own), (terms, stats) = run(variables["params"], student)
    assert terms.keys() == {"stage_1", "stage_2", "pooled"}
    assert all(term.shape == (4,) for term in terms.values())
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    # All levels are fused at the width of the pooled features.
    assert learned["level1_in_conv"]["kernel"].shape == (1, 1, 3, 7)
    assert learned["level1_out_conv"]["kernel"].shape == (3, 3, 7, teacher_shapes[0][2])
    assert "level3_gate" not in learned
    for path, leaf in jax.tree_util.tree_leaves_with_path(learned):
        assert np.any(leaf != 0), path
    # What is above reaches what is below.
    assert np.any(own.features.pooled != 0)
    assert all(np.any(x != 0) for x in own.features.block)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), student)
    _, (terms, _) = jax.eval_shape(run, variables["params"], half)
    assert all(term.dtype == jnp.float32 for term in terms.values())


def test_gate_mixes_both_branches():
    """By hand: two levels of one pixel, without batch statistics to speak of."""
    student, teacher = outputs_of(0, [(1, 1, 3)], 2), outputs_of(1, [(1, 1, 4)], 5)
    method = review.Review(teacher_position="post")
    variables = jax.jit(method.init)(jax.random.key(0), student, teacher)
    terms, _ = jax.jit(method.loss)(variables, {}, student, teacher, None)
    params = jax.tree.map(np.asarray, variables["params"])

    def layer(x, name):
        # Padding is all that the other taps of a 3x3 kernel see.
        kernel = params[f"{name}_conv"]["kernel"]
        x = x @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
        return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)

    above = layer(np.asarray(student.features.pooled), "level2_in")
    x = layer(np.asarray(student.features.post[0])[:, 0, 0], "level1_in")
    gate = params["level1_gate"]
    both = np.concatenate([x, above], 1) @ gate["kernel"][0, 0] + gate["bias"]
    gate = 1 / (1 + np.exp(-both))
    fused = layer(x * gate[:, :1] + above * gate[:, 1:], "level1_out")
    target = np.asarray(teacher.features.post[0])[:, 0, 0]
    np.testing.assert_allclose(
        terms["stage_1"], np.square(fused - target).mean(1), rtol=1e-3
    )


def test_rejects_invalid_settings():
    with pytest.raises(ValueError, match=r"methods\.review\.teacher_position='x'"):
        review.Review(teacher_position="x")
    student, teacher = (outputs_of(0, PAIRS["equal"][0][:n], 7) for n in (1, 2))
    with pytest.raises(ValueError, match="review needs as many stages"):
        review.Review().init(jax.random.key(0), student, teacher)
