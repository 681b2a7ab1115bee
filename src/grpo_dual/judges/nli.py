# pyright: standard
"""A local judge: a Transformers classifier that says whether the knowledge entails the answer.

By hub name or folder, e.g. an NLI model or a grounding detector such as HHEM. This file and what it
imports are the one exception to the rule that judges/ never reaches torch; build.py imports it only
when the configuration names such a judge.
"""

import asyncio
import hashlib
import json
import math
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from grpo_dual.config.judging import NliProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Failure, Opinion, Question, Verdict
from grpo_dual.judges.lexical import content, without_abstention, words
from grpo_dual.types import HaluEvalRecord


class NliJudge:
    """See Judge.

    Premise is the knowledge, hypothesis the completion behind its question. A completion that does
    nothing but decline abstains; otherwise it is right when P(entailment) reaches the threshold.
    """

    def __init__(self, name: str, config: NliProviderConfig) -> None:
        """Load the model.

        Raises:
            JudgeError: It cannot be loaded, or has no such label.
        """
        self.name = name
        self._config = config
        self._one_at_a_time = asyncio.Lock()
        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        device = _device(name, config.device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.model, **options)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                config.model, **options
            )
            self._model.to(device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise JudgeError(
                f"judge.providers.{name}.model: {config.model} cannot be loaded as a sequence "
                f"classifier ({error}); give a hub name or a folder with model and tokenizer"
            ) from error
        self._label = self._entailing()

    def _entailing(self) -> int | None:
        """Index of the label that means supported; None for a model with a single output."""
        labels: dict[int, str] = self._model.config.id2label
        if len(labels) == 1:
            return None
        wanted = self._config.entailment.casefold()
        for index, label in labels.items():
            if str(label).casefold() == wanted:
                return int(index)
        raise JudgeError(
            f"judge.providers.{self.name}.entailment: {self._config.model} has no label "
            f"{self._config.entailment}; it has {', '.join(map(str, labels.values()))}"
        )

    def key(self, question: Question) -> str | None:
        """See Judge."""
        parts = _parts(question)
        if parts is None:
            return None
        whole = [self._config.model_dump(mode="json", exclude={"concurrency", "share"}), parts]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    async def judge(self, question: Question) -> Opinion | Failure:
        """See Judge."""
        parts = _parts(question)
        if parts is None:
            return Failure(self.name, Cause.NO_OPINION, 0, "there is no knowledge to judge by")
        rest, declined = without_abstention(question.completion)
        if declined and not content(words(rest)):
            return Opinion(Verdict.ABSTAINS, 1.0, "declines to answer")
        async with self._one_at_a_time:
            # Off the event loop: the other judges' requests go on meanwhile.
            try:
                support = await asyncio.to_thread(self._support, *parts)
            except RuntimeError as error:  # out of memory, say
                return Failure(self.name, Cause.SERVER, 1, " ".join(str(error).split())[:200])
        if support is not None and not math.isfinite(support):
            return Failure(self.name, Cause.INVALID, 1, f"its probability is {support}")
        if support is None:
            why = f"the answer leaves no room for knowledge in {self._config.max_tokens} tokens"
            return Failure(self.name, Cause.NO_OPINION, 0, why)
        verdict = Verdict.RIGHT if support >= self._config.threshold else Verdict.WRONG
        sure = support if verdict is Verdict.RIGHT else 1 - support
        return Opinion(verdict, sure, f"P({self._config.entailment}) = {support:.3f}")

    @torch.no_grad()
    def _support(self, premise: str, hypothesis: str) -> float | None:
        """Probability that the premise entails it; None where they do not fit."""
        answer = len(self._tokenizer(hypothesis, add_special_tokens=False).input_ids)
        added = self._tokenizer.num_special_tokens_to_add(pair=True)
        if answer + added >= self._config.max_tokens:
            # The tokenizer raises rather than cut the knowledge to nothing.
            return None
        encoded = self._tokenizer(
            premise,
            hypothesis,
            truncation="only_first",
            max_length=self._config.max_tokens,
            return_tensors="pt",
        ).to(self._config.device)
        logits = self._model(**encoded).logits[0].float()
        if self._label is None:
            return float(torch.sigmoid(logits[0]))
        return float(torch.softmax(logits, 0)[self._label])

    async def close(self) -> None:
        """See Judge."""
        del self._model


def _device(judge: str, name: str) -> torch.device:
    where = f"judge.providers.{judge}.device: {name}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).split("\n")[0]
        raise JudgeError(
            f"{where} cannot be used here ({why}); use cpu, cuda or cuda:<n>"
        ) from error
    return device


def _parts(question: Question) -> tuple[str, str] | None:
    """Premise and hypothesis; None where there is no knowledge."""
    record = question.record
    if not isinstance(record, HaluEvalRecord) or not record.context.strip():
        return None
    asked = record.query.strip()
    said = question.completion.strip()
    return record.context.strip(), f"{asked} {said}".strip()
