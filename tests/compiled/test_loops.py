"""What a program with loops, branches and fusions does, on text of which the answer is plain."""

import pytest

from jaxseq.compiled.exchanges import by_kind, exchanges
from jaxseq.compiled.loops import Run, read, runs
from jaxseq.compiled.matmuls import matmul_flops
from jaxseq.compiled.traffic import hbm_bytes

TEXT = """HloModule jit_f

%product (p: bf16[4,8], q: bf16[8,16]) -> f32[4,16] {
  %p = bf16[4,8]{1,0} parameter(0)
  %q = bf16[8,16]{1,0} parameter(1)
  %g = bf16[8,16]{1,0} all-gather(%q), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %y = f32[4,16]{1,0} convolution(%p, %g), dim_labels=bf_io->bf
}

%beside (p: f32[4], q: bf16[8,16]) -> f32[4] {
  %q.1 = bf16[8,16]{1,0} parameter(1)
  %g.1 = bf16[8,16]{1,0} all-gather(%q.1), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %p.1 = f32[4]{0} parameter(0)
}

%all-reduce-scatter (i: f32[8,4]) -> f32[2,4] {
  %i = f32[8,4]{1,0} parameter(0)
  %r = f32[8,4]{1,0} all-reduce(%i), channel_id=9, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %s = f32[2,4]{1,0} dynamic-slice(%r, %zero), dynamic_slice_sizes={2,4}
}

%layer (l: f32[6,4], i: s32[]) -> f32[4] {
  %l = f32[6,4]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %d = f32[4]{0} dynamic-slice(%l, %n), dynamic_slice_sizes={1,4}
}

%body (t: (s32[], f32[6,4])) -> (s32[], f32[6,4]) {
  %t = (s32[], f32[6,4]{1,0}) parameter(0)
  %a = f32[6,4]{1,0} get-tuple-element(%t), index=1
  %x = s32[] get-tuple-element(%t), index=0
  %one = f32[4]{0} fusion(%a, %x), kind=kLoop, calls=%layer
  %w1 = f32[4,16]{1,0} fusion(%e, %f), kind=kOutput, calls=%product
  %w2 = f32[4]{0} fusion(%one, %f), kind=kLoop, calls=%beside
  %c = f32[4]{0} conditional(%x, %one, %one), branch_computations={%rescue, %done}
  %u = (s32[]) while(%c), condition=%open, body=%iteration
  ROOT %out = (s32[], f32[6,4]{1,0}) tuple(%x, %a)
}

%rescue (t: f32[4]) -> f32[4] {
  %r0 = f32[4]{0} parameter(0)
  %r1 = f32[4]{0} negate(%r0)
  ROOT %r2 = f32[4]{0} negate(%r1)
}

%done (t: f32[4]) -> f32[4] {
  ROOT %d0 = f32[4]{0} parameter(0)
}

%iteration (t: (s32[])) -> (s32[]) {
  ROOT %i0 = (s32[]) parameter(0)
}

%open (t: (s32[])) -> pred[] {
  %o = (s32[]) parameter(0)
  ROOT %v = pred[] all-reduce(%o), channel_id=3, replica_groups=[2,4]<=[8], to_apply=%or
}

%below (t: (s32[], f32[6,4])) -> pred[] {
  %bound = s32[] constant(6)
  %b = (s32[], f32[6,4]{1,0}) parameter(0)
  %at = s32[] get-tuple-element(%b), index=0
  ROOT %lt = pred[] compare(%at, %bound), direction=LT
}

ENTRY %main (x: f32[8,4]) -> f32[2,4] {
  %x0 = f32[8,4]{1,0} parameter(0)
  %loop = (s32[], f32[6,4]{1,0}) while(%x0), condition=%below, body=%body
  ROOT %sum = f32[2,4]{1,0} fusion(%x0), kind=kCustom, calls=%all-reduce-scatter
}
"""
MODULE = read(TEXT)
RUNS = runs(MODULE, 3)


def test_a_counted_loop_runs_that_often_and_another_as_the_caller_says():
    assert Run("body", 6, 1) in RUNS
    assert Run("iteration", 18, 2) in RUNS


def test_of_the_branches_the_shortest_runs():
    assert {run.computation for run in RUNS} == {"main", "body", "done", "iteration"}


def test_a_collective_that_runs_beside_several_fusions_is_one():
    gathered = [x for x in exchanges(MODULE, RUNS, 8) if x.kind == "all-gather"]
    assert [(x.size, x.group, x.times, x.loops) for x in gathered] == [(256, 4, 6, 1)]


def test_a_sum_of_which_each_chip_keeps_a_part_is_a_reduce_scatter():
    (found,) = [x for x in exchanges(MODULE, RUNS, 8) if x.kind == "reduce-scatter"]
    assert (found.size, found.group, found.sent) == (32, 4, 96)


def test_two_reduce_scatters_of_one_channel_are_two():
    twice = "  %again = f32[2,4]{1,0} fusion(%x0), kind=kCustom, calls=%all-reduce-scatter.2\n  ROOT %sum"
    start, stop = TEXT.index("%all-reduce-scatter (i"), TEXT.index("%layer (l")
    copy = TEXT[start:stop].replace("%all-reduce-scatter", "%all-reduce-scatter.2")
    module = read((TEXT[:start] + copy + TEXT[start:]).replace("  ROOT %sum", twice))
    assert by_kind(exchanges(module, runs(module, 3), 8))["reduce-scatter"]["count"] == 2


def test_collectives_are_summed_by_kind_over_the_turns_of_their_loops():
    kinds = by_kind(exchanges(MODULE, RUNS, 8))
    assert kinds["all-gather"] == {"count": 1, "in_loops": 1, "runs": 6, "bytes": 6 * 256, "payload": 6 * 256}
    assert kinds["reduce-scatter"]["in_loops"] == 0


def test_products_count_in_fusions_and_loops():
    assert matmul_flops(MODULE, RUNS) == 6 * 2 * 4 * 8 * 16


def test_a_window_over_several_products_counts_only_what_lies_on_the_array():
    line = (
        "ENTRY %m (x: f32[]) -> f32[] {\n"
        "  %p = f32[4,8,16]{2,1,0} parameter(0)\n  %q = f32[4,16,32]{2,1,0} parameter(1)\n"
        "  ROOT %y = f32[4,8,32]{2,1,0} convolution-base-dilated(%p, %q), window={size=4 stride=3 lhs_dilate=4}, "
        "dim_labels=0bf_0io->0bf\n}\n"
    )
    module = read(line)
    assert matmul_flops(module, runs(module, 1)) == 4 * 2 * 8 * 16 * 32


SLICED = """HloModule jit_f

%layer (l: f32[6,4], i: s32[]) -> f32[4] {
  %l = f32[6,4]{1,0} parameter(0)
  %n = s32[] parameter(1)
  ROOT %d = f32[4]{0} dynamic-slice(%l, %n), dynamic_slice_sizes={1,4}
}

%put (l: f32[6,4], v: f32[1,4], i: s32[]) -> f32[6,4] {
  %l.1 = f32[6,4]{1,0} parameter(0)
  %v.1 = f32[1,4]{1,0} parameter(1)
  %n.1 = s32[] parameter(2)
  ROOT %d.1 = f32[6,4]{1,0} dynamic-update-slice(%l.1, %v.1, %n.1)
}

ENTRY %main (a: f32[6,4], i: s32[]) -> f32[6,4] {
  %a = f32[6,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %one = f32[4]{0} fusion(%a, %i), kind=kLoop, calls=%layer
  %b = f32[1,4]{1,0:T(8,128)S(1)} bitcast(%one)
  ROOT %new = f32[6,4]{1,0} fusion(%a, %b, %i), kind=kLoop, calls=%put
}
"""


def test_of_slices_and_updates_in_place_only_the_slice_moves():
    read_and_written = (16 + 16) + (4 + 16)  # a slice, and where an update goes; that one lies in VMEM
    assert hbm_bytes(read(SLICED), [Run("main", 1, 0)]) == read_and_written


def test_bytes_count_as_often_as_their_loop_turns():
    once = hbm_bytes(read(SLICED), [Run("main", 1, 0)])
    assert hbm_bytes(read(SLICED), [Run("main", 6, 1)]) == 6 * once


def test_an_instruction_without_what_it_must_say_is_refused():
    with pytest.raises(ValueError, match="kind while must say its body"):
        runs(read("ENTRY %m (x: f32[]) -> f32[] {\n  ROOT %l = (s32[]) while(%x), condition=%below\n}\n"), 1)


def test_a_computation_of_another_thread_is_read():
    other = TEXT.replace(
        "ROOT %d0 = f32[4]{0} parameter(0)\n}", 'ROOT %d0 = f32[4]{0} parameter(0)\n}, execution_thread="sparsecore"'
    )
    assert read(other).computations.keys() == MODULE.computations.keys()
