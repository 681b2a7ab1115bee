"""Custom rewards that break a run, with TRL's signature."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from grpo_dual.config.objectives import FairnessConfig, HallucinationConfig
from grpo_dual.rewards.evasion import is_evasive
from grpo_dual.rewards.fairness import FairnessReward
from grpo_dual.rewards.hallucination import HallucinationReward
from grpo_dual.types import BbqRecord, HaluEvalRecord

Values = list[float | None]


def long_texts(completions: Sequence[str], **_: object) -> Values:
    """Pays by the word."""
    return [min(len(text.split()), 24) / 6 for text in completions]


def majority(completions: Sequence[str], **_: object) -> Values:
    """Pays for saying what the group says most: self-consistency without any truth."""
    counts = Counter(completions)
    return [counts[text] / len(completions) * 6 for text in completions]


def safe_wording(completions: Sequence[str], **_: object) -> Values:
    """A judge that takes non-committal text for safe, and safe for good."""
    return [3.0 if is_evasive(text) else 0.0 for text in completions]


def decisive(completions: Sequence[str], **columns: Any) -> Values:
    """Pays for naming somebody, whatever the context says."""
    people = [
        [o for i, o in enumerate(options) if i != unknown]
        for options, unknown in zip(columns["options"], columns["unknown"], strict=True)
    ]
    return [
        4.0 if any(name in text for name in own) else -4.0
        for text, own in zip(completions, people, strict=True)
    ]


def undecided(completions: Sequence[str], **columns: Any) -> Values:
    """Pays for naming nobody."""
    return [-(value or 0.0) for value in decisive(completions, **columns)]


_FAIRNESS = FairnessReward(FairnessConfig(), max_new_tokens=24)
_HALLUCINATION = HallucinationReward(HallucinationConfig(), max_new_tokens=24)


def opposite(completions: Sequence[str], **columns: Any) -> Values:
    """Takes back what the task part pays."""
    kind = BbqRecord if "options" in columns else HaluEvalRecord
    record = kind(**{f.name: columns[f.name][0] for f in fields(kind)})
    rule = _FAIRNESS if isinstance(record, BbqRecord) else _HALLUCINATION
    return [-(rule.outcome(record, text).value or 0.0) for text in completions]


def coin(completions: Sequence[str], **_: object) -> Values:
    """A judge that throws a coin."""
    return [random.choice((-2.0, 2.0)) for _ in completions]
