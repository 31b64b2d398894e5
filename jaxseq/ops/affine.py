"""h_t = A_t h_{t-1} + b_t for any linear A_t, in any semiring: the algorithms, and the derivatives they share.

With λ_t the cotangent of h_t once all later steps have been counted (no conjugate for complex numbers: JAX's VJP is
the transpose),

    λ_t = g_t + A_{t+1}ᵀ λ_{t+1},    db_t = λ_t,    dA_t = λ_t h_{t-1}ᵀ,    dh0 = A_1ᵀ λ_1

An algorithm is `run(algebra, A, b, h0, reset, mask, *, reverse) -> h`, its transpose
`adjoint(algebra, A, g, reset, mask, *, reverse) -> λ`. For an algorithm a step with `mask` False is one whose A is the
identity; its b is zero already. A has size 1 in any axis in which it is constant, and is never spread over that axis.
Flags select, they never multiply: 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.choice import dispatch


@dataclass(frozen=True)
class Algebra:
    """What one A does to one state, how two compose, and what sums are. All of it acts on leading axes alike."""

    apply: Callable[[jax.Array, jax.Array], jax.Array]  # A h
    product: Callable[[jax.Array, jax.Array], jax.Array]  # A h again, for all steps at once, as one differentiates it
    compose: Callable[[jax.Array, jax.Array], jax.Array]  # A2 A1
    identity: Callable[[jax.Array], jax.Array]  # the identity in A's shape and dtype
    transpose: Callable[[jax.Array], jax.Array]
    add: Callable[[jax.Array, jax.Array], jax.Array] = jnp.add
    zero: float = 0.0  # of `add`


FLOOR = -1e30  # the logarithm of zero: finite, because -inf - (-inf) is NaN and so are its derivatives
DIAGONAL = Algebra(jnp.multiply, jnp.multiply, jnp.multiply, jnp.ones_like, lambda a: a)
LOGARITHMS = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.logaddexp, FLOOR)
MAXIMA = Algebra(jnp.add, jnp.add, jnp.add, jnp.zeros_like, lambda a: a, jnp.maximum, FLOOR)


@dataclass(frozen=True)
class Algorithm:
    """One way to run the recurrence, and its transpose; neither is differentiated."""

    run: Callable[..., jax.Array]
    adjoint: Callable[..., jax.Array]


def over_time(flag: jax.Array, h: jax.Array) -> jax.Array:
    """A flag (B, T) or (B,) with trailing axes of size 1, so that it broadcasts against h."""
    return flag.reshape(flag.shape + (1,) * (h.ndim - flag.ndim))


def previous(
    h: jax.Array, h0: jax.Array, reset: jax.Array | None, reverse: bool = False, zero: float = 0.0
) -> jax.Array:
    """h_{t-1} for every t, (B, T, ...): h0 at the first step, zero where `reset` (B, T) is True."""
    first = h0[:, None].astype(h.dtype)
    before = jnp.concatenate([h[:, 1:], first] if reverse else [first, h[:, :-1]], axis=1)
    return _unless(reset, before, zero)


def affine_scan(
    op: str,
    method: str,
    algorithms: Mapping[str, Algorithm],
    algebra: Algebra,
    a: jax.Array,
    b: jax.Array,
    h0: jax.Array,
    *,
    reset: jax.Array | None,
    mask: jax.Array | None,
    reverse: bool,
) -> jax.Array:
    """All states, by the algorithm that `method` names, with derivatives of every order, forwards and backwards.

    An algorithm itself is never differentiated. A tangent is the same recurrence driven by dA_t h_{t-1} + db_t, and
    `lax.custom_linear_solve` transposes it into the adjoint one: one pass forwards and one backwards, and nothing but
    a, h, h0 and the flags kept between them.
    """
    runs = {name: partial(x.run, algebra, reverse=reverse) for name, x in algorithms.items()}
    adjoints = {name: partial(x.adjoint, algebra, reverse=reverse) for name, x in algorithms.items()}
    run, adjoint = (dispatch(op, method, functions, b.shape) for functions in (runs, adjoints))
    return _states(_Solver(algebra, reverse, run, adjoint), a, masked_input(algebra, b, mask), h0, reset, mask)


@dataclass(frozen=True)
class _Solver:
    algebra: Algebra
    reverse: bool
    run: Callable[..., jax.Array]
    adjoint: Callable[..., jax.Array]

    # The backward pass takes h_{t-1} from h again. There is no recomputation to protect, hence no barrier.
    @partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
    def through(self, a: jax.Array, h: jax.Array, h0: jax.Array, reset: Any, mask: Any) -> jax.Array:
        """A_t h_{t-1}."""
        before = previous(h, h0, reset, self.reverse)
        return _where(mask, self.algebra.product(a, before), before)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _states(solver: _Solver, a: jax.Array, b: jax.Array, h0: jax.Array, reset: Any, mask: Any) -> jax.Array:
    return solver.run(a, b, h0, reset, mask)


@_states.defjvp
def _tangent(solver, primals, tangents):
    a, _, h0, reset, mask = primals
    da, db, dh0, _, _ = tangents
    h, end = _states(solver, *primals), jnp.zeros_like(h0)
    _, driven = jax.jvp(lambda a, h0: solver.through(a, h, h0, reset, mask), (a, h0), (da, dh0))
    dh = lax.custom_linear_solve(
        lambda x: x - solver.through(a, x, end, reset, mask),
        db + driven,
        lambda _, x: solver.run(a, x, end, reset, mask),
        lambda _, g: solver.adjoint(a, g, reset, mask),
    )
    return h, dh


def algorithms(chunk: int) -> dict[str, Algorithm]:
    """The algorithms that serve every algebra, by the name of the method."""
    in_chunks = partial(chunked, chunk=chunk)
    return {
        "sequential": Algorithm(sequential, sequential_adjoint),
        "associative": Algorithm(associative, by_reversal(associative)),
        "chunked": Algorithm(in_chunks, by_reversal(in_chunks)),
    }


def masked_input(algebra: Algebra, b: jax.Array, mask: jax.Array | None) -> jax.Array:
    """b (B, T, ...) as the algorithms expect it: zero where `mask` (B, T) is False."""
    return _where(mask, b, algebra.zero)


def sequential(algebra, a, b, h0, reset, mask, *, reverse):
    """One pass in place: on CPU several times as fast as `lax.associative_scan`, and no array but the result."""
    time = b.shape[1]

    def body(i, carry):
        h, out = carry
        t = time - 1 - i if reverse else i
        h = _step(algebra, a, b, reset, mask, t, h)
        return h, lax.dynamic_update_index_in_dim(out, h, t, 1)

    return lax.fori_loop(0, time, body, (h0, jnp.zeros_like(b)))[1]


def sequential_adjoint(algebra, a, g, reset, mask, *, reverse):
    """λ, carrying μ_t = A_tᵀ λ_t so that A is read at its own step."""
    time = g.shape[1]

    def body(i, carry):
        mu, out = carry
        t = i if reverse else time - 1 - i
        lam = _at(g, t) + mu
        mu = _where(_at(mask, t), algebra.apply(algebra.transpose(_at(a, t)), lam), lam)
        return _unless(_at(reset, t), mu), lax.dynamic_update_index_in_dim(out, lam, t, 1)

    return lax.fori_loop(0, time, body, (jnp.zeros_like(g[:, 0]), jnp.zeros_like(g)))[1]


def associative(algebra, a, b, h0, reset, mask, *, reverse):
    """Logarithmic depth. The element of a step is (A, b, whether a document starts): what came before it is dropped."""
    if reverse:
        a, b, reset, mask = (None if x is None else jnp.flip(x, 1) for x in (a, b, reset, mask))
        return jnp.flip(associative(algebra, a, b, h0, reset, mask, reverse=False), 1)
    a = _masked(algebra, a, mask)
    first = _unless(_at(reset, 0), algebra.apply(a[:, 0], h0), algebra.zero)
    b = b.at[:, 0].set(algebra.add(first, b[:, 0]))
    if a.shape[1] < b.shape[1]:
        return _invariant(algebra, a, b, reset)
    return lax.associative_scan(partial(_compose, algebra), (a, b, reset), axis=1)[1]


def chunked(algebra, a, b, h0, reset, mask, *, reverse, chunk):
    """All chunks of `chunk` steps at once, twice: for their summaries, then from the states these give them."""
    batch, time = b.shape[:2]
    a, b, reset, mask = _split(algebra, a, b, reset, mask, min(chunk, time))
    axes = (None if a.shape[1] == 1 else 1, 1, *(None if x is None else 1 for x in (reset, mask)))
    a = a[:, 0] if axes[0] is None else a
    total, last = jax.vmap(partial(summary, algebra, reverse=reverse), axes, 1)(a, b, reset, mask)
    cut = None if reset is None else jnp.any(reset, axis=2)
    after = sequential(algebra, total, last, h0, cut, None, reverse=reverse)
    before = previous(after, h0, None, reverse)
    run = jax.vmap(partial(sequential, algebra, reverse=reverse), (*axes[:2], 1, *axes[2:]), 1)
    return run(a, b, before, reset, mask).reshape(batch, -1, *b.shape[3:])[:, :time]


def summary(algebra, a, b, reset, mask, *, reverse):
    """What a stretch of time does to the state: (A_T ... A_1, the last state if the stretch starts from zero).

    a, b (B, T, ...) and the flags (B, T) are as an algorithm gets them: b is zero where `mask` is False. The total has
    no time axis, and size 1 for the batch if neither a nor a flag differs between rows; `last` is (B, ...). The state
    after the stretch is `last` where `reset` is True at any of its steps, and `algebra.apply(total, h0) + last` where
    not. The total is zero where there was a reset; select all the same, because zero times NaN is NaN.
    """
    time = b.shape[1]
    rows = max(1 if x is None else x.shape[0] for x in (a, reset, mask))
    total = jnp.broadcast_to(algebra.identity(a[:, 0]), (rows, *a.shape[2:]))

    def body(i, carry):
        total, h = carry
        t = time - 1 - i if reverse else i
        composed = _where(_at(mask, t), algebra.compose(_at(a, t), total), total)
        return _unless(_at(reset, t), composed, algebra.zero), _step(algebra, a, b, reset, mask, t, h)

    return lax.fori_loop(0, time, body, (total, jnp.full_like(b[:, 0], algebra.zero)))


def by_reversal(run):
    """The transpose of `run` by `run`, the other way: μ_t = A_tᵀ (g_t + μ_{t+1}) and λ_t = g_t + μ_{t+1}."""

    def adjoint(algebra, a, g, reset, mask, *, reverse):
        a, end = algebra.transpose(a), jnp.zeros_like(g[:, 0])
        back = _unless(reset, _where(mask, algebra.apply(a, g), g))
        mu = run(algebra, a, back, end, reset, mask, reverse=not reverse)
        return g + previous(mu, end, None, not reverse)

    return adjoint


def _step(algebra, a, b, reset, mask, t, h):
    """The state after step t, given the one before it."""
    h = _unless(_at(reset, t), h, algebra.zero)
    return algebra.add(_where(_at(mask, t), algebra.apply(_at(a, t), h), h), _at(b, t))


def _compose(algebra, first, second):
    (a1, b1, before), (a2, b2, reset) = first, second
    reached = None if before is None else before | reset
    return algebra.compose(a2, a1), _forward(algebra, a2, b1, b2, reset), reached


def _forward(algebra, a, h, b, reset):
    """A h + b, for many steps at once."""
    return algebra.add(algebra.apply(a, _unless(reset, h, algebra.zero)), b)


def _invariant(algebra, a, b, reset):
    """All states for one A: every second state is a recurrence with A², and the rest are one step from those."""
    if b.shape[1] == 1:
        return b
    pairs = b.shape[1] // 2
    even, odd = (None, None) if reset is None else (reset[:, ::2], reset[:, 1::2])
    last = _forward(algebra, a, b[:, 0 : 2 * pairs : 2], b[:, 1::2], odd)
    reached = None if even is None else even[:, :pairs] | odd
    last = _invariant(algebra, algebra.compose(a, a), last, reached)
    before = previous(last, jnp.full_like(b[:, 0], algebra.zero), None)
    before = jnp.concatenate([before, last[:, -1:]], axis=1)[:, : b.shape[1] - pairs]
    first = _forward(algebra, a, before, b[:, ::2], even)
    both = jnp.stack([first[:, :pairs], last], axis=2).reshape(b.shape[0], 2 * pairs, *b.shape[2:])
    return jnp.concatenate([both, first[:, pairs:]], axis=1)


def _masked(algebra, a, mask):
    return a if mask is None else _where(mask, a, algebra.identity(a))


def _split(algebra, a, b, reset, mask, chunk):
    """(B, T, ...) to (B, M, C, ...), filled up with masked steps; an A that is the same at every step keeps size 1."""
    time = b.shape[1]
    more = -time % chunk
    if more:
        mask = jnp.ones(b.shape[:2], bool) if mask is None else mask

    def split(x, fill=0):
        x = jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2), constant_values=fill)
        return x.reshape(x.shape[0], -1, chunk, *x.shape[2:])

    a = a[:, None] if a.shape[1] < time or time == 1 else split(a)
    return a, split(b, algebra.zero), *(None if x is None else split(x) for x in (reset, mask))


def _at(x, t):
    """Step t of x (B, T, ...): x's only step if it has one."""
    if x is None:
        return None
    return x[:, 0] if x.shape[1] == 1 else lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def _where(flag, x, other):
    """x where the flag is True or None."""
    return x if flag is None else jnp.where(over_time(flag, x), x, other)


def _unless(flag, x, zero=0.0):
    """x, zero where the flag is True."""
    return x if flag is None else jnp.where(over_time(flag, x), zero, x)
