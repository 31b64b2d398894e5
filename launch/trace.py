"""How Newton closes in on a trained model's states, by layer: python launch/trace.py --workdir=runs/quickstart

Prints one JSON line per para_rnn layer and draws trace.png into the workdir.
"""

import json

from absl import flags

from jaxseq import cli
from jaxseq.analysis.newton_trace import trace_workdir

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to read; the latest by default.")
ITERATIONS = flags.DEFINE_integer("iterations", 12, "Newton iterations to take.")


def main(argv: list[str]) -> None:
    """See the module."""
    for row in trace_workdir(WORKDIR.value, step=STEP.value, iterations=ITERATIONS.value):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    cli.run(main)
