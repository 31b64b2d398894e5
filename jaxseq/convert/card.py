"""The README.md of a converted model: what it is, what it was trained on and how, how good it is, how exact the
conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxseq.checkpoint import read_config
from jaxseq.config import to_json
from jaxseq.convert.load import is_workdir
from jaxseq.model import ModelConfig, count

RESULTS = {
    "step": "trained for this many steps",
    "validation_bits_per_byte": "bits per byte, whole validation split",
    "validation_perplexity": "perplexity per token, validation",
    "xz_bits_per_byte": "bits per byte of xz -9e on the same bytes",
}


def write_card(
    folder: Path,
    source: str | Path,
    config: ModelConfig,
    params: Any,
    deviations: Iterable[Any] = (),
    *,
    license: str = "unknown",
) -> None:
    """Writes README.md, a model card of Hugging Face, into `folder`.

    Args:
      folder: what was converted to, with its config.json.
      source: what it was converted from; of a workdir, the config, the data's manifest and the result are told.
      config, params: of the model.
      deviations: what `verify.compare` found, with str() a line each; none where nothing was compared.
      license: its name on the Hub ("apache-2.0"), or "unknown".
    """
    from huggingface_hub import ModelCardData  # comes with transformers

    tags = ["jaxseq", *dict.fromkeys(config.pattern)]
    head = ModelCardData(license=license, library_name="transformers", pipeline_tag="text-generation", tags=tags)
    parts = [_model(folder, config, params), *_origin(Path(source)), _conversion(list(deviations))]
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in parts)
    (folder / "README.md").write_text(f"---\n{head.to_yaml()}\n---\n\n# {'+'.join(config.pattern)}\n\n{text}\n")


def _model(folder: Path, config: ModelConfig, params: Any) -> tuple[str, str]:
    facts = {
        "class": ", ".join(json.loads((folder / "config.json").read_text())["architectures"]),
        "parameters": f"{count(params):,}",
        "layers": f"{config.layers} ({', '.join(config.pattern)})",
        "width": config.width,
        "vocabulary": config.vocab,
    }
    return "Model", f"{_table(facts)}\n\n{_json(to_json(config))}"


def _origin(source: Path) -> list[tuple[str, str]]:
    """The sections that only a workdir has; where there is none, where the model came from."""
    if not is_workdir(source):
        return [("Source", f"Converted from the folder `{source.name}`.")]
    config, manifest, result = read_config(source), _read(source / "manifest.json"), _read(source / "result.json")
    if manifest is None:
        return [("Source", "Converted from a model that was not trained with jaxseq.")]
    # The files are thousands; their splits' hashes stand for them.
    data = {name: value for name, value in manifest.items() if name != "files"}
    told = {name: value for name, value in to_json(config).items() if name != "model"}
    measured = {RESULTS[name]: result[name] for name in RESULTS if name in result} if result else {}
    return [
        ("Data", _json(data)),
        ("Training", _json(told)),
        ("Evaluation", _table(measured) if measured else "Not measured: the run has no result.json."),
    ]


def _conversion(deviations: list[Any]) -> tuple[str, str]:
    lines = "\n".join(str(deviation).rstrip() for deviation in deviations)
    told = f"Compared with the source, largest deviations:\n\n```\n{lines}\n```" if lines else "Not compared."
    return "Conversion", told


def _table(facts: dict[str, Any]) -> str:
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in facts.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in shown.items())])


def _json(data: Any) -> str:
    return f"```json\n{json.dumps(data, indent=2)}\n```"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
