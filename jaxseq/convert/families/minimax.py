"""MiniMaxForCausalLM of transformers, lightning attention and softmax attention, with one expert in each layer.

The lightning attention's buffers follow from its config: they are not read, and transformers computes those that a file
has not. A router among one expert says nothing: its weights are not read, and zeros when written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require_fields
from jaxseq.convert.families.decoder import (
    NORMS,
    TOP,
    read_attention,
    read_model,
    read_rope,
    write_attention,
    write_model,
    write_rope,
)
from jaxseq.convert.table import Entry, Table, by_head, matrix, same, under
from jaxseq.mixers.retnet import RetNet
from jaxseq.model import ModelConfig

ALPHAS = ("linear_attn_alpha_factor", "full_attn_alpha_factor", "mlp_alpha_factor")
BETAS = ("linear_attn_beta_factor", "full_attn_beta_factor", "mlp_beta_factor")
HARMLESS = ("block_size", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise")
EXPERT: Table = tuple(
    matrix(f"mlp.w_{ours}", f"block_sparse_moe.experts.0.{theirs}.weight")
    for ours, theirs in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
)
ATTENTION: Table = tuple(matrix(f"w_{name}", f"{name}_proj.weight") for name in "qkvo")


def lightning(heads: int) -> Table:
    """The table for so many heads, keys and values of one width."""
    return (
        by_head(("w_q", "w_k", "w_v"), "qkv_proj.weight", heads),
        matrix("w_g", "output_gate.weight"),
        same("norm", "norm.weight"),
        matrix("w_o", "out_proj.weight"),
    )


def _router(width: int) -> Entry:
    zeros = np.zeros((1, width), np.float32)
    return Entry((), ("block_sparse_moe.gate.weight",), lambda x, s: [], lambda x: [zeros])


def _blocks(config: ModelConfig) -> tuple[Table, ...]:
    around = (*NORMS, *EXPERT, _router(config.width))
    tables = {"attention": ATTENTION}
    if "retnet" in config.pattern:
        tables["retnet"] = lightning(mixer_of(config, "retnet", RetNet).heads)
    return tuple((*around, *under("mixer.", "self_attn.", tables[kind])) for kind in config.pattern)


def _read(fields: Fields) -> ModelConfig:
    fields.expect(num_local_experts=1, num_experts_per_tok=1, sliding_window=None, **dict.fromkeys(BETAS, 1))
    fields.ignore(*HARMLESS)
    factors = [fields.take(name, 1) for name in ALPHAS]
    if len(set(factors)) > 1:
        raise ValueError(f"config.json: {', '.join(ALPHAS)} must be one number to be converted, got {factors}")
    heads, width = fields.take("num_attention_heads"), fields.take("hidden_size")
    head_dim = fields.take("head_dim", None) or width // heads
    options = {
        "retnet": {"heads": heads, "form": "lightning", "key_width": heads * head_dim, "value_width": heads * head_dim},
        "attention": read_attention(fields, head_dim=head_dim, **read_rope(fields)),
    }
    return read_model(fields, "retnet", options, residual="deepnorm", residual_factor=float(factors[0]))


def _write(config: ModelConfig) -> dict[str, Any]:
    if set(config.pattern) != {"retnet", "attention"}:
        raise ValueError(f"model.pattern must have retnet and attention, got {', '.join(config.pattern)}")
    lightning = mixer_of(config, "retnet", RetNet)
    heads, attention = write_attention(config)
    keys, values = lightning.sizes()
    head_dim = attention.sizes()[1]
    if keys != values or (lightning.heads, keys) != (attention.heads, attention.heads * head_dim):
        raise ValueError(
            "retnet must have the heads of attention, of one width, "
            f"got {lightning.heads} of {keys} and {values} in all beside {attention.heads} of {head_dim}"
        )
    require_fields(lightning, "retnet", form="lightning")
    return {
        **write_model(config, residual="deepnorm", residual_factor=config.residual_factor),
        **heads,
        "head_dim": head_dim,
        "rope_parameters": write_rope(attention),
        "num_local_experts": 1,
        "num_experts_per_tok": 1,
        **dict.fromkeys(ALPHAS, config.residual_factor),
    }


MINIMAX_LM = Architecture(
    name="MiniMaxForCausalLM",
    model_type="minimax",
    mixers=frozenset({"retnet", "attention"}),
    layer="model.layers.{}.",
    top=TOP,
    head="lm_head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
    computed=("slope_rate", "query_decay", "key_decay", "diagonal_decay"),
)
