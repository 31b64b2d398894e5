"""A mesh of one device, for what reads and writes folders."""

import jax
import pytest

from jaxseq.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices()[:1])
