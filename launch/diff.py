"""What differs between two configs or runs: python launch/diff.py A B, each a config file, a workdir or a checkpoint.

Exits with 0 where nothing differs, 1 where something does, 2 on an error.
"""

from jaxseq import cli
from jaxseq.compare import compare


def main(argv: list[str]) -> int:
    """See the module."""
    lines = compare(*argv)
    print("\n".join(lines) or "no difference")
    return int(bool(lines))


if __name__ == "__main__":
    cli.run(main, usage="A B", failure=2)
