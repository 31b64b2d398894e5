"""What is read from the text of a compiled program, on text of which the answer is plain."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl  # the only way to write a kernel

from jaxseq.compiled import hlo

TEXT = """
HloModule jit_f
%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%p)
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0:T(8,128)} parameter(0)
  %c = f32[] constant(0)
  %near = f32[4,8]{1,0:T(8,128)S(1)} copy(%x)
  %start = ((f32[4,8]{1,0}), f32[4,2]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:4], [0:2]}
  %done = f32[4,2]{1,0:S(1)} slice-done(%start)
  %b = f32[2,16]{1,0} bitcast(%x)
  ROOT %y = f32[4,8]{1,0} fusion(%near, %x, %x), kind=kLoop, calls=%inner
}
"""


def test_moved_bytes_are_those_of_the_entry_computation_that_lie_in_hbm():
    copied, sliced, fused = 128, 4 * 2 * 4, 128 + 128
    assert hlo.moved_bytes(TEXT, jax.make_jaxpr(lambda x: x)(0.0).jaxpr) == copied + sliced + fused


def test_a_program_with_a_loop_is_not_counted():
    text = TEXT.replace("%b = f32[2,16]{1,0} bitcast(%x)", "%b = f32[2,16]{1,0} while(%x), body=%inner")
    with pytest.raises(ValueError, match="must have no loop"):
        hlo.moved_bytes(text, jax.make_jaxpr(lambda x: x)(0.0).jaxpr)


def test_a_kernel_moves_a_block_each_time_its_index_changes():
    def kernel(x, twice, y):
        y[...] = x[...] + twice[...]

    def f(x):
        there = pl.BlockSpec((8, 128), lambda i, j: (i, 0))  # stays while j runs
        return pl.pallas_call(
            kernel,
            grid=(2, 3),
            in_specs=[there, pl.BlockSpec((8, 128), lambda i, j: (j % 2, 0))],
            out_specs=there,
            out_shape=jax.ShapeDtypeStruct((16, 128), jnp.float32),
        )(x, x)

    text = 'ENTRY %m {\n  %y = f32[16,128]{1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call"\n}'
    jaxpr = jax.make_jaxpr(jax.jit(f))(jnp.zeros((16, 128))).jaxpr
    block = 8 * 128 * 4
    fetches = 2 + 5 + 2  # j % 2 runs 0 1 0, 0 1 0: the two in the middle are one
    assert hlo.moved_bytes("\n" + text, jaxpr) == fetches * block


def test_a_kernel_that_the_source_does_not_have_is_refused():
    text = '\nENTRY %m {\n  %y = f32[16,128]{1,0} custom-call(%a), custom_call_target="tpu_custom_call"\n}'
    with pytest.raises(ValueError, match="must call the kernels"):
        hlo.moved_bytes(text, jax.make_jaxpr(lambda x: x)(0.0).jaxpr)


def test_collectives_are_counted_once_and_by_their_result():
    text = """
  %a = (f32[2,4]{1,0}, f32[8,4]{1,0}) all-gather-start(%x), dimensions={0}
  %b = f32[8,4]{1,0} all-gather-done(%a)
  %c = (f32[3]{0}, f32[5]{0}) all-reduce(%p, %q), to_apply=%add
  %d = f32[3]{0} all-reduce(%p), to_apply=%add
"""
    assert hlo.collectives(text) == {
        "all-gather": {"count": 1, "bytes": 128},
        "all-reduce": {"count": 2, "bytes": 32 + 12},
    }
