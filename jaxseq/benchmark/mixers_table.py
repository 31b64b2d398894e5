"""The rows of the benchmark `mixers` as a table for the README."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from jaxseq.mixers import MIXERS

# What each mixer is compared with in tests/mixers, forward and step by step; where nothing is named, a loop over time
# in float64 written from the paper's equations.
THIRD_PARTY = {
    "aaren": "torch MultiheadAttention in float64",
    "attention": "transformers RecurrentGemma, LFM2; softplus: its definition in float64",
    "channel_mix": "transformers Rwkv",
    "delta_net": "transformers OlmoHybrid (without decay)",
    "gated_delta_net": "transformers Qwen3.5, OlmoHybrid",
    "kda": "transformers KimiLinear, BailingHybrid",
    "mamba": "transformers Mamba, FalconMamba, Jamba",
    "mamba2": "transformers Mamba2",
    "mlstm": "transformers xLSTM",
    "para_rnn": "`lax.scan` in float64; cells: torch, torchrecurrent",
    "retnet": "transformers MiniMax",
    "rg_lru": "transformers RecurrentGemma",
    "rwkv4": "transformers Rwkv",
    "rwkv6": "rwkv 0.8.32",
    "rwkv7": "rwkv 0.8.32",
    "short_conv": "transformers Lfm2",
}


def markdown(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines of a table, as the rows come."""
    titles = ("mixer", "paper", "checked against", "state, bytes", "tokens/s")
    yield f"| {' | '.join(titles)} | beside transformers: logits, training (at most), decoding |"
    yield f"|{'---|' * 6}"
    for row in (row for row in rows if "state_bytes" in row):  # those beside JAX code have a table of their own
        kind = row["mixer"].split("+")[0]
        beside = "-"
        if "class" in row:
            decoding = f"{row['faster_decoding']:.1f}x" if "faster_decoding" in row else "-"
            training = f"{row['faster_training']:.1f}x ({row['fastest_training']:.1f}x)"
            beside = f"{row['deviation']:.0e}, {training}, {decoding}"
        oracle = THIRD_PARTY.get(kind, "its definition in float64")
        cells = (f"`{kind}`", paper(kind), oracle, f"{row['state_bytes']:,}", f"{row['tokens_per_second']:,}", beside)
        yield f"| {' | '.join(cells)} |"


def paper(kind: str) -> str:
    """A link to the first arXiv number in a mixer's module docstring."""
    found = re.search(r"arXiv (\d{4}\.\d{4,5})", sys.modules[MIXERS[kind].__module__].__doc__ or "")
    return f"[{found[1]}](https://arxiv.org/abs/{found[1]})" if found else "-"
