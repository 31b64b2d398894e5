"""How often a model has the answer at the end of a document right: python launch/accuracy.py --workdir=runs/parity

For tasks such as data.source=parity:100. Prints one JSON line.
"""

import json

from absl import flags

from jaxseq import cli
from jaxseq.analysis.accuracy import answers_right

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to read; the latest by default.")
SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which split.")


def main(argv: list[str]) -> None:
    """See the module."""
    print(json.dumps({"split": SPLIT.value, "right": answers_right(WORKDIR.value, SPLIT.value, STEP.value)}))


if __name__ == "__main__":
    cli.run(main)
