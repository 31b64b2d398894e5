"""A channelwise step as a program that runs on any tile of channels.

The step is traced once. What depends on its parameters alone is computed once, outside, as tables of one number per
channel; the rest must be elementwise, and is what a kernel evaluates at every step on whatever tile it holds. So is the
step's vector-Jacobian product. An operation that is not known to be elementwise is refused, not run wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

ELEMENTWISE = frozenset(
    """abs add add_any and acos acosh asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh
    digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt
    max min mul ne neg nextafter not or pow rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan
    tanh xor""".split()  # noqa: SIM905
)
CALLS = frozenset(["jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call"])
# Bits of a step's flag: the state before it is zero; it leaves the state as it is; it is not part of the sequence.
RESET, SKIP, OUTSIDE = 1, 2, 4
Arrays = Sequence[jax.Array]


@dataclass(frozen=True, eq=False)
class Program:
    """h' = step(tables, h, u), elementwise over flat lists of arrays of one shape, and its cotangents.

    Attributes:
      step: the jaxpr of (tables, h, u) -> h'.
      pull: the jaxpr of (tables, h, u, g) -> cotangents of (tables, h, u) for the cotangent g of h'.
      sizes: the numbers of tables, states and inputs.
      reads: for every input whether `pull` depends on it (of a h + b: on a, not on b).
    """

    step: ClosedJaxpr
    pull: ClosedJaxpr
    sizes: tuple[int, int, int]
    reads: tuple[bool, ...]

    def forward(self, tables: Arrays, h: Arrays, u: Arrays) -> list[jax.Array]:
        """h'."""
        return _evaluate(self.step, [*tables, *h, *u], h[0].shape)

    def backward(self, tables: Arrays, h: Arrays, u: Arrays, g: Arrays) -> tuple[Any, Any, Any]:
        """The cotangents of (tables, h, u)."""
        flat = _evaluate(self.pull, [*tables, *h, *u, *g], h[0].shape)
        n, k, _ = self.sizes
        return flat[:n], flat[n : n + k], flat[n + k :]

    def advance(self, tables: Arrays, h: Arrays, u: Arrays, flag: jax.Array | None) -> list[jax.Array]:
        """`forward` for a step with that flag, a scalar of RESET, SKIP and OUTSIDE bits."""
        if flag is None:
            return self.forward(tables, h, u)
        h = _choose(flag, RESET, _zeros(h), h)
        return _choose(flag, SKIP, h, self.forward(tables, h, u))

    def retreat(
        self, tables: Arrays, h: Arrays, u: Arrays, mu: Arrays, g: Arrays, flag: jax.Array | None
    ) -> tuple[Any, Any, Any]:
        """`backward` for a step with that flag: g comes from the state being read, mu from the steps after it."""
        lam = [x + y for x, y in zip(mu, g, strict=True)]
        if flag is None:
            return self.backward(tables, h, u, lam)
        lam = _choose(flag, OUTSIDE, mu, lam)
        dtables, dh, du = self.backward(tables, _choose(flag, RESET, _zeros(h), h), u, lam)
        dh = _choose(flag, RESET, _zeros(h), _choose(flag, SKIP, lam, dh))
        return _choose(flag, SKIP, _zeros(dtables), dtables), dh, _choose(flag, SKIP, _zeros(du), du)


def make_program(step: Callable[..., Any], params: Any, h: Any, u: Any, dtype: Any) -> tuple[Program, list[jax.Array]]:
    """The program of step(params, h, u) -> h, and its tables (D,), through which gradients reach `params` and whatever
    the step closes over. `h` and `u` are trees of arrays with channels on the last axis.

    Raises ValueError if the step mixes channels, or changes the structure or shape of the state.
    """
    width = jax.tree.leaves(h)[0].shape[-1]
    h, u = jax.tree.map(lambda _: jax.ShapeDtypeStruct((width,), dtype), (h, u))
    flat_params = jax.tree.leaves(params)
    closed = jax.make_jaxpr(lambda params, h, u: _checked(step(params, h, u), h))(params, h, u)
    jaxpr, count = closed.jaxpr, len(flat_params)
    given, inputs = [*jaxpr.constvars, *jaxpr.invars[:count]], jaxpr.invars[count:]
    early, late = _split(jaxpr.eqns, inputs)
    tables = _needed(late, jaxpr.outvars, inputs)
    values = jaxpr_as_fun(_close(jaxpr, given, tables, early))(*closed.consts, *flat_params)
    body = _close(jaxpr, [*tables, *inputs], jaxpr.outvars, late)
    _check_elementwise(body.jaxpr)
    pull, sizes = _pull(body, width, dtype), (len(tables), len(jax.tree.leaves(h)), len(jax.tree.leaves(u)))
    _check_elementwise(pull.jaxpr)
    reads = _reads(pull.jaxpr)[sizes[0] + sizes[1] :][: sizes[2]]
    return Program(body, pull, sizes, tuple(reads)), [jnp.broadcast_to(x, (width,)).astype(dtype) for x in values]


def _checked(after: Any, h: Any) -> Any:
    if jax.tree.structure(after) != jax.tree.structure(h):
        raise ValueError(f"step must return a state like h, {jax.tree.structure(h)}, got {jax.tree.structure(after)}")
    for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(h), strict=True):
        if jnp.shape(x) != y.shape:
            raise ValueError(f"step must return one number a channel, shape {y.shape} like h, got {jnp.shape(x)}")
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), after, h)


def _zeros(arrays: Arrays) -> list[jax.Array]:
    return [jnp.zeros_like(x) for x in arrays]


def _choose(flag: jax.Array, bit: int, then: Arrays, otherwise: Arrays) -> list[jax.Array]:
    """`then` where the scalar flag has the bit: a select, so that what is not chosen may be NaN."""
    return [lax.select(flag & bit != 0, x, y) for x, y in zip(then, otherwise, strict=True)]


def _split(equations: Sequence[Any], inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The equations that do not depend on `inputs`, and those that do."""
    moving, early, late = set(map(id, inputs)), [], []
    for equation in equations:
        depends = any(id(x) in moving for x in equation.invars)
        (late if depends else early).append(equation)
        moving.update(map(id, equation.outvars) if depends else ())
    return early, late


def _needed(late: Sequence[Any], outputs: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The variables that the late equations and the outputs read but neither make nor are given."""
    made = set(map(id, [*inputs, *(x for equation in late for x in equation.outvars)]))
    read = [x for equation in late for x in equation.invars] + list(outputs)
    return list({id(x): x for x in read if not isinstance(x, Literal) and id(x) not in made}.values())


def _close(jaxpr: Any, inputs: Sequence[Any], outputs: Sequence[Any], equations: Sequence[Any]) -> ClosedJaxpr:
    names = jaxpr.debug_info.with_unknown_names()
    return ClosedJaxpr(Jaxpr([], list(inputs), list(outputs), list(equations), jaxpr.effects, names), [])


def _pull(body: ClosedJaxpr, width: int, dtype: Any) -> ClosedJaxpr:
    count = len(body.jaxpr.invars)
    function = jaxpr_as_fun(body)
    channel = [jax.ShapeDtypeStruct((width,), dtype)] * (count + len(body.jaxpr.outvars))
    return jax.make_jaxpr(lambda *args: jax.vjp(function, *args[:count])[1](list(args[count:])))(*channel)


def _reads(jaxpr: Any) -> list[bool]:
    """For every input whether an output depends on it."""
    live = set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if any(id(out) in live for out in equation.outvars):
            live.update(map(id, equation.invars))
    return [id(variable) in live for variable in jaxpr.invars]


def _inner(equation: Any) -> ClosedJaxpr:
    inner = next(x for x in equation.params.values() if hasattr(x, "eqns") or hasattr(x, "jaxpr"))
    return inner if hasattr(inner, "jaxpr") else ClosedJaxpr(inner, [])


def _is_fill(equation: Any) -> bool:
    return equation.primitive.name == "broadcast_in_dim" and equation.invars[0].aval.shape == ()


def _is_nothing(equation: Any) -> bool:
    """Whether it gives back what it is given."""
    reshaping = equation.primitive.name in ("broadcast_in_dim", "reshape")
    return reshaping and equation.invars[0].aval.shape == equation.outvars[0].aval.shape


def _check_elementwise(jaxpr: Any) -> None:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in CALLS:
            _check_elementwise(_inner(equation).jaxpr)
        elif name not in ELEMENTWISE and not _is_fill(equation) and not _is_nothing(equation):
            raise ValueError(f"step must act on every channel alone, with elementwise operations, got {name}")


def _evaluate(closed: ClosedJaxpr, args: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """The elementwise program at arrays of another shape than the one it was traced at."""
    jaxpr = closed.jaxpr
    values = dict(zip(map(id, [*jaxpr.constvars, *jaxpr.invars]), [*closed.consts, *args], strict=True))
    read = lambda x: x.val if isinstance(x, Literal) else values[id(x)]  # noqa: E731
    for equation in jaxpr.eqns:
        given = [read(x) for x in equation.invars]
        if equation.primitive.name in CALLS:
            out = _evaluate(_inner(equation), given, shape)
        elif _is_nothing(equation):
            out = given
        elif _is_fill(equation):
            out = [lax.broadcast(given[0], shape)]
        else:
            out = [equation.primitive.bind(*given, **equation.params)]
        values.update(zip(map(id, equation.outvars), out, strict=True))
    return [read(x) for x in jaxpr.outvars]
