"""The measurements behind `method="auto"`, as `python launch/benchmark.py ops` prints them. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One measurement: `ratios` are times of forward and backward pass over that of the fastest method."""

    op: str
    variant: str
    platform: str
    shape: tuple[int, ...]
    dtype: str
    ratios: Mapping[str, float]
    device: str
    date: str
    command: str


UNTIMED = {  # without a kernel and without a measurement: matmuls in chunks, or logarithmic depth
    "linear_scan": "associative",
    "block_scan": "associative",
    "matrix_scan": "sequential",
    "log_linear_scan": "associative",
    "cell_scan": "sequential",
    "linear_attention": "chunked",
    "delta_rule": "chunked",
    "dplr_attention": "chunked",
}

CPU = ("cpu x 1", "2026-11-21", "python launch/benchmark.py ops --table")
_CHUNKED = {"chunked": 1.0}
ROWS = (
    Row("linear_scan", "varying", "cpu", (8, 2048, 512), "float32", {"sequential": 1.0}, *CPU),
    Row("block_scan", "varying", "cpu", (2, 1024, 256, 2), "float32", {"sequential": 1.0}, *CPU),
    Row("log_linear_scan", "varying", "cpu", (4, 1024, 512), "float32", {"sequential": 1.0}, *CPU),
    Row("linear_attention", "scalar", "cpu", (2, 2048, 4, 64, 64), "float32", _CHUNKED, *CPU),
    Row("delta_rule", "scalar", "cpu", (2, 2048, 4, 64, 64), "float32", _CHUNKED, *CPU),
    Row("dplr_attention", "vector", "cpu", (2, 2048, 4, 64, 64), "float32", _CHUNKED, *CPU),
)
