"""Mamba2Mixer of transformers against `mixers.mamba2`; Bamba, Zamba-2 and NemotronH have the same eight tensors."""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require
from jaxseq.convert.families.mamba import BACKBONE
from jaxseq.convert.table import Table, joined, joined_taps, joined_vectors, matrix, same, under
from jaxseq.mixers.mamba2 import Mamba2
from jaxseq.model import ModelConfig

MAMBA2: Table = (
    joined(("w_z", "w_x", "w_bc", "w_dt"), "in_proj.weight"),
    joined_taps(("conv_x_w", "conv_bc_w"), "conv1d.weight"),
    joined_vectors(("conv_x_b", "conv_bc_b"), "conv1d.bias"),
    same("a_log", "A_log"),
    same("b_dt", "dt_bias"),
    same("d", "D"),
    same("norm", "norm.weight"),
    matrix("w_o", "out_proj.weight"),
)


# ---- whole models

# JSON has no infinity: transformers writes the second.
NO_LIMIT = ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}])


def _blocks(config: ModelConfig) -> tuple[Table]:
    return ((same("mixer_norm", "norm.weight"), *under("mixer.", "mixer.", MAMBA2)),)


def _read(fields: Fields) -> ModelConfig:
    fields.expect(hidden_act="silu", use_bias=False, use_conv_bias=True)
    fields.ignore("residual_in_fp32", "rescale_prenorm_residual", "time_step_floor", "time_step_rank", "expand")
    if (limit := fields.take("time_step_limit", [0.0, float("inf")])) not in NO_LIMIT:
        raise ValueError(f"config.json: time_step_limit must be [0.0, Infinity] to be converted, got {limit}")
    eps = fields.take("layer_norm_epsilon", 1e-5)
    heads, head_dim = fields.take("num_heads"), fields.take("head_dim")
    options = {
        "inner": heads * head_dim,
        "head_dim": head_dim,
        "states": fields.take("state_size"),
        "groups": fields.take("n_groups"),
        "conv_width": fields.take("conv_kernel"),
        "dt_min": fields.take("time_step_min", 1e-3),
        "dt_max": fields.take("time_step_max", 0.1),
        "norm_eps": eps,
    }
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=fields.take("hidden_size"),
        layers=fields.take("num_hidden_layers"),
        pattern=("mamba2",),
        options={"mamba2": options},
        mlp_width=0,
        residual_scale=False,
        norm_eps=eps,
        tied=fields.take("tie_word_embeddings", False),
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    require(config, mlp_width=0, logit_cap=None)
    mixer = mixer_of(config, "mamba2", Mamba2)
    inner, heads = mixer.sizes()
    if mixer.norm_eps != config.norm_eps:
        raise ValueError(f"mamba2.norm_eps must be model.norm_eps = {config.norm_eps}, got {mixer.norm_eps}")
    if inner % config.width:
        raise ValueError(f"inner = {inner} must be a multiple of width = {config.width}")
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "expand": inner // config.width,
        "num_heads": heads,
        "head_dim": inner // heads,
        "state_size": mixer.states,
        "n_groups": mixer.groups,
        "conv_kernel": mixer.conv_width,
        "time_step_min": mixer.dt_min,
        "time_step_max": mixer.dt_max,
        "layer_norm_epsilon": config.norm_eps,
        "hidden_act": "silu",
        "use_bias": False,
        "use_conv_bias": True,
    }


MAMBA2_LM = Architecture(
    name="Mamba2ForCausalLM",
    model_type="mamba2",
    mixers=frozenset({"mamba2"}),
    layer="backbone.layers.{}.",
    top=BACKBONE,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
)
