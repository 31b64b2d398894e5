"""Measures on this machine, one JSON line per row: python launch/benchmark.py train|decode|depth|matmul|scan"""

import json

from jaxseq import cli
from jaxseq.benchmark import BENCHMARKS


def main(argv: list[str]) -> None:
    """See the module."""
    if argv[0] not in BENCHMARKS:
        raise ValueError(f"benchmark must be one of {', '.join(BENCHMARKS)}, got {argv[0]!r}")
    for row in BENCHMARKS[argv[0]]():
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    cli.run(main, usage="BENCHMARK")
