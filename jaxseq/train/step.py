"""One optimizer step: loss, gradients over microbatches, update, metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel
from jaxseq.model.loss import Loss, cross_entropy
from jaxseq.sharding import batch_sharding, replicated
from jaxseq.train.state import TrainState, state_shardings

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

WORST = ("iterations_max", "residual")


def make_step(
    model: LanguageModel, optimizer: optax.GradientTransformation, config: Experiment, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step (state, batch) -> (state, metrics), the old state's memory given to the new one.

    A batch is {"tokens": (B, T+1) int32, "reset": (B, T) bool, "weight": (B, T) float32}, laid out by `place`. Metrics
    are float32 scalars: loss (nats per target token), grad_norm, tokens (targets in the batch) and what nonlinear
    mixers report of their solves (means over layers). With microbatches the loss and the gradient are those of the
    whole batch. The gradient is of what `train.weights` trains.
    """
    weights = config.train.weights

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trained = weights.trained(state.params)
        objective = partial(_objective, lambda x: weights.parameters(state.params, x), model, config.optim.z_loss)
        grads, loss, diagnostics = _accumulate(objective, config.train.accumulate, trained, batch)
        grads = jax.tree.map(lambda g: g / loss.weight, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = weights.moved(state.params, optax.apply_updates(trained, updates), state.step)
        metrics = {
            "loss": loss.nats / loss.weight,
            "grad_norm": optax.tree.norm(grads),
            "tokens": loss.weight,
            **diagnostics,
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    layout = state_shardings(model, optimizer, mesh, weights)
    return jax.jit(step, out_shardings=(layout, replicated(mesh)), donate_argnums=0)


def place(batch: dict[str, Any], mesh: Mesh) -> Batch:
    """This process's rows of a batch (numpy), as arrays over the whole mesh. Rows are split, time is not yet."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def _accumulate(objective: Callable[..., Any], parts: int, trained: Any, batch: Batch) -> tuple[Any, Loss, Metrics]:
    """Sums of gradients and losses over the microbatches, and the mean of their diagnostics."""

    def one(microbatch: Batch) -> tuple[Any, Loss, Metrics]:
        (_, (loss, diagnostics)), grads = jax.value_and_grad(objective, has_aux=True)(trained, microbatch)
        return grads, loss, diagnostics

    if parts == 1:
        return one(batch)
    # Row r goes to microbatch r % parts, so that each microbatch is spread over all devices.
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)
    first = jax.eval_shape(one, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

    def add(total: Any, microbatch: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, one(microbatch)), None

    grads, loss, diagnostics = lax.scan(add, zeros, split)[0]
    return grads, loss, jax.tree.map(lambda x: x / parts, diagnostics)


def _objective(
    parameters: Callable[[Any], Any], model: LanguageModel, z_loss: float, trained: Any, batch: Batch
) -> tuple[jax.Array, Any]:
    inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
    variables = {"params": parameters(trained)}
    (logits, _), seen = model.apply(variables, inputs, reset=batch["reset"], mutable=["diagnostics"])
    loss = cross_entropy(logits, targets, batch["weight"])
    return loss.nats + z_loss * loss.z, (loss, summarise(seen.get("diagnostics", {})))


def summarise(diagnostics: Any) -> Metrics:
    """What mixers report, one scalar per name: the mean over layers, or what is worst of any layer (WORST)."""
    by_name: dict[str, list[jax.Array]] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(diagnostics):
        by_name.setdefault(path[-1].key, []).append(value.ravel())  # one entry per repeat of the pattern
    values = {name: jnp.concatenate(found) for name, found in by_name.items()}
    return {name: jnp.max(found) if name in WORST else jnp.mean(found) for name, found in values.items()}
