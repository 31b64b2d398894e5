"""Measures on this machine, one JSON line per row: python launch/benchmark.py BENCHMARK

BENCHMARK is attention, checkpoint, decode, depth, matmul, mixers, ops, scan, solvers or train.

Without an accelerator, by compiling for one: python launch/benchmark.py static --topology=v5e:2x2
"""

import json

from absl import flags

from jaxseq import cli
from jaxseq.benchmark.mixers_table import markdown
from jaxseq.benchmark.options import run

TOPOLOGY = flags.DEFINE_string("topology", None, "static: what to compile for: v5e:2x2, v5p:2x2x1, v6e:2x2, h100, ...")
OP = flags.DEFINE_string("op", None, "ops: the one to measure, linear_scan, delta_rule, ...; by default all.")
MIXER = flags.DEFINE_string("mixer", None, "mixers, depth: the one to measure; depth takes all, too.")
MARKDOWN = flags.DEFINE_bool("markdown", False, "mixers: the README's table instead of JSON.")
PLOT = flags.DEFINE_string("plot", None, "ops: the PNG file to draw to.")


def main(argv: list[str]) -> None:
    """See the module."""
    rows = run(argv[0], topology=TOPOLOGY.value, op=OP.value, mixer=MIXER.value, plot=PLOT.value)
    for line in markdown(rows) if MARKDOWN.value else map(json.dumps, rows):
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main, usage="BENCHMARK")
