"""xLSTMLayer of transformers (xLSTM-7B's) against `mixers.mlstm`."""

from __future__ import annotations

from math import ceil, gcd
from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require
from jaxseq.convert.table import Table, matrix, same, under
from jaxseq.mixers.mlstm import MLSTM
from jaxseq.model import ModelConfig

XLSTM: Table = (
    matrix("w_q", "q.weight"),
    matrix("w_k", "k.weight"),
    matrix("w_v", "v.weight"),
    matrix("w_z", "ogate_preact.weight"),
    matrix("w_i", "igate_preact.weight"),
    same("b_i", "igate_preact.bias"),
    matrix("w_f", "fgate_preact.weight"),
    same("b_f", "fgate_preact.bias"),
    same("norm", "multihead_norm.weight"),
    matrix("w_o", "out_proj.weight"),
)

# ---- whole models

TOP: Table = (
    same("embedding", "backbone.embeddings.weight"),
    same("norm", "backbone.out_norm.weight"),
    matrix("head", "lm_head.weight"),
)
AROUND: Table = (
    same("mixer_norm", "norm_mlstm.weight"),
    same("mlp_norm", "norm_ffn.weight"),
    matrix("mlp.w_gate", "ffn.proj_up_gate.weight"),
    matrix("mlp.w_up", "ffn.proj_up.weight"),
    matrix("mlp.w_down", "ffn.proj_down.weight"),
)


def _blocks(config: ModelConfig) -> tuple[Table]:
    return ((*AROUND, *under("mixer.", "mlstm_layer.", XLSTM)),)


def _read(fields: Fields) -> ModelConfig:
    fields.expect(use_bias=False, add_out_norm=True, weight_mode="single")
    fields.ignore(
        *("norm_reduction_force_float32", "chunkwise_kernel", "sequence_kernel", "step_kernel", "mode"),
        *("return_last_states", "autocast_kernel_dtype", "inference_state_dtype", "max_inference_chunksize"),
        *("embedding_dim", "num_blocks"),
    )
    width, heads, eps = fields.take("hidden_size"), fields.take("num_heads"), fields.take("norm_eps")
    multiple = fields.take("ffn_round_up_to_multiple_of")
    options = {
        "heads": heads,
        "key_dim": int(width * fields.take("qk_dim_factor")) // heads,
        "value_dim": int(width * fields.take("v_dim_factor")) // heads,
        "gate_cap": fields.take("gate_soft_cap"),
        "norm_eps": eps,
        "eps": fields.take("eps"),
    }
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=width,
        layers=fields.take("num_hidden_layers"),
        pattern=("mlstm",),
        options={"mlstm": options},
        mlp_width=multiple * ceil(width * fields.take("ffn_proj_factor") / multiple),
        residual_scale=False,
        norm_eps=eps,
        tied=fields.take("tie_word_embeddings", False),
        logit_cap=fields.take("output_logit_soft_cap"),
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    require(config, mlp="swiglu", tied=False)
    mixer = mixer_of(config, "mlstm", MLSTM)
    key, value = mixer.sizes()
    if mixer.norm_eps != config.norm_eps:
        raise ValueError(f"mlstm.norm_eps must be model.norm_eps = {config.norm_eps}, got {mixer.norm_eps}")
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "embedding_dim": config.width,
        "num_hidden_layers": config.layers,
        "num_blocks": config.layers,
        "num_heads": mixer.heads,
        "qk_dim_factor": key * mixer.heads / config.width,
        "v_dim_factor": value * mixer.heads / config.width,
        "gate_soft_cap": mixer.gate_cap,
        "output_logit_soft_cap": config.logit_cap,
        "norm_eps": config.norm_eps,
        "eps": mixer.eps,
        "ffn_proj_factor": (config.hidden - 0.5) / config.width,  # is rounded up
        "ffn_round_up_to_multiple_of": gcd(64, config.hidden),
        "add_out_norm": True,
        "use_bias": False,
        "weight_mode": "single",
    }


XLSTM_LM = Architecture(
    name="xLSTMForCausalLM",
    model_type="xlstm",
    mixers=frozenset({"mlstm"}),
    layer="backbone.blocks.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
)
