"""Every mixer on a mesh: a model with parameters, rows and time split over devices has the numbers of one device.

In float64, where equal algorithms agree to a hair and a float32 tolerance would hide a wrong border.
"""

import ast
import re
from collections import Counter
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from jaxseq.cells import CELLS
from jaxseq.mixers import MIXERS
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.model.loss import cross_entropy
from jaxseq.ops import sharded
from jaxseq.sharding import batch_sharding, constrain, is_declared, make_mesh, shardings, spec
from tests.mixers.cases import OPTIONS, WIDTH

B, T, VOCAB = 4, 16, 24
CASES = [(name, i) for name in MIXERS for i in range(len(OPTIONS.get(name, [{}])))]
EVERYTHING = (1, 2, 2, 2)  # parameters both ways, rows and time
OTHERS = [(1, 1, 1, 8), (2, 2, 2, 1), (2, 1, 1, 4)]
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run
COLLECTIVES = (
    r"= (\S+|\(.*?\)) (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("  # shapes, kind
)
EXCHANGES = {"lru": 4, "mamba2": 12, "delta_net": 16, "para_rnn": 9}  # four per scan and convolution; a solve has five
WHOLE = {("mamba2", "conv_bc_w")}  # a few taps of what all heads share


@cache
def batch():
    """Documents that start at a border between devices and elsewhere, and padding over a border and at the end."""
    rng = np.random.default_rng(0)
    reset, mask = np.zeros((B, T), bool), np.ones((B, T), bool)
    reset[0, [3, 8]] = reset[1, 9] = True
    mask[1, 5:9] = mask[0, 5] = mask[2, -3:] = False
    return {"tokens": rng.integers(0, VOCAB, (B, T + 1)).astype(np.int32), "reset": reset, "mask": mask}


def numbers(model, params, batch):
    """Logits at valid tokens, state, loss, and gradients."""

    def loss(params):
        flags = {"reset": batch["reset"], "mask": batch["mask"]}
        logits, state = model.apply({"params": params}, batch["tokens"][:, :-1], **flags)
        loss = cross_entropy(logits, batch["tokens"][:, 1:], batch["mask"].astype(logits.dtype))
        return loss.nats / loss.weight, (logits * batch["mask"][..., None], state)

    return jax.value_and_grad(loss, has_aux=True)(params)


@cache
def subject(name, i, remat="none"):
    """A model of two layers, its parameters in float64, and what one device makes of them."""
    options = {name: OPTIONS.get(name, [{}])[i]}
    sizes = {"vocab": VOCAB, "width": WIDTH, "layers": 2, "mlp_width": 8}
    model = LanguageModel(ModelConfig(pattern=(name,), options=options, dtype="float64", remat=remat, **sizes))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"])
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    run = jax.jit(partial(numbers, model)).lower(params, batch())
    return model, params, run.compile(compiler_options=QUICK)(params, batch())


def on_mesh(shape, model, params):
    """The same, compiled for a mesh."""
    mesh = make_mesh(shape)
    layout = shardings(mesh, declare(model))
    args = jax.device_put(params, layout), jax.device_put(batch(), batch_sharding(mesh))
    with jax.set_mesh(mesh):
        run = jax.jit(partial(numbers, model), out_shardings=((None, None), layout)).lower(*args)
    return run.compile(compiler_options=QUICK)(*args)


QUICKEST = ("lru", "short_conv")


def case_of(case):
    """The default suite runs the two cheapest; the others take minutes to compile."""
    return pytest.param(case, id=f"{case[0]}-{case[1]}", marks=() if case[0] in QUICKEST else pytest.mark.slow)


@pytest.mark.parametrize("case", [case_of(case) for case in CASES])
def test_parameters_rows_and_time_over_devices_give_the_numbers_of_one(case, close):
    with jax.enable_x64(True):
        model, params, expected = subject(*case)
        close(on_mesh(EVERYTHING, model, params), expected, "float64")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [*(("para_rnn", shape) for shape in OTHERS), ("mamba2", (2, 1, 1, 4)), ("delta_net", (1, 1, 1, 8))],
)
def test_so_do_other_meshes_and_a_rematerialised_backward_pass(name, shape, close):
    with jax.enable_x64(True):
        model, params, expected = subject(name, 0, "dots")
        close(on_mesh(shape, model, params), expected, "float64")


def test_a_single_token_is_decoded_where_time_is_split(close):
    model = LanguageModel(ModelConfig(pattern=("lru",), vocab=VOCAB, width=WIDTH, layers=1, mlp_width=0))
    params = meta.unbox(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"])
    args = {"params": params}, batch()["tokens"][:, :1]
    state = jax.tree.map(lambda x: x + 1, model.init_state(B))
    expected = jax.jit(model.apply)(*args, state=state)
    with jax.set_mesh(make_mesh((1, 1, 1, 8))):
        close(jax.jit(model.apply)(*args, state=state), expected)


def test_time_that_the_devices_do_not_divide_is_refused():
    mixer = MIXERS["lru"](width=WIDTH)
    with jax.set_mesh(make_mesh((1, 1, 1, 8))), pytest.raises(ValueError, match=r"T must divide by 8, .* seq, got 12"):
        jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 12, WIDTH)))


def test_whatever_looks_back_in_time_comes_from_where_time_can_be_split():
    for path in (Path(__file__).parents[2] / "jaxseq" / "mixers").glob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        whole = {a.name for node in nodes if node.module and node.module == "jaxseq.ops" for a in node.names}
        assert not whole & set(dir(sharded)) - {"matmul"}, path.name


def collectives(name, time):
    """The collectives of the gradient of one layer with time over eight devices: {(kind, shapes): how many}."""
    mixer = MIXERS[name](width=WIDTH, **OPTIONS.get(name, [{}])[0])
    x, flag = jax.ShapeDtypeStruct((2, time, WIDTH), jnp.float32), jax.ShapeDtypeStruct((2, time), bool)
    params = meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, WIDTH))))

    def loss(params, x, reset):
        y, _ = mixer.apply(params, constrain(x, "batch", "time", None), reset=reset)
        return jnp.sum(jnp.sin(constrain(y, "batch", "time", None)))

    with jax.set_mesh(make_mesh((1, 1, 1, 8))):
        run = jax.jit(jax.grad(loss)).lower(params, x, flag)
    found = re.findall(COLLECTIVES, run.compile(compiler_options=QUICK).as_text())
    return Counter((kind, tuple(re.findall(r"\w+\[[\d,]*\]", shapes))) for shapes, kind in found)


@pytest.mark.parametrize("name", [n if n == "lru" else pytest.param(n, marks=pytest.mark.slow) for n in EXCHANGES])
def test_what_travels_does_not_grow_with_time(name):
    once = collectives(name, 64)
    assert once == collectives(name, 128)
    assert sum(count for (kind, _), count in once.items() if kind == "all-to-all") == EXCHANGES[name]
    assert not any(kind == "all-gather" for kind, _ in once)


@pytest.mark.parametrize("name", MIXERS)
def test_every_matrix_of_a_mixer_is_split(name):
    for options in OPTIONS.get(name, [{}]):
        mixer = MIXERS[name](width=WIDTH, **options)
        declared = jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 1, WIDTH)))["params"]
        for path, leaf in jax.tree_util.tree_leaves_with_path(declared, is_leaf=is_declared):
            where = name, jax.tree_util.keystr(path, simple=True, separator=".")
            if leaf.value.ndim > 1 and leaf.value.size > WIDTH and where not in WHOLE:
                assert any(spec(*leaf.axes)), where


def test_every_matrix_of_a_cell_is_split():
    for kind in CELLS.values():
        cell = kind(WIDTH, WIDTH, heads=2)
        for name, leaf in jax.eval_shape(cell.init, jax.random.key(0)).items():
            if leaf.ndim > 1 and leaf.size > WIDTH:
                assert any(spec(*cell.axes()[name])), (kind.__name__, name)
