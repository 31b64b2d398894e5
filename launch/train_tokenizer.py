"""Trains a tokenizer, offline: python launch/train_tokenizer.py --source=stdlib --vocab=8192 --to=tokenizer.json

Byte-level BPE of the library tokenizers (pip install 'jaxseq[tokenizers]') on the training split, with "<bos>" to begin
documents. Train a model on it with --set=data.tokenizer=tokenizer.json --set=model.vocab=8192.
"""

from absl import flags

from jaxseq import cli
from jaxseq.data.bpe import train_file

SOURCE = flags.DEFINE_multi_string("source", ["stdlib"], "As data.source; repeatable.")
FIELD = flags.DEFINE_string("field", "text", "As data.field.")
DELIMITER = flags.DEFINE_string("delimiter", None, "As data.delimiter.")
VOCAB = flags.DEFINE_integer("vocab", 8192, "Ids: 256 bytes, <bos>, and merges.")
TO = flags.DEFINE_string("to", None, "File to write.", required=True)


def main(argv: list[str]) -> None:
    """See the module."""
    print(train_file(tuple(SOURCE.value), VOCAB.value, TO.value, field=FIELD.value, delimiter=DELIMITER.value))


if __name__ == "__main__":
    cli.run(main)
