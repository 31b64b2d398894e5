"""Measures a trained model on a split of its own data: python launch/evaluate.py --workdir=runs/quickstart

Prints bits per byte, perplexity and the loss by position in the document.
"""

from absl import flags

from jaxseq import cli
from jaxseq.evaluate import evaluate_workdir, table

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to read; the latest by default.")
SPLIT = flags.DEFINE_enum("split", "validation", ["train", "validation", "test"], "Which split.")
MAX_BATCHES = flags.DEFINE_integer("max_batches", None, "Stop after so many batches.")


def main(argv: list[str]) -> None:
    """See the module."""
    print(table(evaluate_workdir(WORKDIR.value, SPLIT.value, step=STEP.value, max_batches=MAX_BATCHES.value)))


if __name__ == "__main__":
    cli.run(main)
