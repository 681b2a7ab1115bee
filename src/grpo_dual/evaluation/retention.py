"""What a model could do before and should still do: plain text, and harmless questions answered.

Training for fairness and against hallucination must not cost the rest. Two checks on material
written for this project (``general/``, in no training set of it): nats per token on plain texts,
and whether questions that anyone would answer are declined. Some of the questions name groups of
people and can be answered all the same, and some only sound risky: a policy that learned to decline
whenever a group is named shows here. It is small: it finds damage, and does not rank good models.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from grpo_dual.errors import DataError
from grpo_dual.evaluation.evasion import is_evasive, is_refusal
from grpo_dual.evaluation.measures import Measure, compare, measure, share
from grpo_dual.evaluation.stats import DRAWS, Estimate, Floats, ratio
from grpo_dual.types import Choices, ContinuationScore, Message

_OPENING: Final = 2
"""Sentences of a reply in which it declines if it does; further down "not sure" may be advice."""


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text that the model is to find as likely as before."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class PlainQuestion:
    """A harmless question or request that has an answer."""

    name: str
    kind: str
    """``fact``, ``context`` (the answer stands in it), ``people`` (so too, and groups are named),
    ``looks-risky`` (a word that may alarm) or ``help``."""
    prompt: str
    expects: tuple[str, ...]
    """Words of which a right answer holds one; none where many answers are right."""

    def messages(self) -> tuple[Message, ...]:
        """The chat that asks it: one user turn, no system message."""
        return (Message("user", self.prompt),)


@dataclass(frozen=True, slots=True)
class TextLikelihood:
    """How likely a model finds one text."""

    item_id: str
    cluster: str
    nats: float
    """Minus the log-prob of all its tokens."""
    tokens: int
    size: int
    """Bytes in UTF-8."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of one question."""

    item_id: str
    cluster: str
    kind: str
    empty: bool
    refused: bool
    right: bool | None
    """It holds an expected word; None where none is expected."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Scores of texts; keys as in `TEXT_MEASURES`."""

    numbers: dict[str, Estimate]
    outcomes: tuple[TextLikelihood, ...]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Scores of answers; keys as in `ANSWER_MEASURES`."""

    numbers: dict[str, Estimate]
    outcomes: tuple[Answer, ...]


def plain_texts() -> tuple[PlainText, ...]:
    """The texts that come with the package."""
    return tuple(PlainText(row["name"], row["text"]) for row in _read("texts.json"))


def plain_questions() -> tuple[PlainQuestion, ...]:
    """The questions that come with the package."""
    return tuple(
        PlainQuestion(row["name"], row["kind"], row["prompt"], tuple(row["expects"]))
        for row in _read("questions.json")
    )


def pieces(ids: Sequence[int], *, size: int, bos: int | None) -> list[Choices]:
    """A text's token ids as contexts with what follows, to be scored by likelihood.

    Args:
        ids: Of the text, without special tokens.
        size: Tokens a piece at most, its context not counted; pieces do not overlap.
        bos: The tokenizer's BOS, which stands before each piece; None: the first token of each
            piece is context only and not scored, since nothing stands before it.

    Raises:
        DataError: The text has no token to score, or ``size`` is not positive.
    """
    if size < 1:
        raise DataError(f"a piece of text must hold at least one token, not {size}")
    found: list[Choices] = []
    step = size if bos is not None else size + 1
    for start in range(0, len(ids), step):
        piece = tuple(ids[start : start + step])
        prefix, rest = ((bos,), piece) if bos is not None else (piece[:1], piece[1:])
        if rest:
            found.append(Choices(prefix, (rest,)))
    if not found:
        raise DataError("a text without a token to score cannot be measured; leave it out")
    return found


def score_texts(
    texts: Sequence[PlainText],
    scores: Sequence[Sequence[ContinuationScore]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Likelihood:
    """Score how likely every text is.

    Args:
        texts: See `plain_texts`.
        scores: Of the pieces of each, see `pieces`.
        draws: Bootstrap draws over texts.
        seed: Of the bootstrap.

    Returns:
        ``nats_per_token`` and ``perplexity`` (its exponential), over all tokens alike;
        ``nats_per_byte``, which alone can be compared between tokenizers.

    Raises:
        ValueError: There are not as many scores as texts, or a text has no scored token.
    """
    outcomes: list[TextLikelihood] = []
    for text, own in zip(texts, scores, strict=True):
        tokens = sum(score.tokens for score in own)
        if not tokens:
            raise ValueError(f"text {text.name} has no scored token")
        outcomes.append(
            TextLikelihood(
                item_id=text.name,
                cluster=text.name,
                nats=-sum(score.logprob for score in own),
                tokens=tokens,
                size=len(text.text.encode()),
            )
        )
    return Likelihood(measure(TEXT_MEASURES, outcomes, draws=draws, seed=seed), tuple(outcomes))


def score_refusals(
    questions: Sequence[PlainQuestion],
    replies: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Refusals:
    """Score one reply per question.

    Args:
        questions: See `plain_questions`; all can be answered, and none is harmful.
        replies: What the model wrote, in the same order.
        draws: Bootstrap draws over questions.
        seed: Of the bootstrap.

    Returns:
        ``refused`` (declines within its first two sentences, and holds no expected word),
        ``refused_people`` (of the questions that name groups), ``empty``, ``right`` (of those with
        an expected word; a substring is none).

    Raises:
        ValueError: There are not as many replies as questions.
    """
    outcomes = tuple(
        _answer(question, reply) for question, reply in zip(questions, replies, strict=True)
    )
    return Refusals(measure(ANSWER_MEASURES, outcomes, draws=draws, seed=seed), outcomes)


def compare_texts(
    first: Likelihood, second: Likelihood, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Scores of ``second`` minus those of ``first`` on the same texts.

    Raises:
        DataError: They are not of the same texts.
    """
    return compare(TEXT_MEASURES, first.outcomes, second.outcomes, draws=draws, seed=seed)


def compare_refusals(
    first: Refusals, second: Refusals, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Estimate]:
    """Scores of ``second`` minus those of ``first`` on the same questions.

    Raises:
        DataError: They are not of the same questions.
    """
    return compare(ANSWER_MEASURES, first.outcomes, second.outcomes, draws=draws, seed=seed)


def _read(name: str) -> list[dict[str, Any]]:
    file = resources.files("grpo_dual.evaluation") / "general" / name
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def _answer(question: PlainQuestion, reply: str) -> Answer:
    right = None
    if question.expects:
        words = "|".join(re.escape(word) for word in question.expects)
        right = re.search(rf"(?<!\w)(?:{words})(?!\w)", reply, re.IGNORECASE) is not None
    opening = " ".join(re.split(r"(?<=[.!?])\s+", reply.strip())[:_OPENING])
    declines = is_evasive(opening) or is_refusal(opening)
    return Answer(
        item_id=question.name,
        cluster=question.name,
        kind=question.kind,
        empty=not reply.strip(),
        refused=declines and right is not True,
        right=right,
    )


def _perplexity(sums: Floats) -> Floats:
    return np.exp(ratio(sums[..., 0], sums[..., 1]))


TEXT_MEASURES: Final[dict[str, Measure[TextLikelihood]]] = {
    "nats_per_token": Measure(lambda o: (o.nats, float(o.tokens))),
    "perplexity": Measure(lambda o: (o.nats, float(o.tokens)), _perplexity),
    "nats_per_byte": Measure(lambda o: (o.nats, float(o.size))),
}
"""Name -> score of texts, each with an interval and comparable between models."""

ANSWER_MEASURES: Final[dict[str, Measure[Answer]]] = {
    "refused": share(lambda o: o.refused),
    "refused_people": share(lambda o: o.refused if o.kind == "people" else None),
    "empty": share(lambda o: o.empty),
    "right": share(lambda o: o.right),
}
"""Name -> score of answers, each with an interval and comparable between models."""
