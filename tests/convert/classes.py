"""Tiny models of transformers, saved, with weights so large that a dead state shows."""

from pathlib import Path

import torch
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    KimiLinearConfig,
    KimiLinearForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MiniMaxConfig,
    MiniMaxForCausalLM,
    OlmoHybridConfig,
    OlmoHybridForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    xLSTMConfig,
    xLSTMForCausalLM,
)

VOCAB, D = 62, 32
NO_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"vocab_size": VOCAB, "hidden_size": D, **NO_TOKENS}
ROPE = {"rope_type": "default", "rope_theta": 1000.0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
TYPES = ["linear_attention", "linear_attention", "full_attention"]
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 6}

MODELS = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SIZES, state_size=5, num_hidden_layers=2)),
    "falcon_mamba": lambda: FalconMambaForCausalLM(
        FalconMambaConfig(**SIZES, state_size=5, num_hidden_layers=2, tie_word_embeddings=False)
    ),
    "mamba2": lambda: Mamba2ForCausalLM(
        Mamba2Config(**SIZES, num_heads=4, head_dim=16, state_size=6, n_groups=2, num_hidden_layers=2, chunk_size=8)
    ),
    "recurrent_gemma": lambda: RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(
            **SIZES,
            lru_width=48,
            intermediate_size=96,
            num_hidden_layers=4,  # not a multiple of the three of a pattern
            **HEADS,
            head_dim=8,
            attention_window_size=8,
            rope_parameters=ROPE | {"partial_rotary_factor": 0.5},
        )
    ),
    "lfm2": lambda: Lfm2ForCausalLM(
        Lfm2Config(
            **SIZES,
            intermediate_size=96,
            num_hidden_layers=4,
            **HEADS,
            layer_types=["conv", "full_attention"] * 2,
            max_position_embeddings=128,
            rope_parameters=ROPE,
        )
    ),
    "qwen3_5_text": lambda: Qwen3_5ForCausalLM(
        Qwen3_5TextConfig(
            **SIZES,
            **HEADS,
            **DELTA,
            head_dim=12,
            intermediate_size=40,
            num_hidden_layers=3,
            layer_types=TYPES,
            max_position_embeddings=128,
            rope_parameters=ROPE | {"partial_rotary_factor": 0.5},
        )
    ),
    "olmo_hybrid": lambda: OlmoHybridForCausalLM(
        OlmoHybridConfig(
            **SIZES,
            **HEADS,
            **DELTA,
            intermediate_size=40,
            num_hidden_layers=3,
            layer_types=TYPES,
            max_position_embeddings=128,
        )
    ),
    "kimi_linear": lambda: KimiLinearForCausalLM(
        KimiLinearConfig(
            **SIZES,
            intermediate_size=40,
            num_hidden_layers=2,
            linear_num_heads=4,
            linear_head_dim=6,
            layer_types=["linear_attention"] * 2,
            mlp_layer_types=["dense"] * 2,
        )
    ),
    "minimax": lambda: MiniMaxForCausalLM(
        MiniMaxConfig(
            **SIZES,
            **HEADS,
            head_dim=12,
            intermediate_size=40,
            num_hidden_layers=3,
            layer_types=TYPES,
            max_position_embeddings=128,
            rope_parameters=ROPE,
            num_local_experts=1,
            num_experts_per_tok=1,
            block_size=8,
            **dict.fromkeys(("linear_attn_alpha_factor", "full_attn_alpha_factor", "mlp_alpha_factor"), 1.5),
        )
    ),
    "rwkv": lambda: RwkvForCausalLM(
        RwkvConfig(**SIZES, attention_hidden_size=D, intermediate_size=40, num_hidden_layers=2)
    ),
    "xlstm": lambda: xLSTMForCausalLM(
        xLSTMConfig(**SIZES | {"hidden_size": 128}, embedding_dim=128, num_hidden_layers=2, num_blocks=2, num_heads=4)
    ),
}


def saved(name: str, folder: Path, by: float = 2.0) -> Path:
    """The folder, with a model in it whose every weight is random, matrices `by` times as large as usual."""
    model = MODELS[name]().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            size = by / value[0].numel() ** 0.5 if value.ndim > 1 else 0.5
            value.copy_(size * torch.randn(value.shape, generator=generator))
    model.save_pretrained(folder)
    return folder
