"""Continues a prompt with a trained model: python launch/generate.py --workdir=runs/quickstart --prompt="def "

Several --prompt flags are answered as one batch; a single one is streamed.
"""

from absl import flags

from jaxseq import cli
from jaxseq.checkpoint import read_model
from jaxseq.data import open_tokenizer
from jaxseq.generate import Sampling, print_answers

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.", required=True)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to read; the latest by default.")
PROMPT = flags.DEFINE_multi_string("prompt", [""], "Text to continue; repeatable.")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", 256, "Tokens to draw at most.")
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Divides the logits; 0 is greedy.")
TOP_K = flags.DEFINE_integer("top_k", None, "Keep the k most probable tokens.")
TOP_P = flags.DEFINE_float("top_p", None, "Keep the most probable tokens that reach this probability.")
SEED = flags.DEFINE_integer("seed", 0, "Of the random numbers.")


def main(argv: list[str]) -> None:
    """See the module."""
    sampling = Sampling(TEMPERATURE.value, TOP_K.value, TOP_P.value, SEED.value)
    config, model, params, _ = read_model(WORKDIR.value, STEP.value)
    tokenizer = open_tokenizer(config.data.tokenizer, WORKDIR.value)
    print_answers(model, params, PROMPT.value, max_tokens=MAX_TOKENS.value, sampling=sampling, tokenizer=tokenizer)


if __name__ == "__main__":
    cli.run(main)
