"""Moves a model to PyTorch and back: python launch/convert.py --from=runs/mamba --to=out --format=hf

--from is a workdir or a folder with config.json and safetensors; --to must not be there yet. "hf" is for the classes of
transformers, "torch" for any model: the folder brings its own code, which needs nothing but torch. The result is
compared with the source in both frameworks, in float32 and bfloat16, and removed if it deviates. "pararnn" gives
ml-pararnn the cells of para_rnn layers (GRUDiagMH, LSTMCIFGDiagMH), compared with their equations in float64.
"""

from absl import flags

from jaxseq import cli
from jaxseq.convert.command import DTYPES, FORMS, convert

FROM = flags.DEFINE_string("from", None, "A workdir, or a folder with safetensors.", required=True)
TO = flags.DEFINE_string("to", None, "A folder that is not there, or empty.", required=True)
FORMAT = flags.DEFINE_enum("format", "hf", FORMS, "What to write.")
DTYPE = flags.DEFINE_enum("dtype", "float32", list(DTYPES), "Of the tensors of all formats but jaxseq.")
LICENSE = flags.DEFINE_string("license", "unknown", "Of the model, for the model card: apache-2.0, ...")
VERIFY = flags.DEFINE_enum("verify", "full", ["full", "none"], "Whether the result is compared with the source.")


def main(argv: list[str]) -> None:
    """See the module."""
    options = {"dtype": DTYPE.value, "verify": VERIFY.value == "full", "license": LICENSE.value}
    convert(FROM.value, TO.value, FORMAT.value, **options, say=print)


if __name__ == "__main__":
    cli.run(main)
