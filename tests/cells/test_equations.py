"""Cells that no installed library has, against their equations in another form: numpy, float64, one step at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.cells.nonlinearity import NONLINEARITIES

TIME, BATCH, INPUT, STATE, HEADS = 5, 2, 4, 6, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def spread(w):
    """A matrix from its diagonal blocks or, without such, its diagonal."""
    return np.diag(w) if w.ndim == 1 else np.block([[w[i] * (i == j) for j in range(len(w))] for i in range(len(w))])


def problem(name, **fields):
    """A cell, loud parameters, x and a state, all float64 and numpy."""
    cell = CELLS[name](INPUT, STATE, heads=HEADS, **fields)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    params = {key: rng.normal(size=like.shape) for key, like in shapes.items()}
    x = rng.normal(size=(BATCH, TIME, INPUT))
    return cell, params, x, tuple(rng.uniform(0.1, 0.9, (BATCH, STATE)) for _ in cell.states)


def march(cell, params, x, h):
    """y (B, T, D) and the last state, one step after the other, in float64."""
    with jax.enable_x64(True):
        params, x, h = jax.tree.map(jnp.asarray, (params, x, h))
        u = cell.inputs(params, x)
        outputs = []
        for t in range(TIME):
            u_t = jax.tree.map(lambda leaf, t=t: leaf[:, t], u)
            h = cell.step(params, h, u_t)
            outputs.append(cell.output(params, h, u_t))
        return np.stack(outputs, axis=1), h


def check(name, equations, close, **fields):
    """The cell must give the (states, y) of `equations(gates, params, *states)`; gates are x W + b, maps matrices."""
    cell, params, x, states = problem(name, **fields)
    full = {
        key: [spread(w) for w in value] for key, value in params.items() if key in ("w", "r", "o") and value.ndim > 1
    }
    if "o" in params and params["o"].ndim == 3:
        full["o"] = spread(params["o"])
    expected = []
    now = states
    for t in range(TIME):
        gates = [x[:, t] @ w + b for w, b in zip(full["w"], params["b"], strict=True)]
        now, y = equations(gates, {**params, **full}, *now)
        expected.append(y)
    y, final = march(cell, params, x, states if len(states) > 1 else states[0])
    close(y, np.stack(expected, 1), "float64")
    close(final, now if len(now) > 1 else now[0], "float64")


@pytest.mark.parametrize("recurrent", ["dense", "diagonal"])
def test_lem_makes_y_from_the_new_z(recurrent, close):
    def equations(gates, p, z, y):
        bar, dt, u_z, u_y = gates
        r_bar, r_dt, r_z, r_y = p["r"]
        rate, rate_bar = 0.7 * sigmoid(dt + y @ r_dt), 0.7 * sigmoid(bar + y @ r_bar)
        new_z = z + rate * (np.tanh(u_z + y @ r_z) - z)
        new_y = y + rate_bar * (np.tanh(u_y + new_z @ r_y) - y)
        return (new_z, new_y), new_y

    check("lem", equations, close, recurrent=recurrent, dt=0.7)


@pytest.mark.parametrize("recurrent", ["dense", "diagonal"])
def test_slstm_is_the_plain_exponential_gating_behind_its_stabiliser(recurrent, close):
    def equations(gates, p, c, n, m, h):
        i, f, z, o = (gate + h @ r for gate, r in zip(gates, p["r"], strict=True))
        plain_c = sigmoid(f) * np.exp(m) * c + np.exp(i) * np.tanh(z)
        plain_n = sigmoid(f) * np.exp(m) * n + np.exp(i)
        new_m = np.maximum(i, np.log(sigmoid(f)) + m)
        h = sigmoid(o) * plain_c / plain_n
        return (plain_c / np.exp(new_m), plain_n / np.exp(new_m), new_m, h), h

    check("slstm", equations, close, recurrent=recurrent)


@pytest.mark.parametrize("recurrent", ["dense", "diagonal"])
def test_scrn_feeds_back_h_and_reads_out_both_states(recurrent, close):
    def equations(gates, p, s, h):
        (a, r), (u, v) = p["r"], p["o"]
        s = 0.9 * s + (1 - 0.9) * gates[0]
        h = sigmoid(s @ a + gates[1] + h @ r)
        return (s, h), h @ u + s @ v

    check("scrn", equations, close, recurrent=recurrent, alpha=0.9)


def test_elstm_reads_its_output_gate_from_the_new_c(close):
    def equations(gates, p, c):
        f, z = sigmoid(gates[0] + p["a"][0] * c), np.tanh(gates[1] + p["a"][1] * c)
        c = z + f * (c - z)
        return (c,), sigmoid(gates[2] + c @ p["o"]) * c

    check("elstm", equations, close)


def test_qlstm_has_one_added_to_its_forget_gate(close):
    def equations(gates, p, c):
        f, i, z, o = gates
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(z)
        return (c,), sigmoid(o) * np.tanh(c)

    check("qlstm", equations, close)


def test_min_gru_weights_the_candidate_by_z(close):
    def equations(gates, p, h):
        z = sigmoid(gates[0])
        h = h + z * (gates[1] - h)
        return (h,), h

    check("min_gru", equations, close)


def test_min_lstm_shares_between_its_two_gates(close):
    def equations(gates, p, h):
        f, i = sigmoid(gates[0]), sigmoid(gates[1])
        h = (f * h + i * gates[2]) / (f + i)
        return (h,), h

    check("min_lstm", equations, close)


def test_para_gru_takes_each_nonlinearity_where_it_says(close):
    def equations(gates, p, h):
        z, r = sigmoid(p["a"][0] * h + gates[0]) / 2, np.log1p(np.exp(p["a"][1] * h + gates[1]))
        h = (1 - z) * h + z * (p["a"][2] * h * r + gates[2])
        return (h,), h

    check("para_gru", equations, close, nonlin_update="half_sigmoid", nonlin_reset="softplus", nonlin_state="identity")


def test_para_lstm_takes_each_nonlinearity_where_it_says(close):
    def equations(gates, p, c, h):
        a_f, a_z, a_o = p["a"]
        f = sigmoid(a_f * h + gates[0] + p["p"][0] * c) / 2
        c = f * c + (1 - f) * (a_z * h + gates[1])
        h = np.log1p(np.exp(a_o * h + gates[2] + p["p"][1] * c)) * sigmoid(c)
        return (c, h), h

    fields = {"nonlin_f": "half_sigmoid", "nonlin_o": "softplus", "nonlin_c": "identity", "nonlin_state": "sigmoid"}
    check("para_lstm", equations, close, **fields)


@pytest.mark.parametrize(
    ("name", "fields", "invariant"),
    [
        ("para_gru", {"nonlin_update": "softplus"}, {}),
        ("para_gru", {"nonlin_state": "relu"}, {}),
        ("para_gru", {"nonlin_update": "half_sigmoid", "nonlin_state": "sigmoid"}, {"h": (0.0, 1.0)}),
        ("para_lstm", {"nonlin_f": "exp"}, {"h": (-1.0, 1.0)}),
        ("para_lstm", {"nonlin_c": "gelu"}, {"h": (-1.0, 1.0)}),
        ("para_lstm", {"nonlin_state": "relu"}, {"c": (-1.0, 1.0)}),
        ("para_lstm", {"nonlin_o": "half_sigmoid"}, {"c": (-1.0, 1.0), "h": (-0.5, 0.5)}),
        ("para_lstm", {"nonlin_o": "tanh", "nonlin_state": "sigmoid"}, {"c": (-1.0, 1.0), "h": (-1.0, 1.0)}),
        ("elman", {"nonlinearity": "relu"}, {}),
        ("ind_rnn", {"nonlinearity": "tanh"}, {"h": (-1.0, 1.0)}),
        ("lem", {"dt": 1.5}, {}),
    ],
)
def test_an_interval_is_claimed_only_where_the_nonlinearities_keep_it(name, fields, invariant):
    assert CELLS[name](INPUT, STATE, **fields).invariant == invariant


def test_slstm_starts_from_nothing_whatever_its_gates_say():
    cell = CELLS["slstm"](STATE, STATE)
    zero = (jnp.zeros(1),) * 4
    params = {"r": jnp.zeros((4, 1, 1, 1))}
    for i in (-300.0, 0.0, 300.0):
        gates = (jnp.full(1, i), jnp.full(1, 5.0), jnp.full(1, 0.5), jnp.zeros(1))
        c, n, m, h = CELLS["slstm"](1, 1).step(params, zero, gates)
        np.testing.assert_allclose([c[0], n[0], m[0], h[0]], [np.tanh(0.5), 1, i, np.tanh(0.5) / 2], rtol=1e-6)
    assert cell.states == ("c", "n", "m", "h")


@pytest.mark.parametrize("state", ["empty", "m from i", "m from f", "tie"])
def test_slstm_has_the_gradient_of_the_plain_exponential_gating(state, close):
    with jax.enable_x64(True):
        params = {"r": jnp.asarray([0.5, -0.3, 0.2, 0.1]).reshape(4, 1, 1, 1)}
        gates = tuple(jnp.asarray([value]) for value in (0.25, 0.75, 0.9, 0.2))
        tie = 0.25 - jax.nn.log_sigmoid(0.75)  # log σ(f~) + m is i~ exactly
        values = {"empty": (0, 0, 0, 0), "m from i": (0.3, 0.7, 0.1, 0.1), "m from f": (0.3, 0.7, 2, 0.1)}
        h0 = tuple(jnp.asarray([value], float) for value in values.get(state, (0.3, 0.7, tie, 0)))
        assert (jax.nn.log_sigmoid(gates[1]) + h0[2] == gates[0]) == (state == "tie")

        def stabilised(gates, h0):
            *_, h = CELLS["slstm"](1, 1).step(params, h0, gates)
            return jnp.sum(h)

        def plain(gates, h0):
            c, n, m, h = h0
            i, f, z, o = (gate + h * r for gate, r in zip(gates, params["r"].ravel(), strict=True))
            kept, new = jax.nn.sigmoid(f) * jnp.exp(m), jnp.exp(i)
            return jnp.sum(jax.nn.sigmoid(o) * (kept * c + new * jnp.tanh(z)) / (kept * n + new))

        close(jax.grad(stabilised, (0, 1))(gates, h0), jax.grad(plain, (0, 1))(gates, h0), "float64")


def test_slstm_does_not_depend_on_its_units(close):
    cell, params, x, (c, n, m, h) = problem("slstm")
    one, _ = march(cell, params, x, (c, n, m, h))
    other, _ = march(cell, params, x, (c * np.e**2, n * np.e**2, m - 2, h))
    close(other, one, "float64")


def test_min_lstm_holds_where_both_gates_underflow():
    cell = CELLS["min_lstm"](1, 1)
    params = {"w": jnp.zeros((3, 1, 1, 1)), "b": jnp.asarray([[-200.0], [-200.0], [3.0]])}
    a, b = cell.inputs(params, jnp.zeros((1, 1, 1)))
    np.testing.assert_allclose([a[0, 0, 0], b[0, 0, 0]], [0.5, 1.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["qlstm", "min_gru", "min_lstm"])
def test_cells_whose_gates_see_x_alone_are_linear(name):
    cell, params, x, _ = problem(name)
    u = cell.inputs(jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), params), jnp.asarray(x, jnp.float32))
    h = jnp.full((BATCH, TIME, STATE), 0.5)
    slopes = [jax.jvp(lambda h: cell.step(params, h, u), (at,), (jnp.ones_like(h),))[1] for at in (h, 9 * h)]
    np.testing.assert_array_equal(*slopes)


def test_a_step_of_unicornn_keeps_the_area(close):
    cell, params, x, (z, y) = problem("unicornn", dt=2.0, alpha=0.5)
    with jax.enable_x64(True):
        params, x, h = jax.tree.map(jnp.asarray, (params, x, (z, y)))
        u = jax.tree.map(lambda leaf: leaf[:, 0], cell.inputs(params, x))
        one, zero = jnp.ones_like(z), jnp.zeros_like(z)
        (zz, yz), (zy, yy) = (
            jax.jvp(lambda h: cell.step(params, h, u), (h,), (v,))[1] for v in ((one, zero), (zero, one))
        )
        close(zz * yy - zy * yz, one, "float64")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("para_gru", {"nonlin_reset": "sine"}, "nonlin_reset must be one of elu, exp, .*, got 'sine'"),
        ("para_lstm", {"nonlin_c": "Tanh"}, "nonlin_c must be one of elu, exp, .*, got 'Tanh'"),
        ("elman", {"nonlinearity": ""}, "nonlinearity must be one of elu, exp, .*, got ''"),
        ("ind_rnn", {"nonlinearity": "x"}, "nonlinearity must be one of elu, exp, .*, got 'x'"),
        ("mgu", {"nonlinearity": "x"}, "nonlinearity must be one of elu, exp, .*, got 'x'"),
        ("lem", {"dt": 0.0}, "dt must be positive, got 0.0"),
        ("scrn", {"alpha": 1.5}, "alpha must be between 0 and 1, got 1.5"),
        ("slstm", {"depth": -0.5}, "depth must be between 0 and 1, got -0.5"),
        ("gru", {"recurrent": "full"}, "recurrent must be one of dense, diagonal, got 'full'"),
    ],
)
def test_wrong_fields_are_named(name, fields, message):
    with pytest.raises(ValueError, match=message):
        CELLS[name](INPUT, STATE, **fields)


def test_every_nonlinearity_is_a_field_of_the_para_cells():
    for name in NONLINEARITIES:
        CELLS["para_gru"](INPUT, STATE, nonlin_update=name, nonlin_reset=name, nonlin_state=name)
        CELLS["para_lstm"](INPUT, STATE, nonlin_f=name, nonlin_o=name, nonlin_c=name, nonlin_state=name)
