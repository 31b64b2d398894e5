"""Scans split over time, compiled for a TPU: python -m jaxseq.benchmark.static_split TOPOLOGY DUMP, run by `static`.

Fields: `collectives` by kind, forward and backward together, and `bytes_exchanged`, the bytes of their results on one
chip. Beside them what XLA's own partitioning makes of `lax.associative_scan`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from jaxseq.benchmark.time_split import SCANS, partitioned_scan, split_scan
from jaxseq.compiled.chips import devices
from jaxseq.compiled.hlo import collectives

STEPS = 128, 256  # per chip: chunks of 64, so that the second length differs in more than padding


def rows(topology: str) -> Iterator[dict[str, Any]]:
    """One per scan and length."""
    found = devices(topology)
    for steps in STEPS:
        compile_ = {name: partial(split_scan, name) for name in SCANS}
        for name, compiled in {**compile_, "lax.associative_scan": partitioned_scan}.items():
            began = time.perf_counter()
            counted = collectives(compiled(found, steps * len(found)).as_text())
            yield {
                "benchmark": "static",
                "scan": name,
                "partitioning": "XLA's own" if name.startswith("lax") else "jaxseq.ops.sharded",
                "direction": "forward and backward",
                "time": steps * len(found),
                "shards": len(found),
                "topology": topology,
                "device_kind": found[0].device_kind,
                "compile_seconds": round(time.perf_counter() - began, 2),
                "collectives": {kind: entry["count"] for kind, entry in counted.items()},
                "bytes_exchanged": sum(entry["bytes"] for entry in counted.values()),
            }


if __name__ == "__main__":
    for row in rows(sys.argv[1]):
        print(json.dumps(row), flush=True)
