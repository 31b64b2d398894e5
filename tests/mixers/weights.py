"""Parameters of a mixer without its initialisation: for comparisons with a paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta


def shapes(mixer) -> dict:
    """The parameters' shapes and dtypes, by name."""
    return meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 2, mixer.width))))["params"]


def drawn(mixer, by: float = 3.0) -> dict:
    """Normal parameters, `by` times as large as usual: N(0, by² / fan-in)."""
    rng = np.random.default_rng(1)
    return {n: (by * rng.normal(size=s.shape) / s.shape[0] ** 0.5).astype(np.float32) for n, s in shapes(mixer).items()}


def initial(mixer) -> dict:
    """The parameters that the mixer starts with, as numpy arrays."""
    params = jax.jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 2, mixer.width)))
    return jax.tree.map(np.asarray, meta.unbox(params)["params"])


def wide(params: dict) -> dict:
    """The parameters in float64."""
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def count(mixer) -> int:
    """How many numbers the parameters have."""
    return sum(x.size for x in jax.tree.leaves(shapes(mixer)))


def state_bytes(mixer) -> int:
    """Bytes of the state of one sequence."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(lambda: mixer.init_state(1))))
