"""Text and bytes: a corpus on disk, its tokens, and the batches a model trains and is evaluated on."""

from jaxseq.data.corpus import Corpus, Documents, open_corpus
from jaxseq.data.manifest import manifest, xz_bits_per_byte
from jaxseq.data.mixture import tokens_per_byte
from jaxseq.data.pipeline import PipelineChanged, ShardedBatches, train_batches
from jaxseq.data.sources import open_data, open_source
from jaxseq.data.stream import StreamBatches, stream_batches
from jaxseq.data.tokenizer import ByteTokenizer, TextStream, Tokenizer, open_tokenizer, save_tokenizer

__all__ = [
    "ByteTokenizer",
    "Corpus",
    "Documents",
    "PipelineChanged",
    "ShardedBatches",
    "StreamBatches",
    "TextStream",
    "Tokenizer",
    "manifest",
    "open_corpus",
    "open_data",
    "open_source",
    "open_tokenizer",
    "save_tokenizer",
    "stream_batches",
    "tokens_per_byte",
    "train_batches",
    "xz_bits_per_byte",
]
