"""Several processes on this machine, preempted and started again in other numbers: python launch/pod/rehearse.py"""

import tempfile
from pathlib import Path

from absl import flags

from jaxseq import cli
from jaxseq.train.rehearsal import rehearse

SOURCE = flags.DEFINE_string("source", "stdlib", "What to train on, as data.source.")
STEPS = flags.DEFINE_integer("steps", 400, "Of the run; more on a faster machine.", lower_bound=30)


def main(argv: list[str]) -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        rehearse(Path(folder), SOURCE.value, STEPS.value, print)


if __name__ == "__main__":
    cli.run(main)
