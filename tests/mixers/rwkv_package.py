"""The authors' package `rwkv`, whose environment decides what it defines."""

import importlib.util
import sys
import warnings

import pytest


def load(version):
    """A module of its own with the functions of RWKV-`version`, 6 or 7."""
    found = importlib.util.find_spec("rwkv.model")
    spec = importlib.util.spec_from_file_location(f"rwkv_{version}", found.origin)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RWKV_V7_ON", "1" if version == 7 else "0")
        patch.setenv("RWKV_JIT_ON", "0")
        patch.setenv("RWKV_CUDA_ON", "0")
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module
