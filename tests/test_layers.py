"""Imports point down, never in a circle, and siblings leave each other alone. Read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = {
    "compiled": 0,
    "config": 0,
    "sharding": 0,
    "cluster": 0,
    "fingerprint": 1,
    "ops": 0,
    "solvers": 1,
    "cells": 2,
    "mixers": 3,
    "model": 4,
    "data": 5,
    "experiment": 5,
    "checkpoint": 5,
    "analysis": 6,
    "compare": 6,
    "convert": 6,
    "evaluate": 6,
    "generate": 6,
    "likelihood": 6,
    "train": 7,
    "benchmark": 8,
    "preflight": 8,
    "cli": 8,
    "lm_eval": 8,
}
SAME_LEVEL = {("checkpoint", "experiment"), ("generate", "evaluate")}  # needed, and acyclic as pairs of this order
NO_FLAX = {"ops", "solvers", "cells"}
SIBLINGS_APART = {  # but for these
    "mixers": {"base"},
    "cells": {"base", "channelwise", "glorot", "nonlinearity", "recurrent"},
}
FILES = sorted((ROOT / "jaxseq").rglob("*.py"))


def imports(path):
    """(module, line) of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, node.lineno


def part(path):
    """The package or module of jaxseq that a file belongs to: its place in LEVELS."""
    return path.relative_to(ROOT / "jaxseq").parts[0].removesuffix(".py")


def ours(path):
    """The parts of jaxseq that a file imports, other than its own."""
    for module, line in imports(path):
        if module.startswith("jaxseq.") and (name := module.split(".")[1]) != part(path):
            yield name, line


def test_every_file_has_a_level():
    assert {part(path) for path in FILES} - {"__init__"} == set(LEVELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    if part(path) == "__init__":
        return
    for name, line in ours(path):
        below = LEVELS[name] < LEVELS[part(path)]
        assert below or (part(path), name) in SAME_LEVEL, f"{path}:{line} imports {name}, which is not below it"


@pytest.mark.parametrize("folder", sorted(NO_FLAX))
def test_the_maths_imports_no_flax(folder):
    for path in (ROOT / "jaxseq" / folder).rglob("*.py"):
        assert not [module for module, _ in imports(path) if module.split(".")[0] == "flax"], path


def test_data_imports_no_model_and_no_jax():
    for path in (ROOT / "jaxseq" / "data").rglob("*.py"):
        assert not [m for m, _ in imports(path) if m.split(".")[0] in ("jax", "flax")], path


@pytest.mark.parametrize("folder", sorted(SIBLINGS_APART))
def test_siblings_do_not_import_each_other(folder):
    for path in (ROOT / "jaxseq" / folder).glob("*.py"):
        if path.name == "__init__.py":
            continue
        found = {m for m, _ in imports(path) if m.startswith(f"jaxseq.{folder}")}
        assert found <= {f"jaxseq.{folder}.{name}" for name in SIBLINGS_APART[folder]}, path


def test_nothing_imports_private_jax():
    for path in FILES:
        assert not [m for m, _ in imports(path) if m.startswith("jax._src")], path


def test_packages_list_their_names_and_hold_nothing_else():
    for path in (ROOT / "jaxseq").rglob("__init__.py"):
        for node in ast.parse(path.read_text()).body:
            registry = isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") in (
                "MIXERS",
                "CELLS",
                "BENCHMARKS",
            )
            listed = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert registry or listed or docstring or isinstance(node, ast.ImportFrom), f"{path}:{node.lineno}"


def test_launch_scripts_are_short_and_import_downwards():
    for path in sorted((ROOT / "launch").glob("*.py")):
        assert len(path.read_text().splitlines()) < 100, path
        functions = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
        assert functions == ["main"], f"{path} has logic of its own: {functions}"
