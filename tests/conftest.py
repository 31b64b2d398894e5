"""Eight virtual CPU devices, one thread per worker, fixed seeds, and the one table of tolerances."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.flags import DEVICES, QUICK

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES} {QUICK}"

# Tests compile much and run little: code that is hardly optimised is ready in about 60 % of the time. It rounds more
# often (no fused multiply-add): what is judged by that takes the fixture `optimised`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # nobody reads where in Python an operation came from

# Compiled programs are kept between tests, workers and runs; the launch scripts that tests start use them too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import numpy as np
import pytest

jax.devices()  # XLA has read its flags
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].removesuffix(QUICK)

# Largest deviation from the float64 reference, relative to its largest entry. Never loosened to make a test pass.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 2e-2}


def pytest_collection_finish() -> None:
    """Tracing makes many objects: those of pytest and JAX are not looked through for garbage each time."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def key() -> jax.Array:
    """A fixed random key."""
    return jax.random.key(0)


@contextmanager
def compiled_as_users_do() -> Iterator[None]:
    """Functions that are compiled inside are optimised."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def as_users_do() -> Callable[..., Any]:
    """`with as_users_do():`, see `compiled_as_users_do`."""
    return compiled_as_users_do


@pytest.fixture
def optimised() -> Iterator[None]:
    """The whole test runs what is compiled as users do, and nothing that was compiled before."""
    jax.clear_caches()
    with compiled_as_users_do():
        yield
    jax.clear_caches()


def deviation(value: Any, expected: Any) -> float:
    """The largest deviation of a leaf of `value` from that of `expected`, relative to the leaf's largest entry."""

    def one(a: Any, b: Any) -> float:
        wide = np.complex128 if np.iscomplexobj(b) else np.float64
        a, b = np.asarray(a).astype(wide), np.asarray(b).astype(wide)
        assert a.shape == b.shape
        return float(np.max(np.abs(a - b), initial=0) / (np.max(np.abs(b), initial=0) or 1))

    return float(np.max(jax.tree.leaves(jax.tree.map(one, value, expected))))


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """close(value, expected, dtype="float32") asserts that two trees agree within the dtype's tolerance, NaN never."""

    def check(value: Any, expected: Any, dtype: str = "float32") -> None:
        assert deviation(value, expected) <= TOLERANCE[dtype]

    return check
