"""A config of every kind of field, and what its tests share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from jaxseq.config import Options, override


@dataclass(frozen=True)
class Schedule:
    warmup: int = 10
    peak: float = 1e-3


@dataclass(frozen=True)
class Stage:
    steps: int
    name: str = "main"


@dataclass(frozen=True)
class Model:
    layers: int = 2
    width: int = 8
    heads: int = 2
    mixer: Literal["lru", "mamba", "para_rnn"] = "lru"
    bias: bool = True
    dropout: float | None = None
    options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width {self.width}, got {self.heads}")


@dataclass(frozen=True)
class Experiment:
    kind: ClassVar[str] = "experiment"
    name: str = "run"
    tag: str | None = None
    model: Model = Model()
    schedule: Schedule | None = None
    stage: Stage | None = None
    stages: tuple[Stage, ...] = ()
    betas: tuple[float, float] = (0.9, 0.95)
    sizes: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    grid: tuple[tuple[int, int], ...] = ()
    limit: int | Literal["auto"] = "auto"
    scale: float | str = 1.0


BASE = Experiment()
FULL = Experiment(
    tag="t",
    model=Model(dropout=0.5, options={"para_rnn": {"heads": 4, "shape": (1, 2.5, "a", None, True), "top": math.inf}}),
    schedule=Schedule(),
    stages=(Stage(1), Stage(2, "b")),
    betas=(0.5, math.inf),
    sizes=(1, 2),
    words=("a",),
    grid=((1, 2), (3, 4)),
    limit=3,
    scale="inf",
)


def refuses(text: str) -> Any:
    """A ValueError whose message is exactly this text."""
    return pytest.raises(ValueError, match=f"^{re.escape(text)}$")


def set_one(assignment: str, config: Any = BASE) -> Any:
    return override(config, [assignment])
