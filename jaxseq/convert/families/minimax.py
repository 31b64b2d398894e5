"""MiniMaxLightningAttention of transformers against `mixers.retnet` with the form "lightning".

Its buffers (slope_rate, query_decay, key_decay, diagonal_decay) follow from its config and are in no table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxseq.convert.table import Entry, Table, matrix, same


def by_head(ours: Sequence[str], theirs: str, heads: int) -> Entry:
    """Several of our matrices (in, n) in one of theirs, head by head: q, k and v of head 0, of head 1, ..."""

    def read(arrays: list[np.ndarray], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
        (joined,) = arrays
        parts = joined.reshape(heads, len(ours), -1, joined.shape[-1])
        return [parts[:, i].reshape(-1, joined.shape[-1]).T for i in range(len(ours))]

    def write(arrays: list[np.ndarray]) -> list[np.ndarray]:
        parts = [x.T.reshape(heads, -1, x.shape[0]) for x in arrays]
        return [np.stack(parts, axis=1).reshape(-1, arrays[0].shape[0])]

    return Entry(tuple(ours), (theirs,), read, write)


def lightning(heads: int) -> Table:
    """The table for so many heads, keys and values of one width."""
    return (
        by_head(("w_q", "w_k", "w_v"), "qkv_proj.weight", heads),
        matrix("w_g", "output_gate.weight"),
        same("norm", "norm.weight"),
        matrix("w_o", "out_proj.weight"),
    )
