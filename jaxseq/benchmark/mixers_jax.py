"""Mixers beside their authors' own JAX code: the same weights and inputs, outputs and gradients.

Neither library is one of ours to install: what is not on the path is said to be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from jaxseq.benchmark.timing import device, medians
from jaxseq.mixers.rg_lru import RGLRU
from jaxseq.mixers.s5 import S5

Apply = Callable[[Any, jax.Array], Any]  # parameters, x (B, T, D) -> y
Model = tuple[Apply, Any]  # and its parameters
BATCH, TIME, WIDTH, HEADS, ROUNDS = 2, 1024, 256, 4, 9


class Peer(NamedTuple):
    """Where the code is, our mixer, and their function and parameters for our parameters."""

    package: str
    mixer: Any
    theirs: Callable[[Any], Model]


def beside_jax(name: str) -> Iterator[dict[str, Any]]:
    """One row: the largest deviation of outputs, and how many times faster we are, forward and with the gradients of
    all parameters and of x, medians taken in turn; float32, at (2, 1024) tokens of width 256, one layer.
    """
    peer = PEERS[name]
    head = {"benchmark": "mixers", "mixer": name, "beside": peer.package, "device": device()}
    x = jax.random.normal(jax.random.key(1), (BATCH, TIME, WIDTH))
    params = meta.unbox(jax.jit(peer.mixer.init)(jax.random.key(0), x[:, :1])["params"])
    ours = (lambda p, x: peer.mixer.apply({"params": p}, x)[0]), params
    try:
        theirs = peer.theirs(params)
    except ImportError as error:
        yield head | {"missing": str(error)}
        return
    yield head | {
        "deviation": _deviation(ours, theirs, x),
        "faster_forward": _faster(ours, theirs, x),
        "faster_training": _faster(_gradients(ours), _gradients(theirs), x),
    }


def _deviation(ours: Model, theirs: Model, x: jax.Array) -> float:
    y, expected = (np.asarray(jax.jit(apply)(params, x)) for apply, params in (ours, theirs))
    return float(f"{np.max(np.abs(y - expected)) / np.max(np.abs(expected)):.1e}")


def _faster(ours: Model, theirs: Model, x: jax.Array) -> float:
    times = medians({"ours": _call(ours, x), "theirs": _call(theirs, x)}, ROUNDS)
    return round(times["theirs"] / times["ours"], 2)


def _call(model: Model, x: jax.Array) -> Callable[[], Any]:
    apply, params = jax.jit(model[0]), model[1]
    return lambda: apply(params, x)


def _gradients(model: Model) -> Model:
    apply, params = model
    return jax.grad(lambda params, x: jnp.sum(jnp.sin(apply(params, x))), (0, 1)), params


def _griffin(params: Any) -> Model:
    """The recurrent block of recurrentgemma (google-deepmind/recurrentgemma, Apache-2.0)."""
    module = import_module("recurrentgemma.jax.modules")
    dense = lambda name: {"kernel": params[f"w_{name}"], "bias": params[f"b_{name}"]}  # noqa: E731
    gate = lambda name: {"w": params[f"w_{name}"], "b": params[f"b_{name}"]}  # noqa: E731
    theirs = {
        "linear_y": dense("z"),
        "linear_x": dense("x"),
        "linear_out": dense("o"),
        "conv_1d": {"w": params["conv_w"], "b": params["conv_b"]},
        "rg_lru": {"a_param": params["lambda"], "input_gate": gate("i"), "a_gate": gate("r")},
    }
    block = module.RecurrentBlock(width=WIDTH, num_heads=HEADS)

    def apply(p: Any, x: jax.Array) -> jax.Array:
        places = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
        return block.apply({"params": p}, x, places, return_cache=False)[0]

    return apply, theirs


def _s5(params: Any) -> Model:
    """The state space model of S5 (lindermanlab/S5, MIT), followed by GELU as its layer has it."""
    jnp.__dict__["DeviceArray"] = jax.Array  # what it still annotates with
    module = import_module("s5.ssm")
    parts = lambda x: jnp.moveaxis(x, 0, -1)  # noqa: E731
    theirs = {
        "Lambda_re": params["lambda_re"],
        "Lambda_im": params["lambda_im"],
        "B": jnp.swapaxes(parts(params["b"]), 0, 1),
        "C": jnp.swapaxes(parts(params["c"]), 0, 1),
        "D": params["d"],
        "log_step": params["log_step"][:, None],
    }
    pairs = len(params["log_step"])
    start = {"Lambda_re_init": params["lambda_re"], "Lambda_im_init": params["lambda_im"]}
    model = module.S5SSM(
        **start, V=jnp.eye(2 * pairs, pairs), Vinv=jnp.eye(pairs, 2 * pairs), H=WIDTH, P=pairs,
        C_init="lecun_normal", discretization="zoh", dt_min=1e-3, dt_max=0.1,
    )  # fmt: skip

    def apply(p: Any, x: jax.Array) -> jax.Array:
        return jax.nn.gelu(jax.vmap(lambda x: model.apply({"params": p}, x))(x))

    return apply, theirs


PEERS = {
    "rg_lru": Peer("recurrentgemma", RGLRU(WIDTH, heads=HEADS), _griffin),
    "s5": Peer("S5", S5(WIDTH, activation="gelu"), _s5),
}
