"""One of several functions, by the platform that a program is compiled for; the others are not even traced.

`lax.platform_dependent` traces all of its branches at every call, kernels of absent platforms included: on CPU that
makes tracing the gradient of a linear scan take several times as long. Here a branch is traced when it is lowered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

PLATFORMS = ("cpu", "tpu", "cuda", "rocm")

branch_p = Primitive("by_platform")
branch_p.multiple_results = True


def by_platform(branches: dict[str, Callable[..., Any]], *args: Any) -> Any:
    """branches[platform](*args), where the platform is the one the program is compiled for.

    All branches give results of the same shapes and dtypes. It has no derivative: for use inside functions that have
    their own. A platform that is not named cannot be compiled for.
    """
    leaves, structure = jax.tree.flatten(args)
    shapes, results = jax.tree.flatten(jax.eval_shape(next(iter(branches.values())), *args))
    flat = {name: _Flat(branch, structure) for name, branch in branches.items()}
    out = branch_p.bind(*leaves, branches=tuple(flat.items()), shapes=tuple((x.shape, x.dtype) for x in shapes))
    return jax.tree.unflatten(results, out)


class _Flat:
    """A branch over flat lists; hashed by identity."""

    def __init__(self, branch: Callable[..., Any], structure: Any) -> None:
        self.branch, self.structure = branch, structure

    def __call__(self, *leaves: Any) -> list[Any]:
        return jax.tree.leaves(self.branch(*jax.tree.unflatten(self.structure, leaves)))


@branch_p.def_impl
def _run(*leaves, branches, shapes):
    return jax.jit(lambda *leaves: branch_p.bind(*leaves, branches=branches, shapes=shapes))(*leaves)


@branch_p.def_abstract_eval
def _shapes(*_, branches, shapes):
    return [ShapedArray(*x) for x in shapes]


def _lowering(platform: str) -> Callable[..., Any]:
    def lower(context, *leaves, branches, shapes):
        chosen = dict(branches)
        if platform not in chosen:
            raise NotImplementedError(f"there is no implementation for {platform}, only for {', '.join(chosen)}")
        return mlir.lower_fun(chosen[platform], multiple_results=True)(context, *leaves)

    return lower


for _platform in PLATFORMS:
    mlir.register_lowering(branch_p, _lowering(_platform), platform=_platform)


def _batch(leaves, axes, *, branches, shapes):
    size = next(x.shape[axis] for x, axis in zip(leaves, axes, strict=True) if axis is not None)
    mapped = {name: jax.vmap(branch, tuple(axes)) for name, branch in branches}
    wide = tuple(((size, *shape), dtype) for shape, dtype in shapes)
    return branch_p.bind(*leaves, branches=tuple(mapped.items()), shapes=wide), [0] * len(shapes)


batching.primitive_batchers[branch_p] = _batch
