"""Eight virtual CPU devices, one thread per worker, fixed seeds, and the one table of tolerances."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import pytest

CACHE = os.environ.get("JAXSEQ_TEST_CACHE")
if CACHE:
    jax.config.update("jax_compilation_cache_dir", CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

# Largest deviation from the float64 reference, relative to its largest entry. Never loosened to make a test pass.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "bfloat16": 2e-2}


@pytest.fixture
def key() -> jax.Array:
    """A fixed random key."""
    return jax.random.key(0)
