"""h_t = step(params, h_{t-1}, u_t) for few channels and many steps: Newton's method on windows, in one fused pass.

The states are those of `cell_scan` within a tolerance that is tested on the residual; a window of time that Newton's
method does not solve is stepped through. The backward pass is `cell_scan`'s, which needs the states alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.ops.by_platform import PLATFORMS, by_platform
from jaxseq.ops.cell_scan import check, check_state, scan_backward, sequential
from jaxseq.ops.channelwise import RESET, SKIP, Arrays, Program, make_program
from jaxseq.ops.checks import accumulation_dtype, check_positive
from jaxseq.ops.choice import dispatch
from jaxseq.ops.kernels import newton_tpu
from jaxseq.ops.kernels.layout_tpu import LANES, STEPS
from jaxseq.ops.kernels.newton_tpu import Options
from jaxseq.ops.placement import per_device

WINDOW = 64  # compiled for v5e it takes half the instructions of 16, and within 3% of those of 128


class WindowStats(NamedTuple):
    """How the windows of a row were solved, all (B,).

    Attributes:
      iterations: int32, of the window that took most.
      residual: float32, the largest final |step(h_{t-1}, u_t) - h_t|, 0 where it was stepped; inf if any is not finite.
      stepped: int32, windows, of W steps and up to 128 channels, that were stepped through.
    """

    iterations: jax.Array
    residual: jax.Array
    stepped: jax.Array


def newton_scan(
    step: Callable[[Any, Any, Any], Any],
    params: Any,
    u: Any,
    h0: Any = None,
    *,
    reset: jax.Array | None = None,
    mask: jax.Array | None = None,
    window: int | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 8,
    method: str = "auto",
) -> tuple[Any, WindowStats]:
    """The states of `cell_scan`, by Newton's method in delta form (Lim et al. 2023, arXiv 2309.12252) on one window of
    time after another, each from the exact state that the last one left; for few channels on TPU, B · D of 128 to 256.

    Args:
      step, params, u, h0, reset, mask: as for `cell_scan`; u a tree of (B, T, D), h0 of (B, D).
      window: steps solved together, a multiple of 8; 64 if None; at most T.
      tolerance: bound on |step(h_{t-1}, u_t) - h_t|, relative to max |h| of the channel nearby where that exceeds 1.
      max_iterations: a window that takes more is stepped through, as one is that is not finite.
      method: "kernel" (TPU, float32), "interpret:tpu" (the same program anywhere), "sequential" (all is stepped
        through), or "auto": the kernel on TPU in float32, else "sequential".

    Returns:
      The states, a tree like h0 of (B, T, D) in u's dtype, with `cell_scan`'s derivatives; and `WindowStats`.

    Raises:
      ValueError: as `cell_scan`; a window, tolerance or number of iterations that is none.
    """
    leaves = jax.tree.leaves(u)
    check(leaves, reset, mask)
    options = _options(leaves[0].shape[1], window, tolerance, max_iterations)
    dtype = accumulation_dtype(*leaves, *jax.tree.leaves(h0))
    h0 = jnp.zeros_like(leaves[0][:, 0], dtype) if h0 is None else jax.tree.map(lambda x: x.astype(dtype), h0)
    check_state(h0, leaves[0])
    program, tables = make_program(step, params, h0, u, dtype)
    solved: Any = _scan(program, method, options, tables, leaves, jax.tree.leaves(h0), reset, mask)
    h = [x.astype(jnp.result_type(*leaves)) for x in solved[0]]
    return jax.tree.unflatten(jax.tree.structure(h0), h), solved[1]


def _options(time: int, window: int | None, tolerance: float, max_iterations: int) -> Options:
    check_positive(max_iterations=max_iterations)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}")
    if window is not None and (not isinstance(window, int) or window < 1 or window % STEPS):
        raise ValueError(f"window must be a positive multiple of {STEPS}, got {window!r}")
    whole = -(-time // STEPS) * STEPS
    return Options(min(window or WINDOW, whole), tolerance, max_iterations)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _scan(program, method, options, tables, u, h0, reset, mask) -> Any:
    methods = {"sequential": partial(_step_through, program, options)}
    if h0[0].dtype == jnp.float32:
        methods["kernel:tpu"] = partial(_newton, program, options, False)
        methods["interpret:tpu"] = partial(_newton, program, options, True)
    elif method in ("kernel", "kernel:tpu", "interpret:tpu"):
        raise ValueError(f"method {method!r} of newton_scan needs float32, got {h0[0].dtype}")
    if method != "auto":
        return dispatch("newton_scan", method, methods, u[0].shape)(tables, u, h0, reset, mask)
    branches: dict[str, Any] = dict.fromkeys(PLATFORMS, methods["sequential"])
    branches["tpu"] = methods.get("kernel:tpu", methods["sequential"])
    return by_platform(branches, tables, u, h0, reset, mask)


def _forward(program, method, options, tables, u, h0, reset, mask):
    solved: Any = _scan(program, method, options, tables, u, h0, reset, mask)
    return solved, (tables, u, h0, reset, mask, solved[0])


def _backward(program, method, options, saved, cotangents):
    return scan_backward(program, method, saved, cotangents[0])


_scan.defvjp(_forward, _backward)


def _newton(program: Program, options: Options, interpret: bool, tables, u, h0, reset, mask):
    """The kernel on every device's part of the arrays."""
    flags = _flags(reset, mask)
    programs = program, newton_tpu.linearise(program)  # traced out here: inside, the mesh is another
    run = partial(newton_tpu.forward, programs, options, interpret=interpret)
    letters = ["D"] * len(tables), ["B T D"] * len(u), ["B D"] * len(h0), None if flags is None else "B T"
    results = ["B T D"] * len(h0), newton_tpu.Stats("B D", "B D", "B D")
    h, (iterations, residual, stepped) = per_device(run, (tables, u, h0, flags), letters, results)
    return h, WindowStats(jnp.max(iterations, 1), jnp.max(residual, 1), jnp.sum(stepped, 1, dtype=jnp.int32))


def _step_through(program: Program, options: Options, tables, u, h0, reset, mask):
    """`cell_scan`, reported as what the kernel does where no window is solved."""
    h = sequential(program, tables, u, h0, reset, mask)
    batch, time, width = u[0].shape
    windows = -(-time // options.window) * -(-width // LANES)
    none, every = jnp.zeros(batch, jnp.int32), jnp.full(batch, windows, jnp.int32)
    return h, WindowStats(none, jnp.where(_finite(h), 0.0, jnp.inf).astype(jnp.float32), every)


def _finite(h: Arrays) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x), axis=(1, 2)) for x in h]), axis=0)


def _flags(reset: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """The flags (B, T) int32 of `Program.advance`."""
    bits = [jnp.int32(RESET) * reset] if reset is not None else []
    bits += [jnp.int32(SKIP) * ~mask] if mask is not None else []
    return reduce(jnp.add, bits) if bits else None
