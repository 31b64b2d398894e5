"""Every nonlinear cell solved in parallel over time beside lax.scan, and hard cases: python launch/demo.py

--cells=gru,lstm takes only these; most of the time is compilation.
"""

from absl import flags

from jaxseq import cli
from jaxseq.benchmark.demo import demo

CELLS = flags.DEFINE_string("cells", "", "Names of cells, with commas between; by default all.")


def main(argv: list[str]) -> None:
    """See the module."""
    for line in demo(CELLS.value):
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main)
