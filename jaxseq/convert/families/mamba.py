"""MambaMixer, FalconMambaMixer and JambaMambaMixer of transformers against `mixers.mamba`."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require
from jaxseq.convert.table import Table, joined, matrix, same, taps, under
from jaxseq.mixers.mamba import Mamba
from jaxseq.model import ModelConfig

MAMBA: Table = (  # FalconMamba's too, with select_norm "unit"
    joined(("w_x", "w_z"), "in_proj.weight"),
    taps("conv_w", "conv1d.weight"),
    same("conv_b", "conv1d.bias"),
    matrix("w_select", "x_proj.weight"),
    matrix("w_dt", "dt_proj.weight"),
    same("b_dt", "dt_proj.bias"),
    matrix("a_log", "A_log"),
    same("d", "D"),
    matrix("w_o", "out_proj.weight"),
)

JAMBA: Table = (  # with select_norm "learned"
    *MAMBA,
    same("norm_dt", "dt_layernorm.weight"),
    same("norm_b", "b_layernorm.weight"),
    same("norm_c", "c_layernorm.weight"),
)


# ---- whole models

BACKBONE: Table = (
    same("embedding", "backbone.embeddings.weight"),
    same("norm", "backbone.norm_f.weight"),
    matrix("head", "lm_head.weight"),
)


def _blocks(config: ModelConfig) -> tuple[Table]:
    return ((same("mixer_norm", "norm.weight"), *under("mixer.", "mixer.", MAMBA)),)


def _read(fields: Fields, select_norm: str) -> ModelConfig:
    fields.expect(hidden_act="silu", use_bias=False, use_conv_bias=True, time_step_scale=1.0)
    fields.ignore(
        *("residual_in_fp32", "time_step_init_scheme", "rescale_prenorm_residual", "time_step_floor", "expand"),
        *("use_mambapy", "use_associative_scan"),
    )
    options: dict[str, Any] = {
        "inner": fields.take("intermediate_size"),
        "states": fields.take("state_size"),
        "dt_rank": fields.take("time_step_rank"),
        "conv_width": fields.take("conv_kernel"),
        "dt_min": fields.take("time_step_min", 1e-3),
        "dt_max": fields.take("time_step_max", 0.1),
        "select_norm": select_norm,
    }
    if select_norm == "unit":
        options["norm_eps"] = fields.take("mixer_rms_eps", 1e-6)
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=fields.take("hidden_size"),
        layers=fields.take("num_hidden_layers"),
        pattern=("mamba",),
        options={"mamba": options},
        mlp_width=0,
        residual_scale=False,
        norm_eps=fields.take("layer_norm_epsilon", 1e-5),
        tied=fields.take("tie_word_embeddings", True),
    )


def _write(config: ModelConfig, select_norm: str) -> dict[str, Any]:
    require(config, mlp_width=0, logit_cap=None)
    mixer = mixer_of(config, "mamba", Mamba)
    if mixer.select_norm != select_norm:
        raise ValueError(f"select_norm must be {select_norm}, got {mixer.select_norm}")
    inner, rank = mixer.sizes()
    if inner % config.width:
        raise ValueError(f"inner = {inner} must be a multiple of width = {config.width}")
    fields = {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "intermediate_size": inner,
        "expand": inner // config.width,
        "state_size": mixer.states,
        "time_step_rank": rank,
        "conv_kernel": mixer.conv_width,
        "time_step_min": mixer.dt_min,
        "time_step_max": mixer.dt_max,
        "layer_norm_epsilon": config.norm_eps,
        "hidden_act": "silu",
        "use_bias": False,
        "use_conv_bias": True,
    }
    return fields | ({"mixer_rms_eps": mixer.norm_eps} if select_norm == "unit" else {})


def _architecture(name: str, model_type: str, select_norm: str) -> Architecture:
    return Architecture(
        name=name,
        model_type=model_type,
        mixers=frozenset({"mamba"}),
        layer="backbone.layers.{}.",
        top=BACKBONE,
        head="lm_head.weight",
        blocks=_blocks,
        read_config=partial(_read, select_norm=select_norm),
        write_config=partial(_write, select_norm=select_norm),
    )


MAMBA_LM = _architecture("MambaForCausalLM", "mamba", "none")
FALCON_MAMBA_LM = _architecture("FalconMambaForCausalLM", "falcon_mamba", "unit")
