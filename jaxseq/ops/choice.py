"""Which method an op runs: the one asked for, or the fastest one measured on the platform it is compiled for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from jaxseq.ops.checks import check_choice

Function = Callable[..., Any]
PLATFORMS = {"cpu": "cpu", "tpu": "tpu", "gpu": "cuda"}  # our name -> the name of the compiler's backend
FASTEST = {"cpu": "sequential", "tpu": "associative", "gpu": "associative"}


def dispatch(op: str, method: str, methods: Mapping[str, Function], shape: Sequence[int]) -> Function:
    """The implementation that `method` names, for an op called at `shape`.

    `methods` has the op's implementations by name. Kernels are named "kernel:tpu" and "kernel:gpu" for one platform
    and "interpret:tpu", "interpret:gpu" for the same program interpreted anywhere; "kernel" is the one for the
    platform that compiles, and "auto" the fastest method measured there. Raises ValueError for a name that is not
    there, or a kernel where there is none.
    """
    if method == "auto":
        return _by_platform({ours: methods[choose(op, shape, ours, tuple(methods))] for ours in PLATFORMS})
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


def choose(op: str, shape: Sequence[int], platform: str, methods: tuple[str, ...]) -> str:
    """The fastest method measured for `op` on `platform` near `shape`, among `methods`."""
    return FASTEST[platform] if FASTEST[platform] in methods else methods[0]


def _by_platform(chosen: Mapping[str, Function]) -> Function:
    branches = {theirs: chosen[ours] for ours, theirs in PLATFORMS.items()}
    return lambda *args: lax.platform_dependent(*args, **branches)
