"""jaxseq: recurrences, linear and nonlinear, trained in parallel over time."""

from setuptools import find_packages, setup

RUNTIME = [
    "jax>=0.10,<0.11.1",  # flax 0.12.8 subclasses a symbol that jax 0.11.1 removed
    "flax>=0.12.8,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "grain>=0.2.18,<0.3",
    "absl-py>=2.3",
]
TERMINAL = ["rich>=14", "matplotlib>=3.10"]
TENSORBOARD = ["tensorboardX>=2.6"]
TOKENIZERS = ["tokenizers>=0.22"]
PARQUET = ["pyarrow>=21"]
ZSTD = ["zstandard>=0.25"]
EVAL = ["lm-eval>=0.4.13,<0.5"]
LIBTPU = "libtpu==0.0.52; sys_platform == 'linux' and platform_machine == 'x86_64'"  # compiles for TPUs, without one
CONVERT = ["torch==2.13.0", "transformers==5.23.0", "safetensors>=0.8", "ml_dtypes>=0.5"]
DATA = [*TOKENIZERS, *PARQUET, *ZSTD]
LINT = [
    *TERMINAL,
    *TENSORBOARD,
    *DATA,
    *CONVERT,
    "ruff==0.17.5",
    "pyright[nodejs]==1.1.414",
]  # pyright reads every import
ORACLES = [*CONVERT, "torchrecurrent==0.2.5", "rwkv==0.8.32", "scipy>=1.17"]  # what mixers and cells are compared with
TEST = [*TERMINAL, *TENSORBOARD, *DATA, "pytest>=9", "pytest-xdist>=3.8", "hypothesis>=6.150", LIBTPU, *ORACLES]

setup(
    name="jaxseq",
    version="0.1.0",
    description="Sequence models that are recurrences, trained in parallel over time with JAX",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["jaxseq", "jaxseq.*"]),
    install_requires=RUNTIME,
    extras_require={
        "terminal": TERMINAL,
        "tensorboard": TENSORBOARD,
        "tokenizers": TOKENIZERS,
        "parquet": PARQUET,
        "zstd": ZSTD,
        "convert": CONVERT,
        "eval": EVAL,
        "test": TEST,
        "lint": LINT,
    },
)
