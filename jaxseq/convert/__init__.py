"""Weights to and from other libraries."""

from jaxseq.convert.cells import LAYOUTS, cell_from_state_dict, cell_to_state_dict
from jaxseq.convert.layout import Layout
from jaxseq.convert.load import load_model

__all__ = ["LAYOUTS", "Layout", "cell_from_state_dict", "cell_to_state_dict", "load_model"]
