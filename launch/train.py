"""Trains an experiment, or goes on with one: python launch/train.py --config=configs/quickstart.py --workdir=runs/x"""

from absl import flags

from jaxseq import cli
from jaxseq.config import load_config, override
from jaxseq.train import train

CONFIG = flags.DEFINE_string("config", None, "Python file with get_config().", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if missing.", required=True)
SET = flags.DEFINE_multi_string("set", [], "Change a field of the config: --set=model.layers=4; repeatable.")


def main(argv: list[str]) -> None:
    """See the module."""
    train(override(load_config(CONFIG.value), SET.value), WORKDIR.value)


if __name__ == "__main__":
    cli.run(main)
