"""What a folder of transformers needs for text: tokenizer.json, tokenizer_config.json and generation_config.json.

`AutoTokenizer` then gives the ids that the model was trained with, `bos` first, and `generate` ends where the model
ends a document.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from jaxseq.checkpoint import read_config
from jaxseq.convert.load import is_workdir
from jaxseq.data import ByteTokenizer, Tokenizer, open_tokenizer
from jaxseq.data.bpe import BPETokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
BOS = "<bos>"


def carry_text(source: str | Path, folder: Path, vocab: int) -> None:
    """Gives `folder`, of a model of `vocab` tokens, the text files of `source`: of a run's own tokenizer, or those that
    a folder of transformers has. A workdir that was not trained in has none: what its ids mean is not known.

    Raises ValueError and FileNotFoundError as `data.open_tokenizer` and `write_text_files` do.
    """
    source = Path(source)
    if not is_workdir(source):
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    elif (source / "manifest.json").is_file():
        write_text_files(folder, open_tokenizer(read_config(source).data.tokenizer, source), vocab)


def write_text_files(folder: Path, tokenizer: Tokenizer, vocab: int) -> None:
    """Writes the three files of a tokenizer for a model of `vocab` tokens.

    Text that reads like `bos` stays text, as here. Ids beyond the tokenizer's, the padding of the vocabulary, are never
    drawn. Raises ValueError for a tokenizer that is larger than the model.
    """
    if tokenizer.vocab > vocab:
        raise ValueError(f"model.vocab must hold the tokenizer's {tokenizer.vocab} ids, got {vocab}")
    library = _library(tokenizer)
    bos = library.id_to_token(tokenizer.bos)
    special: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token"), bos)
    fixed = {"clean_up_tokenization_spaces": False, "split_special_tokens": True}
    ids: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.bos)
    padding = {"suppress_tokens": list(range(tokenizer.vocab, vocab))} if tokenizer.vocab < vocab else {}
    (folder / "tokenizer.json").write_text(library.to_str())
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special, **fixed})
    _write(folder / "generation_config.json", {**ids, **padding})


def _library(tokenizer: Tokenizer) -> Any:
    """The same in the library `tokenizers`, which puts `bos` first when it is asked for special tokens."""
    from tokenizers import Tokenizer as Library
    from tokenizers.processors import TemplateProcessing

    library = Library.from_str(tokenizer.json) if isinstance(tokenizer, BPETokenizer) else _bytes()
    bos = library.id_to_token(tokenizer.bos)
    library.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos)]
    )
    return library


def _bytes() -> Any:
    """Byte-level BPE without a merge: a byte is its own id."""
    from tokenizers import AddedToken, decoders, pre_tokenizers
    from tokenizers import Tokenizer as Library
    from tokenizers.models import BPE

    library = Library(BPE(vocab=_letters(), merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    library.decoder = decoders.ByteLevel()  # pyright: ignore
    library.add_special_tokens([AddedToken(BOS, special=True)])
    assert library.token_to_id(BOS) == ByteTokenizer.bos
    return library


def _letters() -> dict[str, int]:
    """The bytes by the letters that stand for them in such files: a printable character of Latin-1 is its own byte, the
    other 68 are the characters from 256 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
