"""RwkvSelfAttention and RwkvFeedForward of transformers (RWKV-4) against `mixers.rwkv4` and `mixers.channel_mix`."""

from __future__ import annotations

from typing import Any

from jaxseq.convert.architecture import Architecture, Fields, mixer_of, require
from jaxseq.convert.table import Table, matrix, same, under
from jaxseq.mixers.channel_mix import ChannelMix
from jaxseq.mixers.rwkv4 import RWKV4
from jaxseq.model import ModelConfig

_ROW = (1, 1, -1)

TIME_MIX: Table = (
    same("mu_k", "time_mix_key", _ROW),
    same("mu_v", "time_mix_value", _ROW),
    same("mu_r", "time_mix_receptance", _ROW),
    same("decay_log", "time_decay"),
    same("bonus", "time_first"),
    matrix("w_k", "key.weight"),
    matrix("w_v", "value.weight"),
    matrix("w_r", "receptance.weight"),
    matrix("w_o", "output.weight"),
)

CHANNEL_MIX: Table = (  # with version 4
    same("mu_k", "time_mix_key", _ROW),
    same("mu_r", "time_mix_receptance", _ROW),
    matrix("w_k", "key.weight"),
    matrix("w_r", "receptance.weight"),
    matrix("w_v", "value.weight"),
)


# ---- whole models

EPS = 1e-5  # that of transformers' last norm, whatever config.json says of the others
TOP: Table = (
    same("embedding", "rwkv.embeddings.weight"),
    same("embedding_norm", "rwkv.blocks.0.pre_ln.weight"),
    same("embedding_norm_bias", "rwkv.blocks.0.pre_ln.bias"),
    same("norm", "rwkv.ln_out.weight"),
    same("norm_bias", "rwkv.ln_out.bias"),
    matrix("head", "head.weight"),
)


def _norm(name: str) -> Table:
    return same("mixer_norm", f"{name}.weight"), same("mixer_norm_bias", f"{name}.bias")


def _blocks(config: ModelConfig) -> tuple[Table, Table]:
    time = (*_norm("ln1"), *under("mixer.", "attention.", TIME_MIX))
    return time, (*_norm("ln2"), *under("mixer.", "feed_forward.", CHANNEL_MIX))


def _read(fields: Fields) -> ModelConfig:
    fields.expect(layer_norm_epsilon=EPS)
    fields.ignore("context_length", "rescale_every")  # the second keeps half precision from overflowing
    options = {
        "rwkv4": {"inner": fields.take("attention_hidden_size")},
        "channel_mix": {"version": 4, "hidden": fields.take("intermediate_size")},
    }
    return ModelConfig(
        vocab=fields.take("vocab_size"),
        width=fields.take("hidden_size"),
        layers=2 * fields.take("num_hidden_layers"),
        pattern=("rwkv4", "channel_mix"),
        options=options,
        mlp_width=0,
        residual_scale=False,
        norm="layer",
        norm_eps=EPS,
        tied=fields.take("tie_word_embeddings", False),
        embedding_norm=True,
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    require(config, pattern=("rwkv4", "channel_mix"), mlp_width=0, norm="layer", norm_eps=EPS, embedding_norm=True)
    require_version(mixer_of(config, "channel_mix", ChannelMix))
    return {
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.repeats,
        "attention_hidden_size": mixer_of(config, "rwkv4", RWKV4).sizes(),
        "intermediate_size": mixer_of(config, "channel_mix", ChannelMix).sizes(),
        "layer_norm_epsilon": EPS,
    }


def require_version(mixer: ChannelMix) -> None:
    """Raises ValueError for channel mixing of another version than RWKV-4's."""
    if mixer.version != 4:
        raise ValueError(f"channel_mix.version must be 4, got {mixer.version}")


RWKV4_LM = Architecture(
    name="RwkvForCausalLM",
    model_type="rwkv",
    mixers=frozenset({"rwkv4", "channel_mix"}),
    layer="rwkv.blocks.{}.",
    top=TOP,
    head="head.weight",
    blocks=_blocks,
    read_config=_read,
    write_config=_write,
    span=2,
)
