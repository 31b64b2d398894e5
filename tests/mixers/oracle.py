"""A third party's module beside one of our mixers, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.core import meta

from jaxseq.convert.table import Table, read, write


def amplify(module: torch.nn.Module, by: float = 3.0, keep: tuple[str, ...] = ()) -> torch.nn.Module:
    """The module with random weights, but for names in `keep`, `by` times as large as usual: a dead state shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if not any(name.endswith(end) for end in keep):
                fan = value[0].numel() if value.ndim > 1 else 4
                value.copy_(by * torch.randn(value.shape, generator=generator) / fan**0.5)
    return module.eval()


def crossed(table: Table, module: torch.nn.Module, mixer) -> dict:
    """Variables of `mixer` with the weights of `module`; the way back gives the same tensors, bit for bit."""
    tensors = module.state_dict()
    shapes = meta.unbox(jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 2, mixer.width))))["params"]
    params = read(table, tensors, shapes)
    for name, array in write(table, params).items():
        np.testing.assert_array_equal(array, tensors[name].numpy())
    return {"params": jax.tree.map(jnp.asarray, params)}


def inputs(width: int, time: int = 21, batch: int = 2) -> np.ndarray:
    """Normal inputs (batch, time, width) float32."""
    return np.random.default_rng(0).normal(size=(batch, time, width)).astype(np.float32)


def stepped(mixer, variables, x) -> jax.Array:
    """The mixer's outputs one token at a time."""
    step = jax.jit(lambda x, state: mixer.apply(variables, x, state=state))
    state, ys = mixer.init_state(x.shape[0]), []
    for t in range(x.shape[1]):
        y, state = step(x[:, t : t + 1], state)
        ys.append(y)
    return jnp.concatenate(ys, axis=1)


def assert_near(value, expected, tolerance: float = 1e-4) -> None:
    """The largest deviation relative to the largest entry is within `tolerance`, and there is something to compare."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    assert value.shape == expected.shape
    assert np.std(expected) > 1e-3
    assert np.max(np.abs(value - expected)) <= tolerance * np.max(np.abs(expected))
