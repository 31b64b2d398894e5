"""Moves a model to PyTorch and back: python launch/convert.py --from=runs/mamba --to=out --format=hf

--from is a workdir or a folder of transformers (config.json and safetensors); --to must not be there yet. The result is
compared with the source in both frameworks, in float32 and bfloat16, and removed if it deviates.
"""

from absl import flags

from jaxseq import cli
from jaxseq.convert.command import DTYPES, FORMS, convert

FROM = flags.DEFINE_string("from", None, "A workdir, or a folder of transformers.", required=True)
TO = flags.DEFINE_string("to", None, "A folder that is not there, or empty.", required=True)
FORMAT = flags.DEFINE_enum("format", "hf", FORMS, "What to write.")
DTYPE = flags.DEFINE_enum("dtype", "float32", list(DTYPES), "Of the tensors of --format=hf.")
VERIFY = flags.DEFINE_enum("verify", "full", ["full", "none"], "Whether the result is compared with the source.")


def main(argv: list[str]) -> None:
    """See the module."""
    verify = VERIFY.value == "full"
    convert(FROM.value, TO.value, FORMAT.value, dtype=DTYPE.value, verify=verify, say=print)


if __name__ == "__main__":
    cli.run(main)
