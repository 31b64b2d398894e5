"""`linear_scan_project` with time split over devices.

The functions that make and read the states see all rows and channels: these are left to the compiler, and only time is
taken apart.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxseq.ops.algebra import over_time
from jaxseq.ops.checks import accumulation_dtype
from jaxseq.ops.placement import check_divides, splits
from jaxseq.ops.project import linear_scan_project as project
from jaxseq.ops.sharded.reals import in_complex, in_reals
from jaxseq.ops.sharded.relay import each, relay


def linear_scan_project(coefficients, readout, xs, h0, *, params=(), reset=None, mask=None, axis="seq", **options):
    """`ops.linear_scan_project`, see `sharded`. What the functions need is in `params`: they close over no arrays."""
    leaves = jax.tree.leaves(xs)
    if not leaves or not splits(axis, leaves[0].shape[1]):
        return project(coefficients, readout, xs, h0, params=params, reset=reset, mask=mask, **options)
    check_divides((axis,), leaves[0].shape[1])
    a, b = jax.eval_shape(coefficients, jax.tree.map(lambda x: x[:, :1], xs), *params)
    timed = {name: x for name, x in (("xs", xs), ("reset", reset), ("mask", mask)) if x is not None}
    function = partial(relay, *_parts(coefficients, readout, options), axis=axis, exchange=each)
    over, whole = PartitionSpec(None, axis), PartitionSpec()
    return jax.shard_map(
        lambda timed, params, h0: function((timed, in_complex(params)), h0),
        in_specs=(over, whole, whole),
        out_specs=(over, whole),
        axis_names={axis},
        check_vma=False,
    )(timed, in_reals(params), h0.astype(accumulation_dtype(h0, a, b)))


def _parts(coefficients, readout, options):
    """What `relay` needs: the op, what a part of time does to a state, and doing it."""

    def op(inputs, h0):
        timed, params = inputs
        return project(coefficients, readout, **timed, h0=h0, params=params, **options)

    def summary(inputs, h0):
        """The state that a part leaves of ones but for its inputs, and that of zeros, both in one pass."""
        timed, params = inputs

        def both(x, *params):
            a, b = coefficients(x, *params)
            return a[:, :, None], jnp.stack([jnp.zeros_like(b), b], axis=2)

        start = jnp.stack([jnp.ones_like(h0), jnp.zeros_like(h0)], axis=1)
        _, left = project(both, lambda *_: (), **timed, h0=start, params=params, **options)
        reset = timed.get("reset")
        cut = jnp.zeros(h0.shape[0], bool) if reset is None else jnp.any(reset, axis=1)
        return left[:, 0], left[:, 1], cut

    def combine(part, h):
        kept, new, cut = part
        return new + jnp.where(over_time(cut, h), 0, kept * h)

    return op, summary, combine
