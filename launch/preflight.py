"""Whether a run fits a TPU slice, on a machine without one: python launch/preflight.py --config=configs/para_gru_7b.py

Compiles the train step, the reading of a prompt and the drawing of a token for --topology (or the config's own) and
prints bytes, FLOPs, collectives and the times that they imply. Exits with 0 where all fit, 1 where one does not, 2 on
an error. --table prints the table of the configs that name a topology, --scaling=fsdp (whole, seq) what a chip of a
train step exchanges on 8 to 256 chips.
"""

import json
from pathlib import Path

from absl import flags

from jaxseq import cli
from jaxseq.config import load_config, override
from jaxseq.preflight import lines, preflight, scaling_table, table
from jaxseq.preflight.programs import PROGRAMS
from jaxseq.preflight.scaling import SLICES as SCALINGS

CONFIG = flags.DEFINE_string("config", None, "Python file with get_config().")
SET = flags.DEFINE_multi_string("set", [], "Change a field of the config: --set=mesh=1,-1,1,1; repeatable.")
TOPOLOGY = flags.DEFINE_string("topology", None, "Chip and layout of a slice: v5e:16x16, v5p:8x8x8, v6e:8x8.")
SLICES = flags.DEFINE_integer("slices", 1, "Slices of that layout, over which the data axis goes.", lower_bound=1)
PROGRAM = flags.DEFINE_list("programs", list(PROGRAMS), "Which of train, prefill and decode to compile.")
JSON = flags.DEFINE_bool("json", False, "One JSON object instead of text.")
SCALING = flags.DEFINE_enum("scaling", None, list(SCALINGS), "The table of the config on more and more chips instead.")
TABLE = flags.DEFINE_bool("table", False, "The table of configs/*.py instead.")


def main(argv: list[str]) -> int:
    """See the module."""
    if TABLE.value:
        for line in table(sorted(Path("configs").glob("*.py"))):
            print(line, flush=True)
        return 0
    if CONFIG.value is None:
        raise ValueError("--config must be given, got none")
    config = override(load_config(CONFIG.value), SET.value)
    if SCALING.value is not None:
        for line in scaling_table(config, SCALING.value):
            print(line, flush=True)
        return 0
    result = preflight(config, TOPOLOGY.value, slices=SLICES.value, only=PROGRAM.value)
    print(json.dumps(result) if JSON.value else "\n".join(lines(result)))
    return int(not result["fits"])


if __name__ == "__main__":
    cli.run(main, failure=2)
