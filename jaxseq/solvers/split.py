"""Newton with time split over devices: each holds some steps; h0, resets and certificates stay what they are.

An iteration is one evaluation of the cell on every device's steps, two exchanges, and one local linear scan. What a
device sends is what its steps do to any δ before them, (A_T ... A_1, δ_T), and the size of its residual. From all of
these, each finds the δ that reaches every device for a part of the channels, as in `relay`, and sends them there;
a left neighbour's last state moves by just that. So nothing else travels: two collectives per iteration (and a one-bit
one where rows are split over devices too), of as many bytes however long T is and however many the devices.

Sequences that do not converge are solved again one device after another, each device's steps from the exact state
before them: Newton in windows, with all that helps a window there (see `rescue`), stepping in the end.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseq.ops.affine_methods import summary
from jaxseq.ops.algebra import steps
from jaxseq.ops.placement import mesh_in_force, parts, per_device
from jaxseq.ops.sharded.relay import dealt, joined, mine, together
from jaxseq.solvers.guess import first_guess
from jaxseq.solvers.iterate import HOPELESS, Certificate
from jaxseq.solvers.solution import Status, choose_rows, largest, largest_each_step, leading
from jaxseq.solvers.system import System, residual

AXIS = "seq"


def split_in_time() -> bool:
    """Whether the mesh in force splits time."""
    mesh = mesh_in_force()
    return mesh is not None and parts(mesh, (AXIS,)) > 1


def solve_split(solver: Any, cell: Any, system: System, guess: Any) -> tuple[Any, Certificate]:
    """The states and their certificate. Raises ValueError if the devices of the axis do not divide T."""
    timed, rows = partial(_letters, "B T"), partial(_letters, "B")
    u, reset, mask, guesses = (timed(x) for x in (system.u, system.reset, system.mask, guess))
    letters = System(_letters("", system.params), u, rows(system.h0), reset, mask, _letters("", system.tolerance))
    results: Any = (guesses, Certificate(*["B"] * 4))  # pyright: ignore[reportArgumentType]
    function = partial(_solve, solver, cell, tuple(x for x in mesh_in_force().axis_names if x != AXIS))
    return per_device(function, (system, guess), (letters, guesses), results, (AXIS,))


class _Shard(NamedTuple):
    """One device's states (B, T, D), the state before them (B, D), and of each whole row (B,) what is known."""

    h: Any
    left: Any
    iterations: jax.Array
    residual: jax.Array
    size: jax.Array
    going: jax.Array


def _solve(solver, cell, others, system, guess):
    tolerance = solver.bound(system)
    left = _from_the_left(jax.tree.map(lambda x: x[:, -1], guess), system.h0)
    rows = jnp.zeros(jax.tree.leaves(guess)[0].shape[0])
    start = _Shard(guess, left, rows.astype(jnp.int32), rows + jnp.inf, rows, rows == 0)
    body = partial(_iterate, solver, cell, system, tolerance)
    done = lax.while_loop(lambda shard: _any(shard.going, others), body, start)
    failed = ~(done.residual <= _bound(tolerance, done.size))
    certificate = _certify(cell, system, tolerance, done, failed)
    if solver.on_failure != "sequential":
        return done.h, certificate
    helped = partial(_in_turn, solver, cell, system)
    return lax.cond(_any(failed, others), helped, lambda *x: (x[0].h, x[2]), done, failed, certificate)


def _iterate(solver, cell, system, tolerance, shard):
    h, left = shard.h, shard.left
    structure = cell.structure
    force, jac = solver.linearise(cell, system._replace(h0=left), h)
    ours = summary(structure.algebra, jac, structure.pack(force), None, None, reverse=False)
    width = jax.tree.leaves(structure.pack(left))[0].shape[1]
    maps, worst, sizes = together(dealt((ours, largest(force), largest(h)), width, AXIS), AXIS)
    zero = jax.tree.map(jnp.zeros_like, mine(dealt(structure.pack(left), width, AXIS), AXIS))
    apply = lambda delta, part: (_after(structure, part, delta), delta)  # noqa: E731
    before = structure.unpack(joined(together(lax.scan(apply, zero, maps)[1], AXIS), width), left)
    first, worst, size = jnp.isinf(shard.residual), jnp.max(worst, axis=0), jnp.max(sizes, axis=0)
    open_ = (worst > _bound(tolerance, size)) & jnp.isfinite(worst) & jnp.isfinite(size)
    going = shard.going & open_ & (shard.iterations < solver.max_iterations)
    going &= first | (worst <= HOPELESS * jnp.maximum(1, shard.residual))
    delta = structure.scan(jac, force, before)
    h, left = (choose_rows(going, jax.tree.map(jnp.add, x, d), x) for x, d in ((h, delta), (left, before)))
    return _Shard(h, left, shard.iterations + going, worst, size, going)


def _after(structure, part, delta):
    total, last = part
    return structure.algebra.add(structure.algebra.apply(total, delta), last)


def _certify(cell, system, tolerance, shard, failed):
    each = largest_each_step(residual(cell, system._replace(h0=shard.left), shard.h))
    exact = leading(each <= _bound(tolerance, shard.size)[:, None])
    time, number = each.shape[1], lax.axis_index(AXIS)
    total = time * lax.axis_size(AXIS)
    prefix = lax.pmin(jnp.where(exact == time, total, number * time + exact), AXIS)
    finite = jnp.isfinite(shard.residual) & jnp.isfinite(shard.size)
    ended = jnp.where(finite, Status.STALLED, Status.DIVERGED)
    status = jnp.where(failed, ended, Status.CONVERGED).astype(jnp.int32)
    return Certificate(shard.iterations, shard.residual, prefix.astype(jnp.int32), status)


def _in_turn(solver, cell, system, shard, failed, certificate):
    """The failed rows one device after another, from the left neighbour's last state."""
    number = lax.axis_index(AXIS)
    alone = replace(solver, method="auto")

    def here(h, left):
        local = system._replace(h0=left)
        guess = choose_rows(failed, first_guess(cell, local, solver.guess, solver.sweeps), h)
        return alone.run(cell, local, guess)

    def turn(k, carry):
        h, left, found = carry
        h, found = lax.cond(number == k, lambda: here(h, left), lambda: (h, found))
        moved = _from_the_left(jax.tree.map(lambda x: x[:, -1], h), system.h0)
        return h, jax.tree.map(lambda x, y: jnp.where(number == k + 1, x, y), moved, left), found

    h, _, found = lax.fori_loop(0, lax.axis_size(AXIS), turn, (shard.h, shard.left, certificate))
    rescued = _whole(found, steps(h))
    iterations = certificate.iterations + rescued.iterations
    return choose_rows(failed, (h, rescued._replace(iterations=iterations)), (shard.h, certificate))


def _whole(each: Certificate, time: int) -> Certificate:
    """The certificate of whole rows from those of every device's part."""
    total, before = time * lax.axis_size(AXIS), time * lax.axis_index(AXIS)
    prefix = lax.pmin(jnp.where(each.exact_prefix >= time, total, before + each.exact_prefix), AXIS)
    iterations, residual, status = lax.pmax((each.iterations, each.residual, each.status), AXIS)
    return Certificate(iterations, residual, prefix.astype(jnp.int32), status)


def _bound(tolerance: float, size: jax.Array) -> jax.Array:
    """The residual that counts as solved, as in `solution.threshold`, from the size of the whole rows."""
    return jnp.where(jnp.isfinite(size), tolerance * jnp.maximum(1, size), -1)


def _from_the_left(last: Any, h0: Any) -> Any:
    """The left neighbour's state (B, D); h0 on the first device."""
    pairs = [(i, i + 1) for i in range(lax.axis_size(AXIS) - 1)]
    moved = jax.tree.map(lambda x: lax.ppermute(x, AXIS, pairs), last)
    return jax.tree.map(lambda x, y: jnp.where(lax.axis_index(AXIS) == 0, x, y), h0, moved)


def _any(rows: jax.Array, others: tuple[str, ...]) -> jax.Array:
    """Whether any row anywhere: all devices must take the same branch."""
    found = jnp.any(rows)
    return lax.pmax(found.astype(jnp.int32), others) > 0 if others else found


def _letters(leading_axes: str, tree: Any) -> Any:
    return jax.tree.map(lambda x: " ".join([*leading_axes.split(), *"_" * (x.ndim - len(leading_axes.split()))]), tree)
