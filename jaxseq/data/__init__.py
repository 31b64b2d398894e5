"""Text and bytes: a corpus on disk, its tokens, and the batches a model trains and is evaluated on."""

from jaxseq.data.corpus import Corpus, Documents, open_corpus
from jaxseq.data.manifest import manifest, xz_bits_per_byte
from jaxseq.data.pipeline import train_batches
from jaxseq.data.stream import StreamBatches, stream_batches
from jaxseq.data.synthetic import open_source
from jaxseq.data.tokenizer import ByteTokenizer, TextStream

__all__ = [
    "ByteTokenizer",
    "Corpus",
    "Documents",
    "StreamBatches",
    "TextStream",
    "manifest",
    "open_corpus",
    "open_source",
    "stream_batches",
    "train_batches",
    "xz_bits_per_byte",
]
