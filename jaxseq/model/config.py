"""What a model is, as data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import ceil
from typing import Literal, get_type_hints

from jaxseq.config import Leaf, Options, fit, unknown
from jaxseq.mixers import MIXERS


@dataclass(frozen=True)
class ModelConfig:
    """A stack of blocks over tokens.

    Attributes:
      vocab: size of the embedding and the logits; at least the tokenizer's.
      width: D, the residual stream.
      layers: L, a multiple of the pattern's length.
      pattern: mixer names, repeated down the stack: ("para_rnn", "para_rnn", "attention") is two to one.
      options: fields of a mixer by mixer name, options["para_rnn"]["heads"] = 4. Unknown names raise.
      mlp_width: inner width of the MLP; None for 8/3 width rounded up to a multiple of 64; 0 for no MLP, as in Mamba.
      mlp, mlp_bias: which one, see `mlp.MLP`, and whether its maps have biases.
      residual: "sequential" (x + mixer, then + MLP of that), "parallel" (x + mixer + MLP of one norm, as in GPT-J) or
        "deepnorm" (α n + mixer(n) with n = norm(x), then the same with the MLP, as in MiniMax-01).
      residual_factor: α of "deepnorm".
      residual_scale: a learned gain on each mixer's skip connection, as in ParaRNN.
      norm, norm_eps: RMSNorm or LayerNorm with a bias, before each layer and at the end.
      shared_layers: every pass through the pattern has the same parameters, as in the Universal Transformer
        (arXiv 1807.03819): layers / len(pattern) passes, each with a state of its own.
      post_norm: mixers whose blocks norm what the mixer and the MLP give, before it is added, and not what they take,
        as in OLMo 2 (arXiv 2501.00656, section 3). With residual "sequential".
      tied: the head shares the embedding.
      embedding_scale: factor on the embeddings; Griffin's is √width.
      embedding_norm: a norm right after the embedding, as in RWKV.
      logit_cap: c of c tanh(logits / c), as in RecurrentGemma and xLSTM; None for none.
      dtype: of activations and matmuls. Parameters, recurrent states, norms and logits are float32 or
        wider always. "float64" is for references, and needs jax.enable_x64.
      remat: what the backward pass keeps of a block: "none" keeps everything, "dots" the matmuls' results and the
        recurrent states, "states" the recurrent states, "full" nothing but the block's input.
    """

    vocab: int = 264
    width: int = 128
    layers: int = 2
    pattern: tuple[str, ...] = ("para_rnn",)
    options: Options = field(default_factory=dict)
    mlp_width: int | None = None
    mlp: Literal["swiglu", "geglu", "relu2"] = "swiglu"
    mlp_bias: bool = False
    residual: Literal["sequential", "parallel", "deepnorm"] = "sequential"
    residual_scale: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    residual_factor: float = 1.0
    post_norm: tuple[str, ...] = ()
    shared_layers: bool = False
    tied: bool = False
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    logit_cap: float | None = None
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    remat: Literal["none", "dots", "states", "full"] = "dots"

    def __post_init__(self) -> None:
        for name in ("vocab", "width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.mlp_width is not None and self.mlp_width < 0:
            raise ValueError(f"model.mlp_width must not be negative, got {self.mlp_width}")
        for name in ("norm_eps", "logit_cap"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"model.{name} must be positive, got {getattr(self, name)}")
        if not self.pattern or self.layers % len(self.pattern):
            raise ValueError(f"model.layers = {self.layers} must be a multiple of {len(self.pattern)}, the pattern's")
        for name in self.pattern:
            if name not in MIXERS:
                raise unknown("model.pattern", name, MIXERS)
            if self.shared_layers and MIXERS[name].starts_by_depth:
                raise ValueError(f"model.shared_layers must be False with {name}, whose parameters start by depth")
        for name, options in self.options.items():
            _check_options(name, options)
        for name in self.post_norm:
            if name not in MIXERS:
                raise unknown("model.post_norm", name, MIXERS)
        if self.residual_factor != 1 and self.residual != "deepnorm":
            raise ValueError(
                f"model.residual_factor must be 1 with residual {self.residual!r}, got {self.residual_factor}"
            )
        if self.post_norm and self.residual != "sequential":
            raise ValueError(f"model.residual must be 'sequential' with post_norm, got {self.residual!r}")

    @property
    def repeats(self) -> int:
        """Passes through the pattern."""
        return self.layers // len(self.pattern)

    @property
    def hidden(self) -> int:
        """The MLP's inner width."""
        return 64 * ceil(8 * self.width / 3 / 64) if self.mlp_width is None else self.mlp_width


def _check_options(name: str, options: dict[str, Leaf]) -> None:
    if name not in MIXERS:
        raise unknown("model.options", name, MIXERS)
    cls = MIXERS[name]
    kinds = get_type_hints(cls)
    names = [f.name for f in fields(cls) if f.name not in ("width", "parent", "name")]
    for key, value in options.items():
        if key not in names:
            raise unknown(f"model.options.{name}", key, names)
        fit(kinds[key], value, f"model.options.{name}.{key}")
