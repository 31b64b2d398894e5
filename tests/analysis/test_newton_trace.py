"""Residual and exact prefix against iterations."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.analysis.newton_trace import newton_trace, trace
from jaxseq.cells import CELLS
from jaxseq.model import LanguageModel, ModelConfig
from jaxseq.solvers import Newton, solve

K = 5


def test_the_trace_is_that_of_newton_with_so_many_iterations(close):
    cell = CELLS["para_gru"](4, 4)
    params = {**cell.init(jax.random.key(0)), "a": jax.random.normal(jax.random.key(2), (3, 4))}
    u = cell.inputs(params, jax.random.normal(jax.random.key(1), (2, 20, 4)))
    h0 = cell.init_state(2)
    residual, prefix = jax.jit(lambda u: newton_trace(cell, params, u, h0, iterations=K))(u)
    found = jax.jit(lambda u: solve(cell, params, u, h0, solver=Newton(max_iterations=3, on_failure="return")))(u)
    assert float(jnp.max(found.residual)) > 1e-6  # not solved yet, so there is something to compare
    close((residual[2], prefix[2]), (found.residual, found.exact_prefix))
    assert int(prefix[-1].min()) == 20


def test_every_layer_is_traced_on_the_inputs_that_the_model_gives_it():
    model = LanguageModel(ModelConfig(width=8, layers=4, pattern=("lru", "para_rnn"), mlp_width=0))
    rng = np.random.default_rng(0)
    batch = {"tokens": rng.integers(0, 256, (2, 13)), "reset": rng.random((2, 12)) < 0.2}
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), batch["tokens"]))["params"]
    params = jax.tree.map(lambda x: 3 * x, params)
    rows = list(trace(model, params, batch, K))
    run = jax.jit(lambda p: model.apply(p, batch["tokens"][:, :-1], reset=batch["reset"], mutable=["diagnostics"])[1])
    seen = run({"params": params})["diagnostics"]["layers"]["block_1"]["mixer"]
    assert [(row["layer"], row["cell"], row["length"]) for row in rows] == [(1, "para_gru", 12), (3, "para_gru", 12)]
    for row, needed in zip(rows, seen["iterations_max"], strict=True):
        assert row["exact_prefix"].index(12) == int(needed) - 1  # of 1, 2, ... iterations
