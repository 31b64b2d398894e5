"""Trains an experiment, or goes on with one: python launch/train.py --config=configs/quickstart.py --workdir=runs/x

Several processes, one command each: --coordinator=HOST:PORT (of process 0) --processes=N --process=I.
"""

from absl import flags

from jaxseq import cli
from jaxseq.cluster import find_place, joined
from jaxseq.config import load_config, override
from jaxseq.train import steps_of, train

CONFIG = flags.DEFINE_string("config", None, "Python file with get_config().", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if missing.", required=True)
SET = flags.DEFINE_multi_string("set", [], "Change a field of the config: --set=model.layers=4; repeatable.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port at which process 0 listens.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes the run has.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
START_TIMEOUT = flags.DEFINE_float("start_timeout", 300, "Seconds to wait for the other processes.", lower_bound=1)
PROFILE = flags.DEFINE_string("profile", None, "START:STOP, steps to trace into WORKDIR/profile.")


def main(argv: list[str]) -> None:
    """See the module."""
    place = find_place(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    with joined(place, START_TIMEOUT.value, cli.DEBUG.value):
        train(override(load_config(CONFIG.value), SET.value), WORKDIR.value, steps_of(PROFILE.value))


if __name__ == "__main__":
    cli.run(main)
