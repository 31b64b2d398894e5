"""Models made of mixers."""

from jaxseq.model.config import ModelConfig
from jaxseq.model.lm import LanguageModel

__all__ = ["LanguageModel", "ModelConfig"]
