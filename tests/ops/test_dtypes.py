"""Every method of every op on bfloat16 activations and in float64: values and gradients against lax.scan in float64."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dtype_cases import CASES, B, T

from jaxseq import ops
from jaxseq.ops import choice

LINEAR = {name: case.wide for name, case in CASES.items() if name != "coupled_scan"}  # whose decays are many arrays
DECAYS = [(name, key) for name, wide in LINEAR.items() for key in ("a", "A", "log_a", "log_w") if key in wide]


def methods(name: str):
    """The methods of an op, kernels interpreted; "" if it has none to choose from."""
    if name == "prefix_logsumexp":
        return ("",)
    found = choice.METHODS.get(choice.MADE_OF.get(name, name), ("",))
    if name == "linear_attention":  # with a bonus and a decay per channel, which its kernel has not
        found = tuple(method for method in found if method != "kernel:tpu")
    return tuple(method.replace("kernel:", "interpret:") for method in found)


MADE = {name for name in CASES if name in choice.MADE_OF and name != "prefix_logsumexp"}
# What takes seconds to compile runs by default in one dtype, or where an op of its kind does: else it is slow.
DEFAULT = {
    "linear_attention": {"bfloat16": "chunked"},
    "dplr_attention": {"float64": "sequential"},
    **{name: {} for name in ("delta_rule", "normalized_linear_attention", "exponential_attention", "rwkv7_attention")},
}


def slow(name, method, kind):
    if name in DEFAULT:
        return DEFAULT[name].get(kind) != method
    return method != "auto" if name in MADE else name == "block_scan" and method.startswith("interpret:")


def matrix(kind):
    """Every op and method that takes the dtype."""
    for name in CASES:
        for method in ("auto", *methods(name)) if name in MADE else methods(name):
            if kind == "bfloat16" or not method.startswith("interpret:"):
                yield pytest.param(name, method, marks=[pytest.mark.slow] if slow(name, method, kind) else [])


def run_with_gradients(run, flags, narrow, wide):
    """The results, zero at padding, and the cotangents of all arguments."""

    def kept(x):
        valid = flags.get("mask", np.ones((B, T), bool))
        return jnp.where(valid.reshape(B, T, *(1,) * (x.ndim - 2)), x, 0) if x.shape[:2] == (B, T) else x

    def counted(narrow, wide):
        return jax.tree.map(kept, run(**narrow, **wide, **flags))

    y, pull = jax.vjp(counted, narrow, wide)
    return y, pull(jax.tree.map(lambda x: jnp.asarray(half(np.cos(np.arange(x.size))).reshape(x.shape), x.dtype), y))


@cache
def expected(name):
    case = CASES[name]
    with jax.enable_x64(True):
        exact = jax.jit(partial(run_with_gradients, case.exact, case.flags))(*arrays(name, "float64"))
        return jax.tree.map(np.asarray, exact)


def half(x):
    """x rounded to what bfloat16 holds, in float32."""
    return x.astype(jnp.bfloat16).astype(np.float32)


def arrays(name, kind):
    """The arguments of a case: activations in that dtype, exact in bfloat16, and decays and states, which are not."""
    case = CASES[name]
    narrow = jax.tree.map(lambda x: jnp.asarray(half(x), kind), case.narrow)
    return narrow, jax.tree.map(lambda x: jnp.asarray(x, "float64" if kind == "float64" else "float32"), case.wide)


def ours(name, method):
    """The program of values and gradients."""
    case = CASES[name]
    return partial(run_with_gradients, partial(case.op, method=method) if method else case.op, case.flags)


def by_width(tree, like):
    """The leaves where `like` is bfloat16, and the others."""
    pairs = list(zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True))
    return [x for x, y in pairs if y.dtype == jnp.bfloat16], [x for x, y in pairs if y.dtype != jnp.bfloat16]


def floats(program):
    """The dtypes of all real numbers that a program, or a program in it, computes."""
    for equation in program.eqns:
        yield from (x.aval.dtype for x in equation.outvars if jnp.issubdtype(x.aval.dtype, jnp.floating))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from floats(inner)


def test_every_op_is_here():
    assert set(CASES) == set(ops.__all__) - {"explain", "prefix_state"}


@pytest.mark.parametrize(("name", "method"), [*matrix("bfloat16")])
def test_bfloat16_activations_give_the_reference_s_values_and_gradients(name, method, close):
    y, gradients = jax.jit(ours(name, method))(*arrays(name, "bfloat16"))
    assert jax.tree.leaves(y)[0].dtype == jnp.bfloat16
    found, wanted = (by_width(x, (y, gradients)) for x in ((y, gradients), expected(name)))
    close(found[0], wanted[0], "bfloat16")
    close([*found[1], 0.0], [*wanted[1], 0.0])  # what is wide has been added up in float32


@pytest.mark.parametrize(("name", "method"), [*matrix("float64")])
def test_float64_gives_the_reference_s_values_and_gradients(name, method, close):
    with jax.enable_x64(True):
        found = jax.jit(ours(name, method))(*arrays(name, "float64"))
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float64)}
    close(found, expected(name), "float64")


@pytest.mark.parametrize(("name", "method"), [(name, x) for name in CASES for x in methods(name)])
def test_float64_is_rounded_nowhere_and_refused_by_kernels(name, method):
    with jax.enable_x64(True):
        trace = partial(jax.make_jaxpr(ours(name, method)), *arrays(name, "float64"))
        if method.startswith("interpret:"):
            wanted = re.escape(f"method {method!r} of ") + r"\w+ needs float32.*, got float64"
            with pytest.raises(ValueError, match=wanted):
                trace()
        else:
            assert set(floats(trace().jaxpr)) == {np.dtype(np.float64)}


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "decay"), DECAYS)
def test_a_decay_in_half_precision_is_refused(name, decay, kind):
    case = CASES[name]
    given = {**case.narrow, **case.wide, decay: case.wide[decay].astype(kind)}
    with pytest.raises(
        ValueError, match=re.escape("must be float32 or wider (a decay of 0.999 rounds to 1 in " + kind)
    ):
        case.op(**given)
