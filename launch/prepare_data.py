"""Tokenises ahead of time: python launch/prepare_data.py --source='text/*.jsonl' --tokenizer=tokenizer.json --to=tokens

The same command goes on after it was killed. Train on the result with --set=data.source=tokens and the same
data.tokenizer: the batches are those of the text.
"""

import os

from absl import flags

from jaxseq import cli
from jaxseq.data import open_corpus, open_tokenizer
from jaxseq.data.bar import Bar
from jaxseq.data.prepare import prepare

SOURCE = flags.DEFINE_string("source", None, "As data.source, of text.", required=True)
ENCODING = flags.DEFINE_string("encoding", "utf-8", "As data.encoding.")
FIELD = flags.DEFINE_string("field", "text", "As data.field.")
DELIMITER = flags.DEFINE_string("delimiter", None, "As data.delimiter.")
PIECE_BYTES = flags.DEFINE_integer("piece_bytes", 65536, "As data.piece_bytes.")
TOKENIZER = flags.DEFINE_string("tokenizer", "bytes", "As data.tokenizer.")
TO = flags.DEFINE_string("to", None, "Folder; made if missing.", required=True)
SHARD_BYTES = flags.DEFINE_integer("shard_bytes", 1 << 26, "Of text in a shard.")
WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes.")


def main(argv: list[str]) -> None:
    """See the module."""
    corpus = open_corpus(
        SOURCE.value,
        encoding=ENCODING.value,
        field=FIELD.value,
        piece_bytes=PIECE_BYTES.value,
        delimiter=DELIMITER.value,
    )
    tokenizer = open_tokenizer(TOKENIZER.value)
    with Bar() as bar:
        found = prepare(
            corpus, tokenizer, TO.value, workers=WORKERS.value, shard_bytes=SHARD_BYTES.value, show=bar.show
        )
    print(f"{TO.value}: {found['documents']:,} documents, {found['bytes']:,} bytes, {found['tokens']:,} tokens")


if __name__ == "__main__":
    cli.run(main)
