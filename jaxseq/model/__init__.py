"""Models made of mixers."""

from jaxseq.model.classifier import BidirectionalClassifier, Classifier
from jaxseq.model.config import ModelConfig
from jaxseq.model.init import count, declare, make_params
from jaxseq.model.lm import LanguageModel

__all__ = ["BidirectionalClassifier", "Classifier", "LanguageModel", "ModelConfig", "count", "declare", "make_params"]
