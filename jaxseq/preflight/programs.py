"""The programs of a run, lowered for a mesh without any data: the train step, reading a prompt, drawing a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxseq.experiment import Experiment
from jaxseq.generate import CHUNK, Sampling, advance, decode_step
from jaxseq.model import LanguageModel, count, declare
from jaxseq.sharding import batch_sharding, is_declared, replicated, shardings, spec
from jaxseq.train.optimizer import make_optimizer
from jaxseq.train.state import abstract_state, placed, state_shardings
from jaxseq.train.step import make_step

PROGRAMS = "train", "prefill", "decode"


@dataclass(frozen=True)
class Program:
    """What compiles, the bytes of its arguments on one chip, the tokens it reads, and what its matrix products would
    cost without rematerialisation: 6 FLOPs per parameter and token to train, 2 to read.
    """

    lower: Callable[[], Any]
    arguments: int
    tokens: int
    model_flops: int


def programs(config: Experiment, mesh: Mesh) -> dict[str, Program]:
    """By name, see PROGRAMS. Prompts are one to a chip of the mesh's data and fsdp axes, in chunks as `generate` reads.

    Raises ValueError for a mesh that does not divide the batch or a parameter.
    """
    check_rows(config, mesh)
    model = LanguageModel(config.model)
    return {"train": _train(config, model, mesh), **_serving(config, model, mesh)}


def check_rows(config: Experiment, mesh: Mesh) -> None:
    """Raises ValueError unless the rows of a microbatch, and the steps of time, divide over the mesh."""
    rows, parts = config.data.batch // config.train.accumulate, mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % parts:
        raise ValueError(f"data.batch / train.accumulate = {rows} rows must divide over data x fsdp = {parts} chips")
    if config.data.length % mesh.shape["seq"]:
        raise ValueError(f"data.length = {config.data.length} must divide over seq = {mesh.shape['seq']} chips")


def parameters(config: Experiment) -> int:
    """The number of the model's parameters."""
    return count(declare(LanguageModel(config.model)))


def _train(config: Experiment, model: LanguageModel, mesh: Mesh) -> Program:
    weights, rows, length = config.train.weights, config.data.batch, config.data.length
    optimizer = make_optimizer(config, declare(model))
    state = placed(abstract_state(model, optimizer, weights), state_shardings(model, optimizer, mesh, weights))
    batch = {
        "tokens": _rows(mesh, (rows, length + 1), jnp.int32),
        "reset": _rows(mesh, (rows, length), jnp.bool_),
        "weight": _rows(mesh, (rows, length), jnp.float32),
    }
    flops = 6 * parameters(config) * rows * length
    return _program(make_step(model, optimizer, config, mesh), (state, batch), mesh, rows * length, flops)


def _serving(config: Experiment, model: LanguageModel, mesh: Mesh) -> dict[str, Program]:
    declared = declare(model)
    params = placed(jax.tree.map(lambda x: x.value, declared, is_leaf=is_declared), shardings(mesh, declared))
    rows, length = mesh.shape["data"] * mesh.shape["fsdp"], min(CHUNK, config.data.length)
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec("layers", "batch"))),
        jax.eval_shape(lambda: model.init_state(rows)),
    )
    chunk, mask = _rows(mesh, (rows, length), jnp.int32), _rows(mesh, (rows, length), jnp.bool_)
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    keys, index = _rows(mesh, key.shape, key.dtype), jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    drawn = model.apply, params, state, _rows(mesh, (rows,), jnp.int32), keys, index, Sampling(), config.model.vocab
    each = 2 * count(declared) * rows
    return {
        "prefill": _program(advance, (model.apply, params, state, chunk, mask), mesh, rows * length, each * length),
        "decode": _program(decode_step, drawn, mesh, rows, each),
    }


def _program(function: Any, args: tuple[Any, ...], mesh: Mesh, tokens: int, flops: int) -> Program:
    def lower() -> Any:
        with jax.set_mesh(mesh):
            return function.lower(*args)

    return Program(lower, bytes_on_chip(args), tokens, flops)


def bytes_on_chip(tree: Any) -> int:
    """Bytes that one chip holds of all the arrays of a tree of shapes with shardings."""
    arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.ShapeDtypeStruct)]
    return sum(_one_bytes(x) for x in arrays)


def _one_bytes(x: jax.ShapeDtypeStruct) -> int:
    assert x.sharding is not None
    shard, entries = x.sharding.shard_shape(x.shape), 1
    for n in shard:
        entries *= n
    return entries * (8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)


def _rows(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array whose rows are split over the mesh, as `train.step.place` lays a batch out."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))
