"""A run as a model of lm-evaluation-harness: `--model jaxseq --model_args workdir=runs/x` (see launch/harness.py).

Needs the extra `eval`. Importing this module registers the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]  # the extra `eval` is not in `lint`
from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]

from jaxseq.checkpoint import read_model
from jaxseq.data import open_tokenizer
from jaxseq.generate import Sampling, generate
from jaxseq.likelihood import likelihoods, split

MAX_TOKENS = 256  # of an answer, where the task does not say


class _Ended(Exception):
    """Every answer of a batch has its stop."""


@register_model("jaxseq")
class JaxseqLM(LM):
    """What lm-evaluation-harness asks of a model, answered by the checkpoint of a run.

    Attributes:
      batch_size: texts at a time.
    """

    def __init__(
        self,
        workdir: str,
        step: int | None = None,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
        device: str | None = None,
    ):
        """Reads the checkpoint of `step`, the latest by default.

        batch_size is a number; "auto", as the harness's command line may say, is 16. max_batch_size and device are
        what the harness hands to every model and are not used.

        Raises FileNotFoundError and ValueError as `checkpoint.read_model` and `data.open_tokenizer` do.
        """
        super().__init__()
        config, self._model, self._params, _ = read_model(workdir, step)
        self._tokenizer = open_tokenizer(config.data.tokenizer, workdir)
        self._name = f"jaxseq-{self._tokenizer.name}"
        self.batch_size = 16 if isinstance(batch_size, str) and batch_size.startswith("auto") else int(batch_size)

    @property
    def tokenizer_name(self) -> str:
        """Tells the harness's cache of requests one tokenizer from another."""
        return self._name

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability of the continuation, whether it is what greedy decoding gives) for each (context,
        continuation). An empty context is the start of a document.
        """
        pairs = [request.args for request in requests]
        found = self._judge(pairs)
        for pair, answer in zip(pairs, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each whole text (text,), which is a document of its own. The state is carried over all
        of it: nothing is cut into windows.
        """
        texts = [request.args for request in requests]
        found = [log_probability for log_probability, _ in self._judge([("", text) for (text,) in texts])]
        for text, answer in zip(texts, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", text, answer)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The continuation of each (context, options), up to the first of its `until`, which is left out.

        Options read are until, max_gen_toks, do_sample, temperature, top_k and top_p; without do_sample and a
        temperature the answer is greedy.
        """
        answers: list[str] = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(i)
        for rows in groups.values():
            options = requests[rows[0]].args[1]
            for first in range(0, len(rows), self.batch_size):
                some = rows[first : first + self.batch_size]
                made = self._answer([requests[i].args[0] for i in some], options)
                for i, text in zip(some, made, strict=True):
                    answers[i] = text
                    self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return answers

    def _judge(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        texts = [split(self._tokenizer, context, continuation) for context, continuation in pairs]
        vocab, batch = self._tokenizer.vocab, self.batch_size
        found = likelihoods(self._model, self._params, texts, vocab=vocab, batch=batch)
        return [(likelihood.log_probability, likelihood.greedy) for likelihood in found]

    def _answer(self, prompts: Sequence[str], options: dict[str, Any]) -> list[str]:
        until = [options["until"]] if isinstance(options.get("until"), str) else list(options.get("until") or [])
        drawn: list[list[int]] = [[] for _ in prompts]
        open_rows = set(range(len(prompts)))

        def take(row: int, token: int) -> None:
            drawn[row].append(token)
            if _stopped(self._text(drawn[row]), until):
                open_rows.discard(row)
            if not open_rows:
                raise _Ended

        encoded = [prompt.encode() for prompt in prompts]
        limits: dict[str, Any] = {"max_tokens": options.get("max_gen_toks", MAX_TOKENS), "sampling": _sampling(options)}
        with contextlib.suppress(_Ended):
            generate(self._model, self._params, self._tokenizer, encoded, on_token=take, **limits)
        return [_before(self._text(ids), until) for ids in drawn]

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids).decode(errors="replace")


def _sampling(options: dict[str, Any]) -> Sampling:
    """The harness's options; a temperature alone asks for sampling too, as in its own models."""
    temperature = float(options.get("temperature") or 0.0)
    if not options.get("do_sample", temperature > 0):
        return Sampling(temperature=0.0)
    return Sampling(temperature or 1.0, options.get("top_k"), options.get("top_p"))


def _stopped(text: str, until: list[str]) -> bool:
    return any(stop in text for stop in until)


def _before(text: str, until: list[str]) -> str:
    """The text before the first of `until`."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
