"""What to change where a train step does not fit, the cheapest first, with what each is estimated to need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, declare
from jaxseq.model.loss import cross_entropy
from jaxseq.preflight.measure import GIB
from jaxseq.sharding import is_declared

POLICIES = "none", "dots", "states", "full"  # from what keeps most to what keeps least


def hints(config: Experiment, mesh: Mesh, result: dict[str, Any]) -> list[str]:
    """A line for each change of the config that brings the train step's bytes below the chip's, by its own estimate;
    the last one says how far off it is if none does.
    """
    memory, limit = result["memory"], result["hbm_per_chip"]
    arguments = memory["arguments"]
    rest = result["bytes_per_chip"] - arguments
    found = [
        *_policies(config, mesh, arguments, rest, limit),
        *_more_fsdp(config, mesh, arguments, rest, limit),
        *_smaller_batch(config, mesh, arguments, rest, limit),
    ]
    return found or [f"no single change suffices: {_gib(arguments)} of arguments and {_gib(rest)} beside: more chips"]


def _policies(config: Experiment, mesh: Mesh, arguments: int, rest: int, limit: int) -> Iterator[str]:
    """Another remat policy: the difference is what the backward pass keeps."""
    now = kept_bytes(config, mesh, config.model.remat)
    for name in POLICIES[POLICIES.index(config.model.remat) + 1 :]:
        after = arguments + rest - now + kept_bytes(config, mesh, name)
        if after <= limit:
            yield f"--set=model.remat={name}: about {_gib(after)}, more to compute again"
            return


def _more_fsdp(config: Experiment, mesh: Mesh, arguments: int, rest: int, limit: int) -> Iterator[str]:
    """All replicas in one: the state is split over them."""
    data, fsdp, tensor, seq = mesh.devices.shape
    after = arguments // data + rest
    if data > 1 and after <= limit:
        yield f"--set=mesh=1,{data * fsdp},{tensor},{seq}: about {_gib(after)}, more to gather"


def _smaller_batch(config: Experiment, mesh: Mesh, arguments: int, rest: int, limit: int) -> Iterator[str]:
    """Microbatches, which need a copy of the gradients; or fewer rows."""
    rows = config.data.batch // config.train.accumulate // (mesh.shape["data"] * mesh.shape["fsdp"])
    for parts in (n for n in range(2, rows + 1) if rows % n == 0):
        after = arguments + arguments // 3 + rest // parts
        if after <= limit:
            yield f"--set=train.accumulate={config.train.accumulate * parts}: about {_gib(after)}, the same batch"
            return


def kept_bytes(config: Experiment, mesh: Mesh, remat: str) -> int:
    """Bytes on one chip that the backward pass of a microbatch keeps under a remat policy, parameters included."""
    model = LanguageModel(replace(config.model, remat=remat))
    params = jax.tree.map(lambda x: x.value, declare(model), is_leaf=is_declared)
    tokens = jax.ShapeDtypeStruct((config.data.batch // config.train.accumulate, config.data.length), jnp.int32)

    def kept(params: Any, tokens: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            logits, _ = model.apply({"params": params}, tokens, reset=tokens == 0)
            return cross_entropy(logits, tokens, jnp.ones(tokens.shape, jnp.float32)).nats

        return jax.vjp(loss, params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(kept, params, tokens))
    split = mesh.shape["data"] * mesh.shape["fsdp"] * mesh.shape["seq"]
    return sum(x.size * x.dtype.itemsize for x in leaves) // split


def _gib(number: float) -> str:
    return f"{number / GIB:.2f} GiB"
