"""What the tests of the ops share."""

import pytest

from jaxseq.ops.kernels import cell_gpu


@pytest.fixture(autouse=True)
def few_steps_ahead(monkeypatch):
    """Two steps of the GPU kernels unrolled, not eight: interpreted, they are compiled by the step."""
    monkeypatch.setattr(cell_gpu, "AHEAD", 2)
