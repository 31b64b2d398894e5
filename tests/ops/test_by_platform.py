"""The branch of the platform that a program is compiled for, and no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.ops import linear_scan
from jaxseq.ops.by_platform import by_platform


def add(x, y):
    return {"sum": x + y}


def forbidden(x, y):
    raise AssertionError("a branch of another platform was traced")


BRANCHES = {"cpu": add, "tpu": forbidden}
X, Y = np.arange(6.0).reshape(3, 2), np.ones(2)


def test_another_platform_s_branch_is_not_traced():
    assert np.array_equal(by_platform(BRANCHES, X, Y)["sum"], X + 1)
    assert np.array_equal(jax.jit(lambda x: by_platform(BRANCHES, x, Y)["sum"])(X), X + 1)


def test_it_is_traced_where_it_is_compiled_for():
    with pytest.raises(AssertionError, match="another platform"):
        jax.jit(lambda x: by_platform(BRANCHES, x, Y)["sum"]).trace(X).lower(lowering_platforms=("tpu",))


def test_a_platform_without_a_branch_is_named():
    with pytest.raises(NotImplementedError, match="no implementation for cuda, only for cpu, tpu"):
        jax.jit(lambda x: by_platform(BRANCHES, x, Y)["sum"]).trace(X).lower(lowering_platforms=("cuda",))


def test_vmap_maps_the_branch():
    mapped = jax.vmap(lambda x: by_platform(BRANCHES, x, Y)["sum"])(np.stack([X, 2 * X]))
    assert np.array_equal(mapped, np.stack([X, 2 * X]) + 1)


@pytest.mark.parametrize(("platform", "call"), [("cpu", None), ("tpu", "tpu_custom_call"), ("cuda", "triton")])
def test_auto_takes_the_kernel_where_there_is_one(platform, call):
    x = jnp.ones((1, 16, 128))
    gradient = jax.jit(jax.grad(lambda a, b: jnp.sum(linear_scan(a, b)), argnums=(0, 1)))
    text = gradient.trace(x, x).lower(lowering_platforms=(platform,)).as_text()
    found = {name: text.count(name) for name in ("tpu_custom_call", "triton")}
    assert found == {"tpu_custom_call": 0, "triton": 0} if call is None else found[call] >= 2  # forwards and backwards
