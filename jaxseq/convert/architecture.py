"""An architecture of transformers as one of our models: names of all tensors, and config.json against ModelConfig."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from jaxseq.convert.table import Table
from jaxseq.mixers.base import Mixer
from jaxseq.model import ModelConfig
from jaxseq.model.block import make_mixer

# Fields of config.json that say nothing of what a model computes from its tokens.
BOOKKEEPING = {
    *("_name_or_path", "architectures", "attention_dropout", "bos_token_id", "chunk_size", "chunk_size_feed_forward"),
    *("dtype", "eos_token_id", "id2label", "initializer_range", "is_encoder_decoder", "label2id"),
    *("max_position_embeddings", "model_type", "output_attentions", "output_hidden_states", "pad_token_id"),
    *("problem_type", "return_dict", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache"),
}
MISSING = object()


class Architecture(NamedTuple):
    """What converts a class of transformers, both ways.

    Attributes:
      name: the class, "MambaForCausalLM".
      model_type: of config.json.
      mixers: the mixers that such a model is made of.
      layer: what the tensors of layer n begin with, "backbone.layers.{}.".
      top: tensors that are no layer's, against ours outside `layers`.
      head: the tensor of the output's map, which is the embedding's where the config is `tied`.
      blocks: the tables of a config's blocks, one for each mixer of the pattern; ours are dotted ("mixer.w_x").
      read_config: what a config.json says, as a ModelConfig.
      write_config: the config.json of a ModelConfig; ValueError where the class has no such model.
      span: entries of the pattern that make one of their layers.
      aliases: (name in a layer's table, what files may have in its place).
      computed: last parts of the names of tensors that follow from config.json: files may have them, nobody reads them.
    """

    name: str
    model_type: str
    mixers: frozenset[str]
    layer: str
    top: Table
    head: str
    blocks: Callable[[ModelConfig], Sequence[Table]]
    read_config: Callable[[Fields], ModelConfig]
    write_config: Callable[[ModelConfig], dict[str, Any]]
    span: int = 1
    aliases: tuple[tuple[str, str], ...] = ()
    computed: tuple[str, ...] = ()


class Fields:
    """A config.json that is read field by field, so that what nobody asked for is found."""

    def __init__(self, values: dict[str, Any]):
        self._values = values
        self._asked: set[str] = set(BOOKKEEPING)

    def take(self, name: str, default: Any = MISSING) -> Any:
        """The field's value. Raises ValueError where it is missing and has no default."""
        self._asked.add(name)
        if name not in self._values and default is MISSING:
            raise ValueError(f"config.json must have the field {name}")
        return self._values.get(name, default)

    def expect(self, **values: Any) -> None:
        """Raises ValueError for a field that is there and has another value than the one that can be converted."""
        for name, value in values.items():
            if (found := self.take(name, value)) != value:
                raise ValueError(f"config.json: {name} must be {value!r} to be converted, got {found!r}")

    def ignore(self, *names: str) -> None:
        """Fields that are known to change nothing."""
        self._asked.update(names)

    def done(self) -> None:
        """Raises ValueError for fields that were never asked for."""
        if unknown := sorted(set(self._values) - self._asked):
            raise ValueError(f"config.json has fields that the conversion does not know: {', '.join(unknown)}")


PLAIN = {  # what most classes have built in
    "residual": "sequential",
    "residual_factor": 1.0,
    "residual_scale": False,
    "norm": "rms",
    "post_norm": (),
    "embedding_scale": 1.0,
    "embedding_norm": False,
    "shared_layers": False,
    "mlp_bias": False,
}


def require(config: ModelConfig, **values: Any) -> None:
    """Raises ValueError for a field of `config` that has not the one value that the other class has built in: the one
    in `values`, or in PLAIN.
    """
    for name, value in {**PLAIN, **values}.items():
        if (found := getattr(config, name)) != value:
            raise ValueError(f"model.{name} must be {value!r}, got {found!r}")


def require_fields(mixer: Mixer, kind: str, **values: Any) -> None:
    """Raises ValueError for a field of the mixer `kind` that has not the one value that another class has built in."""
    for name, value in values.items():
        if (found := getattr(mixer, name)) != value:
            raise ValueError(f"{kind}.{name} must be {value!r}, got {found!r}")


M = TypeVar("M", bound=Mixer)


def mixer_of(config: ModelConfig, kind: str, cls: type[M]) -> M:
    """The mixer `kind` as the config has it, for its fields."""
    mixer = make_mixer(config, kind, parent=None)
    assert isinstance(mixer, cls)
    return mixer
