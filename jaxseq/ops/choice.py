"""Which method an op runs: the one asked for, or the fastest one of the nearest measurement; and why that one."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from math import inf, log, prod
from typing import Any

import jax
from jax import lax

from jaxseq.ops.by_platform import by_platform
from jaxseq.ops.checks import check_choice
from jaxseq.ops.measured import ROWS, UNTIMED, Row

Function = Callable[..., Any]
PLATFORMS = {"cpu": "cpu", "tpu": "tpu", "gpu": "cuda"}  # our name -> the name of the compiler's backend
KERNELS = ("kernel:tpu", "kernel:gpu")
SCAN = ("sequential", "associative", "chunked")
NOISE = 1.1  # ratios of times that repeat no better than this
METHODS = {  # what "auto" may take, of every op that has methods of its own
    "linear_scan": (*SCAN, *KERNELS),
    "block_scan": (*SCAN, *KERNELS),
    "coupled_scan": (*SCAN, *KERNELS),
    "matrix_scan": SCAN,
    "log_linear_scan": ("sequential", "associative"),
    "cell_scan": ("sequential", *KERNELS),
    "linear_attention": (*SCAN, "kernel:tpu"),
    "delta_rule": (*SCAN, "kernel:tpu"),
    "dplr_attention": SCAN,
}
MADE_OF = {  # the others run these
    "softmax_scan": "linear_scan",
    "linear_scan_project": "linear_scan",
    "prefix_logsumexp": "log_linear_scan",
    "normalized_linear_attention": "linear_attention",
    "exponential_attention": "linear_attention",
    "rwkv7_attention": "dplr_attention",
}


def dispatch(
    op: str, method: str, methods: Mapping[str, Function], shape: Sequence[int], *, differentiated: bool = True
) -> Function:
    """The implementation that `method` names, for an op called at `shape`.

    `methods` has the op's implementations by name. Kernels are named "kernel:tpu" and "kernel:gpu" for one platform
    and "interpret:tpu", "interpret:gpu" for the same program interpreted anywhere; "kernel" is the one for the
    platform that compiles, and "auto" the fastest method measured there. `differentiated` is False where the result is
    called inside a function with a derivative of its own. Raises ValueError for a name that is not there, or a kernel
    where there is none.
    """
    if method == "auto":
        return _by_platform({ours: choose(op, shape, ours, methods) for ours in PLATFORMS}, methods, differentiated)
    kernels = {name: methods[f"kernel:{name}"] for name in PLATFORMS if f"kernel:{name}" in methods}
    if method == "kernel" and kernels:
        if jax.default_backend() not in kernels:
            raise ValueError(
                f"method 'kernel' of {op} needs one of {', '.join(kernels)}, got {jax.default_backend()}: "
                f"'interpret:{next(iter(kernels))}' runs the kernel's program anywhere, slowly"
            )
        return kernels[jax.default_backend()]
    check_choice("method", method, ("auto", *methods))
    return methods[method]


def choose(op: str, shape: Sequence[int], platform: str, methods: Container[str]) -> str:
    """The fastest of `methods` in the measurements of `op` on `platform` nearest to `shape`.

    Where several were made at one shape (of decays of several kinds) it is the one whose largest ratio is smallest. A
    difference below NOISE does not count against the method that other platforms take: where all take one, a program
    has no branches.
    Where none was made it is the kernel, which moves the fewest bytes, or what `measured.UNTIMED` says.
    """
    usable = [name for name in METHODS[op] if name in methods]
    rows = _nearest(op, shape, platform, usable)
    if rows:
        worst = {name: max(row.ratios.get(name, inf) for row in rows) for name in usable}
        best = min(worst, key=lambda name: worst[name])
        return UNTIMED[op] if worst.get(UNTIMED[op], inf) <= NOISE * worst[best] else best
    return next(name for name in (f"kernel:{platform}", UNTIMED[op], *usable) if name in usable)


def explain(op: str, shape: Sequence[int], platform: str | None = None) -> str:
    """What `method="auto"` takes for an op, and the measurement that it rests on.

    Args:
      op: the name of a function of `jaxseq.ops` that has methods.
      shape: of b (B, T, ...) for a scan, of u (B, T, D) for `cell_scan`, (B, T, H, V, K) for states that are matrices.
      platform: "cpu", "tpu" or "gpu"; the one that jax runs on if None.

    Returns:
      A line with the method, and one for every measurement with what it was made on and by: times, forward and
      backward, over that of the fastest method, or bytes that a compiled program moves over the fewest. Or that
      nothing has been measured there.

    Raises:
      ValueError: an op or a platform that is not known, a shape of fewer than two axes.
    """
    check_choice("op", op, (*METHODS, *MADE_OF))
    platform = jax.default_backend() if platform is None else platform
    check_choice("platform", platform, tuple(PLATFORMS))
    if len(shape) < 2:
        raise ValueError(f"shape must have the axes B and T at least, got {tuple(shape)}")
    runs = MADE_OF.get(op, op)
    rows = _nearest(runs, shape, platform, METHODS[runs])
    chosen = choose(runs, shape, platform, METHODS[runs])
    made_of = f" (made of {runs})" if op in MADE_OF else ""
    why = [_evidence(row) for row in rows] or ["compiled, not timed: no measurement on this platform"]
    return "\n  ".join([f"{op}{made_of} at {tuple(shape)} on {platform}: {chosen}", *why])


def _nearest(op: str, shape: Sequence[int], platform: str, methods: Sequence[str]) -> list[Row]:
    """The measurements of some of the methods at the shape that is nearest."""
    rows = [
        row for row in ROWS if (row.op, row.platform) == (op, platform) and not row.ratios.keys().isdisjoint(methods)
    ]
    closest = min((_distance(row.shape, shape) for row in rows), default=inf)
    return [row for row in rows if _distance(row.shape, shape) == closest]


def _distance(measured: Sequence[int], shape: Sequence[int]) -> float:
    """Between the logarithms of the sizes; axes that the measured shape has not got are merged into its last one."""
    last = len(measured) - 1
    sizes = (*shape[:last], prod(shape[last:]))
    return sum(log(max(m, 1) / max(n, 1)) ** 2 for m, n in zip(measured, sizes, strict=True))


def _evidence(row: Row) -> str:
    ratios = ", ".join(f"{name} {ratio:g}" for name, ratio in sorted(row.ratios.items(), key=lambda item: item[1]))
    where = f"{row.shape} {row.dtype} {row.variant}, {row.device}, {row.date}"
    best = "fastest" if row.what == "times" else "fewest"
    return f"{ratios} ({row.what} over the {best}) at {where}: {row.command}"


def _by_platform(chosen: Mapping[str, str], methods: Mapping[str, Function], differentiated: bool) -> Function:
    # `lax.platform_dependent` traces and differentiates every branch on all platforms: only where they differ.
    if len(set(chosen.values())) == 1:
        return methods[chosen["cpu"]]
    branches = {theirs: methods[chosen[ours]] for ours, theirs in PLATFORMS.items()}
    if differentiated:
        return lambda *args: lax.platform_dependent(*args, **branches)
    return partial(by_platform, branches)
