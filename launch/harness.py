"""Runs lm-evaluation-harness: python launch/harness.py --model jaxseq --model_args workdir=runs/x --tasks lambada

Everything after the script's name is the harness's own command line. Needs the extra `eval`.
"""

from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]  # not in the extra `lint`

import jaxseq.lm_eval  # noqa: F401  # registers the model


def main() -> None:
    """See the module."""
    cli_evaluate()


if __name__ == "__main__":
    main()
