"""Experiment configs: nested frozen dataclasses, changed by text, checked by type, kept as JSON and compared."""

from jaxseq.config.file import load_config
from jaxseq.config.tree import ABSENT, diff, from_json, override, to_json
from jaxseq.config.values import Leaf, Options, check, fit, unknown

__all__ = [
    "ABSENT",
    "Leaf",
    "Options",
    "check",
    "diff",
    "fit",
    "from_json",
    "load_config",
    "override",
    "to_json",
    "unknown",
]
