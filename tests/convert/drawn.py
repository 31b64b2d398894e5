"""Models with random parameters that are far from their initial ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.model import LanguageModel, ModelConfig, declare
from jaxseq.sharding import is_declared
from tests.mixers.cases import WIDTH

VOCAB = 40


def drawn(model: LanguageModel, by: float = 2.0):
    """Random parameters whose matrices are `by` times as large as usual."""
    rng = np.random.default_rng(0)

    def one(path, leaf):
        name, shape = str(path[-1].key), leaf.value.shape
        x = rng.normal(size=shape).astype(np.float32)
        stacked = path[0].key == "layers" and not model.config.shared_layers
        if "norm" in name or name == "skip":
            return jnp.asarray(1 + 0.3 * x)
        if name == "lambda_re":  # eigenvalues to the right of 0 grow without bound
            return jnp.asarray(-abs(x))
        return jnp.asarray(by * x / shape[-2] ** 0.5 if len(shape) - stacked > 1 else 0.5 * x)

    return jax.tree_util.tree_map_with_path(one, declare(model), is_leaf=is_declared)


def tiny(pattern, options=None, layers=2, **style) -> tuple[LanguageModel, dict]:
    """A model of the pattern, `layers` times, and parameters: in deep models of no more than the usual size, or
    rounding alone would grow too much.
    """
    fields = {"vocab": VOCAB, "width": WIDTH, "mlp_width": 24, "remat": "none"} | style
    model = LanguageModel(ModelConfig(pattern=pattern, layers=layers * len(pattern), options=options or {}, **fields))
    return model, drawn(model, by=2.0 if model.config.layers < 4 else 1.0)
