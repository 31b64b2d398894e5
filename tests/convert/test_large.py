"""A model of 100 million parameters crosses in a few times its own size."""

import os
import subprocess
import sys

import pytest

MAKE = """
import sys
from jaxseq.checkpoint import save_model
from jaxseq.experiment import Experiment
from jaxseq.model import LanguageModel, ModelConfig, make_params
from jaxseq.sharding import make_mesh
options = {"mamba2": {"norm_eps": 1e-6}}
config = ModelConfig(vocab=50280, width=768, layers=16, pattern=("mamba2",), options=options, mlp_width=0, tied=True,
                     residual_scale=False)
save_model(sys.argv[1], Experiment(model=config), make_params(LanguageModel(config), 0, make_mesh()))
"""
CONVERT = """
import jax, resource, sys
from jaxseq.convert.command import convert
source, target, form = sys.argv[1:]
jax.devices()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(source, target, form, verify=False, say=lambda _: None)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
COMPARE = """
import jax, numpy, sys
from jaxseq.checkpoint import read_model
a, b = (read_model(folder)[2] for folder in sys.argv[1:])
jax.tree.map(numpy.testing.assert_array_equal, a, b)
print(sum(x.nbytes for x in jax.tree.leaves(a)))
"""
TIMES = 4  # of the parameters' bytes, for what a conversion needs beside the libraries


def run(program, *args):
    one_device = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, "-c", program, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_device)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_hundred_million_parameters_come_back_equal_in_a_few_times_their_size(tmp_path):
    ours, theirs, again = (tmp_path / name for name in ("ours", "theirs", "again"))
    ours.mkdir()
    run(MAKE, ours)
    peaks = [int(run(CONVERT, ours, theirs, "hf")), int(run(CONVERT, theirs, again, "jaxseq"))]
    size = int(run(COMPARE, ours, again))
    print(f"{size / 1e6:.0f} MB of parameters: {peaks[0] / size:.2f} times that out, {peaks[1] / size:.2f} back")
    assert size > 3.8e8
    assert max(peaks) < TIMES * size
