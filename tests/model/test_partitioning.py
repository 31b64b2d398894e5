"""What the compiler says of a train step on a mesh: that it need not make an array whole to split it anew."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxseq.config import load_config
from jaxseq.mixers import MIXERS
from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.model.loss import cross_entropy
from jaxseq.preflight.programs import programs
from jaxseq.sharding import batch_sharding, is_declared, make_mesh, shardings
from tests.mixers.cases import OPTIONS, WIDTH

B, T, VOCAB = 4, 16, 24
MESHES = [(2, 2, 2, 1), (1, 2, 2, 2)]
WARNING = "Involuntary full rematerialization"
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run


@pytest.fixture
def said(capfd):
    """said(lowered): what the compiler writes to stderr. A program from the cache would not be partitioned again."""

    def compile_(lowered):
        lowered.compile(compiler_options=QUICK)
        return capfd.readouterr().err

    jax.config.update("jax_enable_compilation_cache", False)
    yield compile_
    jax.config.update("jax_enable_compilation_cache", True)


def gradient(name, shape):
    """The lowered gradient of a model of two layers on a mesh."""
    options = {name: OPTIONS.get(name, [{}])[0]}
    config = ModelConfig(pattern=(name,), options=options, vocab=VOCAB, width=WIDTH, layers=2, mlp_width=8)
    model, mesh = LanguageModel(config), make_mesh(shape)
    declared, rows = declare(model), batch_sharding(mesh)
    layout = shardings(mesh, declared)

    def placed(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype, sharding=sharding)

    def loss(params, tokens, reset):
        logits, _ = model.apply({"params": params}, tokens[:, :-1], reset=reset)
        return cross_entropy(logits, tokens[:, 1:], jnp.ones(reset.shape)).nats

    params = jax.tree.map(placed, declared, layout, is_leaf=is_declared)
    tokens = jax.ShapeDtypeStruct((B, T + 1), jnp.int32, sharding=rows)
    reset = jax.ShapeDtypeStruct((B, T), bool, sharding=rows)
    with jax.set_mesh(mesh):
        return jax.jit(jax.grad(loss), out_shardings=layout).lower(params, tokens, reset)


def test_the_warning_is_seen_where_it_belongs(said):
    def rows(x):
        split = jax.lax.with_sharding_constraint(x, PartitionSpec("data", "tensor"))
        taken = jnp.take(split, jnp.arange(16)[::-1], axis=0)
        return jnp.sin(jax.lax.with_sharding_constraint(taken, PartitionSpec(("tensor", "fsdp"), None)))

    with jax.set_mesh(make_mesh((2, 2, 2, 1))):
        assert WARNING in said(jax.jit(rows).lower(jnp.ones((16, 16))))


@pytest.mark.parametrize(
    ("name", "shape"),
    [*(("lru", shape) for shape in MESHES), *(pytest.param(n, MESHES[0], marks=pytest.mark.slow) for n in MIXERS)],
    ids=str,
)
def test_no_array_is_made_whole_to_be_split_anew(name, shape, said):
    assert WARNING not in said(gradient(name, shape))


WHOLE_WIDTH = ("gated_delta_net", "rwkv4")  # three heads, an odd vocabulary: they do not divide over tensor
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


def shortened(path):
    """A shipped experiment with its pattern twice, on few rows and steps; its widths are compiled, not run."""
    config = load_config(path)
    model = replace(config.model, layers=2 * len(config.model.pattern))
    data, train = replace(config.data, length=64, batch=8, shards=None), replace(config.train, accumulate=1)
    return replace(config, model=model, data=data, train=train)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_train_step_of_a_config_makes_no_array_whole_to_split_it_anew(path, said):
    mesh = (2, 4, 1, 1) if path.stem in WHOLE_WIDTH else MESHES[0]
    assert WARNING not in said(programs(shortened(path), make_mesh(mesh))["train"].lower())
