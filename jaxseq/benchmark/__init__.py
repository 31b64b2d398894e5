"""Measurements that the documentation quotes; none is a test."""

from collections.abc import Callable, Iterator
from typing import Any

from jaxseq.benchmark.attention import attention
from jaxseq.benchmark.checkpoint import checkpoint
from jaxseq.benchmark.decode import decode
from jaxseq.benchmark.depth import depth
from jaxseq.benchmark.matmul import matmul
from jaxseq.benchmark.mixers import mixers
from jaxseq.benchmark.ops import ops
from jaxseq.benchmark.scan import scan
from jaxseq.benchmark.solvers import solvers
from jaxseq.benchmark.static import static
from jaxseq.benchmark.train import train

BENCHMARKS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "attention": attention,
    "checkpoint": checkpoint,
    "decode": decode,
    "depth": depth,
    "matmul": matmul,
    "mixers": mixers,
    "ops": ops,
    "scan": scan,
    "solvers": solvers,
    "static": static,
    "train": train,
}

__all__ = ["BENCHMARKS"]
