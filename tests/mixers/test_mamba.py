"""Mamba against transformers' MambaMixer, FalconMambaMixer and JambaMambaMixer."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta
from transformers import FalconMambaConfig, JambaConfig, MambaConfig
from transformers.models.falcon_mamba.modeling_falcon_mamba import FalconMambaMixer
from transformers.models.jamba.modeling_jamba import JambaMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer

from jaxseq.convert.families.mamba import JAMBA, MAMBA
from jaxseq.mixers.base import Depth
from jaxseq.mixers.mamba import Mamba
from tests.mixers.oracle import amplify, assert_near, crossed, inputs, stepped
from tests.mixers.weights import count, initial, state_bytes

D, N = 16, 5


def theirs(select_norm):
    """(table, module) of the family with this norm."""
    if select_norm == "none":
        return MAMBA, MambaMixer(MambaConfig(hidden_size=D, state_size=N, time_step_rank=3, num_hidden_layers=1), 0)
    if select_norm == "unit":
        config = FalconMambaConfig(hidden_size=D, state_size=N, time_step_rank=3, num_hidden_layers=1)
        return MAMBA, FalconMambaMixer(config, 0, initialize_mixer_weights=False)
    config = JambaConfig(hidden_size=D, mamba_d_state=N, mamba_dt_rank=3, num_attention_heads=2, num_key_value_heads=2)
    return JAMBA, JambaMambaMixer(config, 0)


@pytest.fixture(params=["none", "unit", "learned"])
def pair(request):
    """Our mixer, its variables, x, and what the other module makes of x."""
    table, module = theirs(request.param)
    amplify(module)
    mixer = Mamba(D, states=N, dt_rank=3, select_norm=request.param)
    x = inputs(D)
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    return mixer, crossed(table, module, mixer), x, wanted


def test_outputs_are_those_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(jax.jit(mixer.apply)(variables, x)[0], wanted)


def test_single_steps_are_the_whole_of_transformers(pair):
    mixer, variables, x, wanted = pair
    assert_near(stepped(mixer, variables, x), wanted)


def test_the_states_of_all_steps_are_never_there_at_once():
    time, mixer = 512, Mamba(D)
    x = jax.ShapeDtypeStruct((1, time, D), jnp.float32)
    variables = jax.eval_shape(mixer.init, jax.random.key(0), x)
    program = str(jax.make_jaxpr(jax.grad(lambda v, x: jnp.sum(mixer.apply(v, x)[0])))(variables, x))
    sizes = [np.prod([int(n) for n in shape.split(",")]) for shape in re.findall(r"f32\[([\d,]+)\]", program)]
    assert time * 2 * D <= max(sizes) < time * 2 * D * 16 / 8


def test_rates_are_1_to_n_and_steps_in_their_range_at_first():
    params = initial(Mamba(64, dt_min=1e-2, dt_max=0.5))
    rates = np.exp(np.asarray(params["a_log"]))
    np.testing.assert_allclose(rates, np.arange(1, 17)[:, None] * np.ones((1, 128)), rtol=1e-5)
    dt = np.log1p(np.exp(np.asarray(params["b_dt"], np.float64)))
    assert 1e-2 * (1 - 1e-4) <= dt.min() < 2e-2
    assert 0.25 < dt.max() <= 0.5 * (1 + 1e-4)
    assert abs(np.mean(np.log(dt)) - np.log(1e-2 * 0.5) / 2) < 0.4  # uniform in the logarithm
    assert 0.45 < np.max(np.abs(params["w_dt"])) <= 0.5  # R = 4
    np.testing.assert_array_equal(params["d"], np.ones(128))


def test_the_way_out_starts_smaller_in_a_deeper_stack():
    def way_out(layers):
        variables = Mamba(D).init(jax.random.key(0), jnp.zeros((1, 2, D)), depth=Depth(jnp.int32(0), layers))
        return meta.unbox(variables)["params"]["w_o"]  # all else is not compiled

    alone, deep = (jax.jit(partial(way_out, layers))() for layers in (1, 16))
    np.testing.assert_allclose(deep, alone / 4, rtol=1e-6)


@pytest.mark.parametrize(("norm", "extra"), [("none", 0), ("learned", 48 + 2 * 16)])
def test_sizes_are_those_of_the_130m_model(norm, extra):
    mixer = Mamba(768, select_norm=norm)
    width, inner, rank, states, taps = 768, 1536, 48, 16, 4
    wanted = inner * (3 * width + 2 * rank + 3 * states + taps + 3) + extra
    assert count(mixer) == wanted
    assert mixer.init_state(1)["h"].size == 24_576
    assert state_bytes(mixer) == 116_736
