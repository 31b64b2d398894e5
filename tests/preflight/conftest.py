"""libtpu told about a machine that is not there, before it is loaded, and what is compiled kept out of JAX's cache."""

import platform
import sys

import jax
import pytest

from jaxseq.compiled.chips import TPU_ENVIRONMENT
from jaxseq.preflight import run


@pytest.fixture(scope="session", autouse=True)
def no_tpu():
    """JAX writes programs for absent devices to its cache but cannot read them back."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("libtpu is for Linux on x86-64 only")
    keep = jax.config.jax_persistent_cache_min_compile_time_secs
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TPU_ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(run, "prepare", lambda: None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
        yield
        jax.config.update("jax_persistent_cache_min_compile_time_secs", keep)
