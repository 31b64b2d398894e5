"""Models of transformers with a mixer of ours in them, small enough to measure: two to four layers of width 256."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WIDTH, VOCAB = 256, 256
SIZES = {"vocab_size": VOCAB, "hidden_size": WIDTH, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}
LAYERS = {"num_hidden_layers": 2}
MLP = {"intermediate_size": 704}
CONTEXT = {"max_position_embeddings": 2048}  # the slots of our rings
HYBRID = {"layer_types": ["linear_attention", "full_attention"], **CONTEXT}
NO_CACHE = {"kda"}  # transformers 5.23.0 fails there when it decodes with its cache


def _mamba(hf: Any) -> Any:
    return hf.MambaForCausalLM(hf.MambaConfig(**SIZES, **LAYERS))


def _mamba2(hf: Any) -> Any:
    heads = {"num_heads": 8, "head_dim": 64, "n_groups": 1}
    return hf.Mamba2ForCausalLM(hf.Mamba2Config(**SIZES, **LAYERS, **heads, tie_word_embeddings=False))


def _mlstm(hf: Any) -> Any:
    blocks = {"embedding_dim": WIDTH, "num_blocks": 2, "num_heads": 4}
    return hf.xLSTMForCausalLM(hf.xLSTMConfig(**SIZES, **LAYERS, **blocks))


def _rwkv4(hf: Any) -> Any:
    return hf.RwkvForCausalLM(
        hf.RwkvConfig(**SIZES, **LAYERS, attention_hidden_size=WIDTH, intermediate_size=4 * WIDTH)
    )


def _rg_lru(hf: Any) -> Any:
    attention = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64, "attention_window_size": 256}
    config = hf.RecurrentGemmaConfig(
        **SIZES, **attention, num_hidden_layers=3, lru_width=WIDTH, intermediate_size=2 * MLP["intermediate_size"]
    )
    return hf.RecurrentGemmaForCausalLM(config)


def _short_conv(hf: Any) -> Any:
    layers = {**LAYERS, "layer_types": ["conv", "full_attention"]}
    return hf.Lfm2ForCausalLM(hf.Lfm2Config(**SIZES, **layers, **HEADS, **MLP, **CONTEXT))


def _gated_delta_net(hf: Any) -> Any:
    delta = {"linear_num_key_heads": 4, "linear_num_value_heads": 4}
    widths = {"linear_key_head_dim": 64, "linear_value_head_dim": 64, "head_dim": 64}
    return hf.Qwen3_5ForCausalLM(hf.Qwen3_5TextConfig(**SIZES, **LAYERS, **HEADS, **MLP, **HYBRID, **delta, **widths))


def _kda(hf: Any) -> Any:
    types = {"layer_types": ["linear_attention"] * 2, "mlp_layer_types": ["dense"] * 2}
    config = hf.KimiLinearConfig(**SIZES, **LAYERS, **MLP, **types, linear_num_heads=4, linear_head_dim=64)
    return hf.KimiLinearForCausalLM(config)


def _retnet(hf: Any) -> Any:
    alphas = dict.fromkeys(("linear_attn_alpha_factor", "full_attn_alpha_factor", "mlp_alpha_factor"), 1.0)
    experts = {"num_local_experts": 1, "num_experts_per_tok": 1}
    config = hf.MiniMaxConfig(**SIZES, **LAYERS, **HEADS, **MLP, **HYBRID, **experts, **alphas, head_dim=64)
    return hf.MiniMaxForCausalLM(config)


# By mixer; a function of the module transformers, which is an extra.
PEERS: dict[str, Callable[[Any], Any]] = {
    "gated_delta_net": _gated_delta_net,
    "kda": _kda,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "mlstm": _mlstm,
    "retnet": _retnet,
    "rg_lru": _rg_lru,
    "rwkv4": _rwkv4,
    "short_conv": _short_conv,
}
