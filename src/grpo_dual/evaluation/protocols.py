"""HaluEval's other two protocols and the retention check: prompts, replies and scores together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from grpo_dual.evaluation.asking import Speaker, ask, prompts_of
from grpo_dual.evaluation.detection import (
    Detection,
    Reading,
    Shown,
    likelier,
    score_detection,
    score_verdicts,
    shown_texts,
    verdict_choices,
)
from grpo_dual.evaluation.preference import Preference, pair_choices, pairs_of, score_preference
from grpo_dual.evaluation.retention import (
    Likelihood,
    PlainQuestion,
    Refusals,
    pieces,
    plain_questions,
    plain_texts,
    score_refusals,
    score_texts,
)
from grpo_dual.prompts import hallucination
from grpo_dual.prompts.recognition import recognition_messages
from grpo_dual.types import HaluEvalRecord, Message, Prompt, Record, Task

_PIECE = 512
"""Tokens of a plain text that are scored behind one context."""

READINGS: tuple[Reading, ...] = ("strict", "upstream")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn."""

    draws: int
    seed: int


@dataclass(frozen=True, slots=True)
class Recognised:
    """The recognition task, by what was written and by the likelier of Yes and No."""

    readings: Mapping[str, Detection]
    """``generation`` (the word a reply opens with), ``generation_upstream`` (as evaluate.py reads
    it), ``likelihood``."""
    completions: Mapping[str, str]
    """Item -> reply."""
    left_out: int
    """Over the prompt limit."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs by likelihood."""

    found: Preference
    left_out: int


@dataclass(frozen=True, slots=True)
class Retained:
    """What a model should still do."""

    texts: Likelihood
    refusals: Refusals
    completions: Mapping[str, str]
    """Question -> reply."""


def recognise(
    speaker: Speaker, rows: Sequence[HaluEvalRecord], boot: Bootstrap, tell: Tell
) -> Recognised:
    """Ask of every text whether it is hallucinated, in the paper's prompt family.

    Args:
        speaker: The policy.
        rows: HaluEval rows; both sides of a pair are shown, and a detection row's text.
        boot: Of the intervals.
        tell: Hears which item is over the prompt limit.
    """
    whole = [r for r in rows if r.task is Task.DETECT or hallucination.pair(r) is not None]
    shown = {item.record.record_id: item for item in shown_texts(whole, seed=boot.seed)}
    own = replace(speaker, max_prompt_tokens=speaker.longest_prompt)
    prompts = prompts_of(own, [s.record for s in shown.values()], recognition_messages, tell)
    items: list[Shown] = [shown[prompt.record.record_id] for prompt in prompts]
    replies = [reply.rollout.text for reply in ask(own, prompts)]
    encode = speaker.encoder.encode_completion
    likely = speaker.likelihoods([verdict_choices(p.token_ids, encode) for p in prompts])
    strict, upstream = (
        score_detection(items, replies, reading=reading, draws=boot.draws, seed=boot.seed)
        for reading in READINGS
    )
    said = [likelier(scores) for scores in likely]
    likelihood = score_verdicts(items, said, draws=boot.draws, seed=boot.seed)
    return Recognised(
        {"generation": strict, "generation_upstream": upstream, "likelihood": likelihood},
        {item.record.record_id: text for item, text in zip(items, replies, strict=True)},
        len(shown) - len(items),
    )


def prefer(
    speaker: Speaker, rows: Sequence[HaluEvalRecord], boot: Bootstrap, tell: Tell
) -> Compared:
    """Find out of every pair whether its accepted side is the likelier reply.

    Args:
        speaker: The policy.
        rows: HaluEval rows; those without two sides are passed over.
        boot: Of the intervals.
        tell: Hears which item is over the prompt limit.
    """
    pairs = {record.record_id: record for record in pairs_of(rows)}
    prompts = prompts_of(speaker, list(pairs.values()), hallucination.messages, tell)
    records = [pairs[prompt.record.record_id] for prompt in prompts]
    encode = speaker.encoder.encode_completion
    scored = speaker.likelihoods(
        [pair_choices(r, p.token_ids, encode) for r, p in zip(records, prompts, strict=True)]
    )
    sides = [(own[0], own[1]) for own in scored]
    found = score_preference(records, sides, draws=boot.draws, seed=boot.seed)
    return Compared(found, len(pairs) - len(records))


def retain(speaker: Speaker, boot: Bootstrap) -> Retained:
    """Score plain texts, and ask harmless questions.

    Args:
        speaker: The policy.
        boot: Of the intervals.
    """
    texts = plain_texts()
    # encode_completion ends with the end of turn, which plain text has not.
    ids = [speaker.encoder.encode_completion(own.text)[:-1] for own in texts]
    cut = [pieces(own, size=_PIECE, bos=speaker.bos) for own in ids]
    scores = iter(speaker.likelihoods([piece for own in cut for piece in own]))
    likelihood = score_texts(
        texts, [[next(scores)[0] for _ in own] for own in cut], draws=boot.draws, seed=boot.seed
    )
    questions = plain_questions()
    replies = [reply.rollout.text for reply in ask(speaker, _asked(speaker, questions))]
    refusals = score_refusals(questions, replies, draws=boot.draws, seed=boot.seed)
    said = {q.name: text for q, text in zip(questions, replies, strict=True)}
    return Retained(likelihood, refusals, said)


def _asked(speaker: Speaker, questions: Sequence[PlainQuestion]) -> list[Prompt]:
    found: list[Prompt] = []
    for question in questions:
        record = Record(
            record_id=f"general/{question.name}",
            objective="retention",
            subset=question.kind,
            task=Task.ANSWER,
            origin="grpo_dual.evaluation.general",
        )
        messages: tuple[Message, ...] = question.messages()
        found.append(Prompt(record, messages, speaker.encoder.encode(messages), shortened=False))
    return found
