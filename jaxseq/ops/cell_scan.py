"""h_t = step(params, h_{t-1}, u_t) for a cell whose channels do not mix, in one fused pass.

On TPU and GPU a kernel traces the step itself, so that a new cell needs no kernel code: u is read once and h written
once. The backward pass is one reversed linear recurrence with the step's own Jacobian, computed again from u and h:

    λ_t = g_t + (∂h_{t+1}/∂h_t)ᵀ λ_{t+1},    du_t = (∂h_t/∂u_t)ᵀ λ_t,    dparams = Σ_t (∂h_t/∂params)ᵀ λ_t
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.ops.algebra import over_time, previous
from jaxseq.ops.block_scan import block_scan
from jaxseq.ops.channelwise import Arrays, Program, make_program
from jaxseq.ops.checks import accumulation_dtype, check_bool, check_real, check_shapes
from jaxseq.ops.choice import dispatch
from jaxseq.ops.fused import KERNELS, Kernel
from jaxseq.ops.linear_scan import linear_scan
from jaxseq.ops.march import march


def cell_scan(
    step: Callable[[Any, Any, Any], Any],
    params: Any,
    u: Any,
    h0: Any = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    reverse: bool = False,
    method: str = "auto",
) -> Any:
    """All states of a nonlinear recurrence whose channels do not mix.

    Args:
      step: (params, h, u) -> h on arrays (D,), elementwise but for what depends on the parameters alone; it is traced
        once, differentiated and fused as it is.
      params: a tree of arrays, of any shapes; gradients reach them, and whatever else the step closes over.
      u: a tree of inputs (B, T, D), one array per gate.
      h0: the state before the first step, a tree of (B, D), one array per state of a channel; a single array of zeros
        if None.
      reset: (B, T) bool, True where the state before the step is zero.
      mask: (B, T) bool, False where the step leaves the state as it is.
      reverse: run from the last step to the first; h0 is then the state after the last step.
      method: "sequential" (an in-place loop of XLA), "kernel" (one fused pass; float32), or "auto", see `explain`.

    Returns:
      The states, a tree like h0 of (B, T, D) in u's dtype; they are carried in float32 or wider.

    Raises:
      ValueError: wrong ranks, shapes or dtypes, a step that mixes channels, an unknown method, a kernel asked for
        where there is none.
    """
    leaves = jax.tree.leaves(u)
    check(leaves, reset, mask)
    dtype = accumulation_dtype(*leaves, *jax.tree.leaves(h0))
    h0 = jnp.zeros_like(leaves[0][:, 0], dtype) if h0 is None else jax.tree.map(lambda x: x.astype(dtype), h0)
    check_state(h0, leaves[0])
    program, tables = make_program(step, params, h0, u, dtype)
    flip = lambda tree: jax.tree.map(lambda x: jnp.flip(x, 1), tree) if reverse else tree  # noqa: E731
    h = _scan(program, method, tables, flip(leaves), jax.tree.leaves(h0), flip(reset), flip(mask))
    h = [x.astype(jnp.result_type(*leaves)) for x in flip(h)]
    return jax.tree.unflatten(jax.tree.structure(h0), h)


def check(u: Arrays, reset: jax.Array | None, mask: jax.Array | None) -> None:
    if not u:
        raise ValueError("u must have at least one array (B, T, D), got none")
    check_real(**{f"u[{i}]": x for i, x in enumerate(u)})
    check_bool(reset=reset, mask=mask)
    check_shapes(**{f"u[{i}]": (x, "B T D") for i, x in enumerate(u)}, reset=(reset, "B T"), mask=(mask, "B T"))
    if u[0].shape[1] < 1:
        raise ValueError(f"u must have at least one time step, got shape {u[0].shape}")


def check_state(h0: Any, u: jax.Array) -> None:
    for x in jax.tree.leaves(h0):
        check_real(h0=x)
        if x.shape != (u.shape[0], u.shape[2]):
            raise ValueError(f"h0 must have shape {(u.shape[0], u.shape[2])} (u without time), got {x.shape}")


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(program, method, tables, u, h0, reset, mask):
    methods = {
        "sequential": partial(sequential, program),
        **{name: partial(kernel.forward, program) for name, kernel in _kernels(method, h0).items()},
    }
    return dispatch("cell_scan", method, methods, u[0].shape, differentiated=False)(tables, u, h0, reset, mask)


def _scan_forward(program, method, tables, u, h0, reset, mask):
    h = _scan(program, method, tables, u, h0, reset, mask)
    return h, (tables, u, h0, reset, mask, h)


def scan_backward(program, method, saved, g):
    *args, h = saved
    methods = {
        "sequential": partial(_adjoint, program),
        **{name: partial(kernel.backward, program) for name, kernel in _kernels(method, h).items()},
    }
    dtables, du, dh0 = dispatch("cell_scan", method, methods, h[0].shape, differentiated=False)(*args, h, g)
    return dtables, du, dh0, None, None


_scan.defvjp(_scan_forward, scan_backward)


def _kernels(method: str, h: Arrays) -> dict[str, Kernel]:
    """The kernels, if they take these states. Raises ValueError if `method` names one and they do not."""
    if all(x.dtype == jnp.float32 for x in h):
        return KERNELS
    if method == "kernel" or method in KERNELS:
        raise ValueError(f"method {method!r} of cell_scan needs float32, got {h[0].dtype}")
    return {}


def sequential(program: Program, tables, u, h0, reset, mask):
    """One step after another, in place."""
    tables = [jnp.broadcast_to(x, h0[0].shape) for x in tables]

    def step(h, u):
        return program.forward(tables, h, [x.astype(h[0].dtype) for x in u])

    return march(step, list(u), list(h0), reset, mask)


def _adjoint(program: Program, tables, u, h0, reset, mask, h, g):
    """All Jacobians at once, one reversed linear scan, and one vector-Jacobian product over all steps."""
    before = [previous(x, x0, reset) for x, x0 in zip(h, h0, strict=True)]
    wide = [jnp.broadcast_to(x, h[0].shape) for x in tables]
    inputs = [x.astype(h[0].dtype) for x in u]
    ones, zeros = jnp.ones_like(h[0]), jnp.zeros_like(h[0])
    units = [[ones if i == j else zeros for j in range(len(h))] for i in range(len(h))]
    rows = [program.backward(wide, before, inputs, unit)[1] for unit in units]  # rows[i][j] = dh_i / dh_j
    jac = [[_cut(x, i == j, reset, mask) for j, x in enumerate(row)] for i, row in enumerate(rows)]
    lam = _reversed(jac, g)
    kept = lam if mask is None else [jnp.where(over_time(mask, x), x, 0) for x in lam]
    dtables, _, du = program.backward(wide, before, inputs, kept)
    dh0 = [sum(row[j][:, 0] * x[:, 0] for row, x in zip(jac, lam, strict=True)) for j in range(len(h))]
    du = [x.astype(y.dtype) for x, y in zip(du, u, strict=True)]
    return [jnp.sum(x, axis=(0, 1)) for x in dtables], du, dh0


def _cut(x: jax.Array, diagonal: bool, reset: jax.Array | None, mask: jax.Array | None) -> jax.Array:
    """An entry of the Jacobian with padding (the identity) and document starts (zero) put in."""
    x = x if mask is None else jnp.where(over_time(mask, x), x, 1 if diagonal else 0)
    return x if reset is None else jnp.where(over_time(reset, x), 0, x)


def _reversed(jac: Sequence[Arrays], g: Arrays) -> Arrays:
    """λ_t = g_t + J_{t+1}ᵀ λ_{t+1}."""
    later = jax.tree.map(lambda x: jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1), jac)
    if len(g) == 1:
        return [linear_scan(later[0][0], g[0], reverse=True, method="sequential")]
    transposed = jnp.stack([jnp.stack(row, axis=-1) for row in later], axis=-1)
    lam = block_scan(transposed, jnp.stack(g, axis=-1), reverse=True, method="sequential")
    return [lam[..., i] for i in range(len(g))]
