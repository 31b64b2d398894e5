"""What every cell in the registry promises of its step, in every form it has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS, Dense, Heads, RecurrentCell

WIDTH, HEADS = 4, 2
FORMS = [
    pytest.param(name, form, id=f"{name}-{form['recurrent']}" if form else name)
    for name, kind in CELLS.items()
    for form in ([{"recurrent": "dense"}, {"recurrent": "diagonal"}] if issubclass(kind, RecurrentCell) else [{}])
]


@pytest.fixture
def wide():
    """float64, in most tests here so that their operations are compiled once."""
    with jax.enable_x64(True):
        yield


def problem(name, form, shape=()):
    """A cell, loud parameters, states in (0.1, 0.9) and inputs of one step with the leading axes `shape`."""
    cell = CELLS[name](WIDTH, WIDTH, heads=HEADS, **form)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = {key: jnp.asarray(rng.normal(size=like.shape)) for key, like in shapes.items()}
    x = jnp.asarray(rng.normal(size=(1, max(1, int(np.prod(shape))), WIDTH)))
    u = jax.tree.map(lambda leaf: leaf.reshape(*shape, WIDTH), cell.inputs(params, x))
    states = tuple(jnp.asarray(rng.uniform(0.1, 0.9, (*shape, WIDTH))) for _ in cell.states)
    return cell, params, states if len(states) > 1 else states[0], u


def pattern(structure):
    """Which channels may depend on which."""
    if isinstance(structure, Dense):
        return np.ones((WIDTH, WIDTH), bool)
    size = structure.size if isinstance(structure, Heads) else 1
    return np.kron(np.eye(WIDTH // size), np.ones((size, size))).astype(bool)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_jacobian_is_zero_off_the_declared_structure(name, form, wide):
    cell, params, h, u = problem(name, form)
    for block in jax.tree.leaves(jax.jacfwd(lambda h: cell.step(params, h, u))(h)):
        np.testing.assert_array_equal(np.where(pattern(cell.structure), 0, block), 0)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_leading_axes_are_independent_problems(name, form, close, wide):
    cell, params, h, u = problem(name, form, (2, 3))
    together = cell.step(params, h, u)
    pick = lambda tree: jax.tree.map(lambda leaf: leaf[1, 2], tree)  # noqa: E731
    close(pick(together), cell.step(params, pick(h), pick(u)), "float64")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_float64_stays_float64(name, form, wide):
    cell, params, h, u = problem(name, form, (2, 3))
    after = cell.step(params, h, u)
    y = cell.output(params, after, u)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, u, after, y))} == {np.dtype(np.float64)}
    assert y.shape == (2, 3, WIDTH)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_initial_parameters_are_float32_and_their_axes_fit(name, form):
    cell = CELLS[name](WIDTH, WIDTH, heads=HEADS, **form)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    assert {value.dtype for value in params.values()} == {np.dtype(np.float32)}
    assert all(len(cell.axes()[key]) == value.ndim for key, value in params.items() if key in cell.axes())
    assert set(cell.decay) | set(cell.clip) <= set(params) | {"m"}


@pytest.mark.parametrize("name", [name for name in CELLS if CELLS[name](WIDTH, WIDTH).invariant])
def test_states_do_not_leave_their_interval_whatever_the_weights(name, wide):
    cell, params, h, _ = problem(name, {})
    rng = np.random.default_rng(1)
    for scale in (0.3, 3.0, 30.0, 300.0):
        x = jnp.asarray(scale * rng.normal(size=(1, 1, WIDTH)))
        loud = jax.tree.map(lambda value, scale=scale: scale * value, params)
        h = cell.step(loud, h, jax.tree.map(lambda leaf: leaf[0, 0], cell.inputs(loud, x)))
        for state, value in zip(cell.states, jax.tree.leaves(h), strict=True):
            low, high = cell.invariant.get(state, (-np.inf, np.inf))
            assert low <= float(jnp.min(value))
            assert float(jnp.max(value)) <= high
