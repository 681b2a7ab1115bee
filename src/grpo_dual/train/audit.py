"""The truncation audit: every row of a run's data at several prompt limits."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from grpo_dual.config.schema import RunConfig
from grpo_dual.model.loading import load_spoken
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.prompts.truncation import Auditor, Fit, Loss, Tally, Twins, kind_of, tally
from grpo_dual.train.sources import all_records
from grpo_dual.types import BbqRecord, HaluEvalRecord, Message, Record, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What one limit costs one kind of item."""

    objective: str
    items: str
    """``ambig``, ``disambig``, ``qa answer``; with the BBQ category behind it, by subset."""
    limit: int
    tally: Tally
    example: str | None = None
    """A disambiguated BBQ item whose answer sentence has no room, by its id, file and line, with
    the sentence; the one that is nearest to the limit."""


@dataclass(frozen=True, slots=True)
class ReplyRow:
    """Lengths of the right replies to one kind of item, in tokens, end of turn included."""

    objective: str
    items: str
    rows: int
    median: int
    p95: int
    longest: int
    over: int
    """Longer than a completion may be."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole of it."""

    model: str
    """Whose tokenizer counted."""
    max_new_tokens: int
    prompts: tuple[AuditRow, ...]
    replies: tuple[ReplyRow, ...]


def audit(config: RunConfig, limits: Sequence[int], *, by_subset: bool) -> Audit:
    """Fit all rows of the shipped objectives to several limits; no weights are loaded.

    Args:
        config: The run.
        limits: In tokens.
        by_subset: BBQ's categories apart, beside their sum.

    Raises:
        GrpoDualError: Data or tokenizer cannot be read.
    """
    spoken = load_spoken(config.model)
    tokenizer = cast("Tokenizer", spoken.tokenizer)
    encoder = ChatEncoder(tokenizer, generation_eos_ids=spoken.generation_eos_ids)
    longest = config.rollout.sampling.max_new_tokens
    prompts: list[AuditRow] = []
    replies: list[ReplyRow] = []
    for name, objective in config.objectives.items():
        records = all_records(objective, seed=config.train.seed)
        auditor = Auditor(
            _messages, encoder, Twins(records), overlong=config.rollout.overlong_prompt
        )
        measured = [(r, auditor.tokens(r), _reply_tokens(r, encoder)) for r in records]
        for limit in limits:
            fits = [auditor.fit(record, tokens, limit) for record, tokens, _ in measured]
            prompts += [
                AuditRow(name, items, limit, tally(group), _example(group, auditor))
                for items, group in _grouped([(f.record, f) for f in fits], by_subset)
            ]
        lengths = [(record, reply) for record, _, reply in measured if reply is not None]
        replies += [
            _reply_row(name, items, sorted(group), longest)
            for items, group in _grouped(lengths, by_subset)
        ]
    return Audit(config.model.name, longest, tuple(prompts), tuple(replies))


def _example(fits: Sequence[Fit], auditor: Auditor) -> str | None:
    lost = [f for f in fits if isinstance(f.record, BbqRecord) and f.answer is not Loss.NONE]
    if not lost:
        return None
    first = min(lost, key=lambda f: (f.tokens, f.record.record_id))
    assert isinstance(first.record, BbqRecord)
    return (
        f"{first.record.record_id} ({first.record.origin}), {first.tokens} tokens, would lose: "
        f"{auditor.lost_sentence(first.record)}"
    )


def _messages(record: Record) -> tuple[Message, ...]:
    if isinstance(record, BbqRecord):
        return fairness.messages(record)
    assert isinstance(record, HaluEvalRecord)
    return hallucination.messages(record)


def _reply_tokens(record: Record, encoder: ChatEncoder) -> int | None:
    """Length of the supervised reply; None where the data have none."""
    if isinstance(record, BbqRecord):
        target = fairness.target(record)
    else:
        assert isinstance(record, HaluEvalRecord)
        if record.task is Task.ANSWER and not (record.accepted or "").strip():
            return None
        target = hallucination.target(record)
    return len(encoder.encode_completion(target))


def _grouped(rows: Iterable[tuple[Record, T]], by_subset: bool) -> list[tuple[str, list[T]]]:
    """Rows by kind of item, and BBQ's by category too."""
    groups: dict[str, list[T]] = defaultdict(list)
    for record, row in rows:
        kind = kind_of(record)
        groups[kind].append(row)
        if by_subset and isinstance(record, BbqRecord):
            groups[f"{kind} {record.subset}"].append(row)
    return sorted(groups.items())


def _reply_row(objective: str, items: str, lengths: Sequence[int], limit: int) -> ReplyRow:
    """Quantiles of sorted lengths, by nearest rank."""
    rank = math.ceil(0.95 * len(lengths)) - 1
    return ReplyRow(
        objective=objective,
        items=items,
        rows=len(lengths),
        median=lengths[(len(lengths) - 1) // 2],
        p95=lengths[rank],
        longest=lengths[-1],
        over=sum(length > limit for length in lengths),
    )
