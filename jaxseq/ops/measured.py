"""The measurements behind `method="auto"`: what `launch/benchmark.py ops` printed, or as a row says. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One measurement: `ratios` are those of `what` in a forward and backward pass, over that of the best method."""

    op: str
    variant: str
    platform: str
    shape: tuple[int, ...]
    dtype: str
    ratios: Mapping[str, float]
    device: str
    date: str
    command: str
    what: str = "times"


UNTIMED = {  # without a kernel and without a measurement: matmuls in chunks, or logarithmic depth
    "linear_scan": "associative",
    "block_scan": "associative",
    "coupled_scan": "chunked",  # associative compiles for a minute on CPU, one array per entry and level
    "matrix_scan": "sequential",
    "log_linear_scan": "associative",
    "cell_scan": "sequential",
    "linear_attention": "chunked",
    "delta_rule": "chunked",
    "dplr_attention": "chunked",
}

# Both cores were shared with other programs: methods were timed in turn, so that ratios near 1 say little.
CPU = ("cpu x 1, 2 cores", "2026-11-21", "python launch/benchmark.py ops")
LATER = ("cpu x 1, 2 cores", "2026-11-29", "python launch/benchmark.py ops")
FLOAT = "float32"
MATRIX = (2, 2048, 4, 64, 64)

# Compiled for a chip that was not there: HBM bytes, not times.
TPU = ("TPU v5e, compiled and not run", "2026-11-22", "python launch/benchmark.py static --topology=v5e:2x2", "bytes")
WIDE = (4, 2048, 16, 128, 128)


def _scan(sequential: float, associative: float, chunked: float) -> dict[str, float]:
    return {"sequential": sequential, "associative": associative, "chunked": chunked}


ROWS = (
    Row("linear_scan", "varying", "cpu", (8, 2048, 512), FLOAT, _scan(1.0, 3.18, 2.43), *CPU),
    Row("linear_scan", "varying", "cpu", (4, 2048, 1024), FLOAT, _scan(1.0, 3.24, 2.13), *CPU),
    Row("linear_scan", "varying", "cpu", (1, 16384, 256), FLOAT, _scan(1.0, 3.31, 2.41), *CPU),
    Row("linear_scan", "constant", "cpu", (8, 2048, 512), FLOAT, _scan(1.0, 1.8, 1.96), *CPU),
    Row("linear_scan", "varying", "cpu", (8, 2048, 512), "bfloat16", _scan(1.0, 2.11, 1.5), *CPU),
    Row("linear_scan", "varying", "cpu", (4, 2048, 256), "complex64", _scan(1.0, 5.09, 3.77), *CPU),
    Row("block_scan", "varying", "cpu", (2, 1024, 256, 2), FLOAT, _scan(1.0, 6.62, 3.53), *CPU),
    Row("block_scan", "varying", "cpu", (2, 1024, 32, 8), FLOAT, _scan(1.0, 19.66, 11.61), *CPU),
    Row("coupled_scan", "varying", "cpu", (2, 1024, 256), FLOAT, _scan(1.0, 13.5, 2.35), *CPU),
    Row("log_linear_scan", "varying", "cpu", (4, 1024, 512), FLOAT, {"sequential": 1.0, "associative": 2.1}, *CPU),
    Row("cell_scan", "three gates", "cpu", (8, 2048, 512), FLOAT, {"sequential": 1.0}, *CPU),
    Row("linear_attention", "none", "cpu", MATRIX, FLOAT, _scan(13.14, 1.0, 1.27), *CPU),
    Row("linear_attention", "scalar", "cpu", MATRIX, FLOAT, _scan(12.23, 1.12, 1.0), *CPU),
    Row("linear_attention", "vector", "cpu", MATRIX, FLOAT, _scan(7.3, 1.45, 1.0), *CPU),
    Row("delta_rule", "none", "cpu", MATRIX, FLOAT, _scan(2.06, 1.99, 1.0), *LATER),
    Row("delta_rule", "scalar", "cpu", MATRIX, FLOAT, _scan(2.0, 1.82, 1.0), *LATER),
    Row("delta_rule", "vector", "cpu", MATRIX, FLOAT, _scan(1.16, 1.76, 1.0), *LATER),
    Row("linear_attention", "scalar", "tpu", WIDE, FLOAT, {"kernel:tpu": 1.0, "chunked": 1.58}, *TPU),
    Row("delta_rule", "scalar", "tpu", WIDE, FLOAT, {"kernel:tpu": 1.0, "chunked": 1.98}, *TPU),
    Row("dplr_attention", "vector", "cpu", MATRIX, FLOAT, _scan(1.0, 2.02, 1.3), *LATER),
    Row("dplr_attention", "vector", "cpu", (2, 512, 8, 128, 128), FLOAT, _scan(1.77, 2.35, 1.0), *LATER),
)
