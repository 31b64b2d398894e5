"""An experiment: everything that determines a run, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxseq.config import diff
from jaxseq.model.config import ModelConfig
from jaxseq.model.lora import LoRA
from jaxseq.model.weights import Weights


@dataclass(frozen=True)
class DataConfig:
    """What is read.

    Attributes:
      source: "stdlib" (the Python standard library's own sources), a file, a directory, a glob, or .jsonl files; or
        "parity:100", a task made up as it is read, see `data.synthetic`; or a folder of prepared tokens, or .bin files
        of tokens, see `data.sources`. A tuple of these is a mixture.
      weights: of a mixture, one for each source: the proportions in which training draws from them; none: of bytes.
      encoding: "utf-8" refuses anything else; "bytes" takes any bytes.
      field: of a .jsonl line or a parquet row, the text.
      piece_bytes: larger plain files are cut into documents of at most this many bytes.
      delimiter: what stands between the documents of a plain file, which is then cut there alone.
      tokenizer: "bytes", or a JSON file of the library tokenizers; a copy of it is kept in the workdir.
      length: T, target tokens per row.
      batch: rows per step over all processes and microbatches.
      shards: V, of which the stream of batches is made, a divisor of batch; that many processes can share it at most.
        None: the most of 8, 4, 2 and 1 that divide batch.
      seed: of the order of the data.
    """

    source: str | tuple[str, ...] = "stdlib"
    weights: tuple[float, ...] = ()
    encoding: str = "utf-8"
    field: str = "text"
    piece_bytes: int = 65536
    delimiter: str | None = None
    tokenizer: str = "bytes"
    length: int = 256
    batch: int = 16
    shards: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shards is not None and (self.shards < 1 or self.batch % self.shards):
            raise ValueError(f"data.shards must divide data.batch = {self.batch}, got {self.shards}")
        sources = self.source if isinstance(self.source, tuple) else (self.source,)
        if self.weights and len(self.weights) != len(sources):
            raise ValueError(f"data.weights must be one for each of {len(sources)} sources, got {self.weights}")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and a cosine (optax).

    Attributes:
      learning_rate: the peak, reached after `warmup` steps; the cosine ends at `end_fraction` of it after train.steps.
      b1, b2, eps, weight_decay: AdamW's. Decay applies to the matrices that declare it, not to gains, biases, decays
        and recurrent weights.
      clip_norm: of the gradient, over all parameters.
      z_loss: weight of logsumexp² in the loss.
    """

    learning_rate: float = 3e-3
    warmup: int = 100
    end_fraction: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    z_loss: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optim.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainConfig:
    """How long, and what is written when. Intervals are in steps; 0 means only at the end.

    Attributes:
      steps: optimizer steps.
      accumulate: microbatches per step; must divide data.batch.
      seed: of the initial parameters.
      log_every, eval_every, save_every: intervals of metrics, evaluation and checkpoints.
      eval_batches: batches of an evaluation during training; the one at the end covers the whole split.
      keep_last: how many of the latest checkpoints stay; the best by validation bits per byte stays besides.
      sample_tokens: length of the sample printed at the end; 0 for none.
      tensorboard: also write TensorBoard event files (needs the extra `tensorboard`).
      lora: train adapters of low rank on frozen parameters, see `LoRA`; evaluation and export merge them.
      ema: decay of an exponential moving average of what is trained, which is what evaluation, sampling and export
        then use, see `Weights`; 0 for none.
    """

    steps: int = 1000
    accumulate: int = 1
    seed: int = 0
    log_every: int = 10
    eval_every: int = 0
    eval_batches: int = 16
    save_every: int = 100
    keep_last: int = 2
    sample_tokens: int = 200
    tensorboard: bool = False
    lora: LoRA = field(default_factory=LoRA)
    ema: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "eval_batches", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("eval_every", "save_every", "sample_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema must be in [0, 1), got {self.ema}")

    @property
    def weights(self) -> Weights:
        """How the run keeps its parameters."""
        return Weights(self.lora, self.ema)


@dataclass(frozen=True)
class InitConfig:
    """What training starts from.

    Attributes:
      from_hf: a folder of Hugging Face (config.json and safetensors): its model, of which `model.dtype` and
        `model.remat` alone are still the experiment's, and its parameters. None: a fresh model from `train.seed`.
    """

    from_hf: str | None = None


@dataclass(frozen=True)
class Experiment:
    """The whole of a run: model and where its parameters come from, data, optimizer, training, the mesh (data, fsdp,
    tensor, seq), -1 for the rest, and the TPU slice it is meant for ("v5e:16x16"), which `launch/preflight.py` compiles
    it for.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mesh: tuple[int, int, int, int] = (-1, 1, 1, 1)
    topology: str | None = None

    def __post_init__(self) -> None:
        if self.data.batch % self.train.accumulate:
            raise ValueError(f"train.accumulate = {self.train.accumulate} must divide data.batch = {self.data.batch}")


# Fields that a resumed run may change: they alter what is written, or where the run ends, not what a step computes
# from its state. (train.steps moves the end of the learning rate's cosine: the resumed run says so.)
RESUMABLE = frozenset(
    {
        "mesh",
        "topology",
        *(
            f"train.{name}"
            for name in (
                "steps",
                "log_every",
                "eval_every",
                "eval_batches",
                "save_every",
                "keep_last",
                "sample_tokens",
                "tensorboard",
            )
        ),
    }
)


def changes(old: Experiment, new: Experiment) -> tuple[list[str], list[str]]:
    """What differs between a run's config and the one it is to resume with, a line each: (refused, allowed)."""
    refused, allowed = [], []
    for path, before, after in diff(old, new):
        line = f"{path}: {before!r} -> {after!r}"
        (allowed if path in RESUMABLE else refused).append(line)
    return refused, allowed
