"""A policy as the yardstick sees it: it completes prompts, and finds continuations likely or not.

Nothing here knows what it runs on; whoever loads a model hands in an engine and a scorer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from grpo_dual.errors import PromptError
from grpo_dual.prompts import fairness
from grpo_dual.prompts.audit import build_prompt
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.prompts.parse import Choice
from grpo_dual.rollouts.collect import collect
from grpo_dual.rollouts.engine import Engine
from grpo_dual.types import (
    BbqRecord,
    Choices,
    ContinuationScore,
    Message,
    Prompt,
    Record,
    Rollout,
)

Likelihoods = Callable[[Sequence[Choices]], list[tuple[ContinuationScore, ...]]]
"""Scores the continuations of every item, in order."""

READINGS = ("generation", "text_sum", "text_mean", "letter_sum", "letter_mean")
"""Ways to learn a policy's choice among a BBQ item's options: what it writes, or the option whose
text or letter it finds most likely, in sum or by the token."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A policy that can be asked, and how it is asked."""

    engine: Engine
    encoder: ChatEncoder
    likelihoods: Likelihoods
    greedy: bool
    """Plain decoding without sampling; else the engine's own distribution."""
    max_prompt_tokens: int
    longest_prompt: int
    """Limit of prompts that are no run's own: the recognition task solves examples first."""
    overlong: Literal["shorten", "refuse"]
    bos: int | None
    """What plain text begins with; None where the tokenizer has none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a policy wrote to a prompt."""

    prompt: Prompt
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class BbqReply:
    """What a policy makes of a BBQ item."""

    record: BbqRecord
    completion: str
    finished: bool
    """False when the limit of new tokens cut it."""
    choices: Mapping[str, int | None]
    """Reading -> the option; None where none is named, or two are equally likely."""
    texts: tuple[ContinuationScore, ...]
    """Of each option's text as the reply's beginning."""
    letters: tuple[ContinuationScore, ...]
    """Of each option's letter."""


def prompts_of(
    speaker: Speaker,
    records: Sequence[R],
    wording: Callable[[R], tuple[Message, ...]],
    tell: Callable[[str], None],
) -> list[Prompt]:
    """The prompts of those records that fit; ``tell`` hears of the others."""
    prompts: list[Prompt] = []
    for record in records:
        try:
            prompts.append(
                build_prompt(
                    record,
                    wording,
                    speaker.encoder,
                    max_tokens=speaker.max_prompt_tokens,
                    overlong=speaker.overlong,
                )
            )
        except PromptError as refusal:
            tell(str(refusal))
    return prompts


def ask(speaker: Speaker, prompts: Sequence[Prompt]) -> list[Reply]:
    """One completion of every prompt.

    Raises:
        NumericsError: The policy has diverged.
    """
    if not prompts:
        return []
    if speaker.greedy:
        groups = speaker.engine.generate(prompts, 1, greedy=True)
    else:
        groups = list(collect(speaker.engine, prompts, 1).groups)
    return [Reply(group.prompt, group.rollouts[0]) for group in groups]


def read_bbq(speaker: Speaker, replies: Sequence[Reply]) -> list[BbqReply]:
    """What was chosen in each BBQ reply, and which option the policy finds most likely.

    The texts and letters of an item's options are scored behind its prompt as one item, so that the
    context is computed once. They end with the option's last token: no end of turn is scored.

    Args:
        speaker: Whose replies they are.
        replies: To BBQ prompts.
    """
    items = [
        Choices(reply.prompt.token_ids, _continuations(speaker, bbq_record(reply)))
        for reply in replies
    ]
    scored = speaker.likelihoods(items)
    return [_read(reply, found) for reply, found in zip(replies, scored, strict=True)]


def _continuations(speaker: Speaker, record: BbqRecord) -> tuple[tuple[int, ...], ...]:
    texts = [" ".join(option.split()) for option in record.options]
    letters = [f"({letter})" for letter in fairness.LETTERS]
    # encode_completion ends with the end of turn, which is no part of an option.
    return tuple(speaker.encoder.encode_completion(text)[:-1] for text in [*texts, *letters])


def _read(reply: Reply, scored: tuple[ContinuationScore, ...]) -> BbqReply:
    record = bbq_record(reply)
    named = fairness.parse(reply.rollout.text, record)
    texts, letters = scored[:3], scored[3:]
    choices = {
        "generation": named.index if isinstance(named, Choice) else None,
        "text_sum": _likeliest([score.logprob for score in texts]),
        "text_mean": _likeliest([score.mean for score in texts]),
        "letter_sum": _likeliest([score.logprob for score in letters]),
        "letter_mean": _likeliest([score.mean for score in letters]),
    }
    return BbqReply(record, reply.rollout.text, reply.rollout.finished, choices, texts, letters)


def _likeliest(values: Sequence[float]) -> int | None:
    """The index of the largest; None when it stands twice: a position must not decide."""
    best = max(values)
    return values.index(best) if list(values).count(best) == 1 else None


def bbq_record(reply: Reply) -> BbqRecord:
    """The BBQ item that was asked."""
    record = reply.prompt.record
    assert isinstance(record, BbqRecord)
    return record
