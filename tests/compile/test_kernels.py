"""Programs as XLA prints them, and what is counted of them."""

import jax
import jax.numpy as jnp
import pytest

from kdjax.compile import hlo, kernels

#: A gather from a large array, a loop of three rounds, one whose end depends on data, a
#: choice, a convolution of cuDNN and a sum over devices.
PROGRAM = """
HloModule jit_step, is_scheduled=true

%taken (data: u8[1000,64], index: s32[8,1]) -> u8[8,64] {
  %data = u8[1000,64]{1,0} parameter(0)
  %index = s32[8,1]{1,0} parameter(1)
  ROOT %gather = u8[8,64]{1,0} gather(%data, %index), offset_dims={1}
}

%body (b: (s32[], f32[16])) -> (s32[], f32[16]) {
  %b = (s32[], /*index=1*/f32[16]{0}) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %x = f32[16]{0} get-tuple-element(%b), index=1
  %dot = f32[16]{0} dot(%x, %x), lhs_contracting_dims={0}
  %copied = f32[16]{0} copy(%dot)
  ROOT %out = (s32[], f32[16]{0}) tuple(%i, %copied)
}

%less (c: (s32[], f32[16])) -> pred[] {
  %c = (s32[], f32[16]{0}) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  ROOT %compared = pred[] compare(%j, %j), direction=LT
}

%none (n: f32[16]) -> f32[16] {
  ROOT %n = f32[16]{0} parameter(0)
}

%one (m: f32[16]) -> f32[16] {
  %m = f32[16]{0} parameter(0)
  ROOT %negated = f32[16]{0} negate(%m)
}

ENTRY %main (p0: u8[1000,64], p1: s32[8,1], p2: f32[16]) -> f32[16] {
  %p0 = u8[1000,64]{1,0:T(8,128)(4,1)} parameter(0)
  %p1 = s32[8,1]{1,0} parameter(1)
  %p2 = f32[16]{0} parameter(2)
  %fused = u8[8,64]{1,0} fusion(%p0, %p1), kind=kLoop, calls=%taken
  %conv = (f32[4]{0}, u8[0]{0}) custom-call(%p2), \
custom_call_target="__cudnn$convForward"
  %t = (s32[], f32[16]{0}) tuple(%p1, %p2)
  %thrice = (s32[], f32[16]{0}) while(%t), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %until = (s32[], f32[16]{0}) while(%thrice), condition=%less, body=%body
  %y = f32[16]{0} get-tuple-element(%until), index=1
  %chosen = f32[16]{0} conditional(%p1, %y, %y), branch_computations={%none, %one}
  %sum-start = f32[16]{0} all-reduce-start(%chosen), to_apply=%one
  ROOT %sum = f32[16]{0} all-reduce-done(%sum-start)
}
"""


def test_what_is_counted_of_a_program():
    work = kernels.count(hlo.parse(PROGRAM))
    rounds = 3 + kernels.ASSUMED_ROUNDS
    assert work.kernels == {
        "fusion": 1,
        "convolution": 1,
        "matrix product": rounds,
        "copy": rounds,
        # The comparison of the loop that depends on data, and the longer branch.
        "other": kernels.ASSUMED_ROUNDS + 1,
        "collective": 1,
    }
    assert work.data_dependent_loops == 1
    assert work.collective_bytes == 64
    # Of the large array eight rows are read.
    gather = 8 * 64 + 8 * 64 + 8 * 4
    convolution = 16 + 64
    in_body = 3 * 64 + 2 * 64
    compared = 4 + 4 + 1
    others = kernels.ASSUMED_ROUNDS * compared + 2 * 64 + 2 * 64
    assert work.traffic == gather + convolution + rounds * in_body + others


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("bf16[2,3]{1,0}", 12),
        ("pred[5]{0:T(256)}", 5),
        ("s4[4]{0}", 2),
        ("(s32[], /*index=1*/f32[16]{0}, token[])", 68),
        ("f8e4m3fn[8]", 8),
    ],
)
def test_sizes_of_types(shape, size):
    assert hlo.num_bytes(shape) == size


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("HloModule nothing")


def test_loops_that_xla_compiles_are_told_apart():
    def scan(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) @ c, None), x, length=9)[0]

    def search(x):
        return jax.lax.while_loop(lambda c: c.sum() < 100, lambda c: c @ c + 1, x)

    x = jnp.ones((8, 8))
    scanned, searched = (
        kernels.count(hlo.parse(jax.jit(f).lower(x).compile().as_text()))
        for f in (scan, search)
    )
    assert scanned.data_dependent_loops == 0
    assert searched.data_dependent_loops == 1
    assert sum(scanned.kernels.values()) >= 9
