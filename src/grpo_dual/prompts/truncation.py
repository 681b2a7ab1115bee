"""What a prompt limit costs: prompts left out, documents shortened, and answers lost with them.

A BBQ context is never cut (audit.py): an item over the limit is left out. What that protects is
counted here: of a disambiguated item, the answer sentence is what its context has over that of its
ambiguous twin, so it stands last, and any cut of the context would take it first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeVar

from grpo_dual.prompts.audit import SENTENCE_END, Encoder, fitting_context
from grpo_dual.prompts.parse import words
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Message, Record

R = TypeVar("R", bound=Record)


class Fate(StrEnum):
    """What becomes of a prompt at a limit."""

    WHOLE = "whole"
    SHORTENED = "shortened"
    """Its document lost its end."""
    LEFT_OUT = "left out"
    """It is over the limit and has nothing that may be shortened."""


class Loss(StrEnum):
    """How much of what the right answer rests on has no room."""

    NONE = "none"
    PART = "part"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One record at one limit."""

    record: Record
    tokens: int
    """Of the whole prompt, template and generation prompt included."""
    fate: Fate
    answer: Loss
    """Disambiguated BBQ: of the answer sentence, were the context cut to fit. HaluEval with a
    document: of the accepted text's words, in what is left of the document."""
    reply_tokens: int | None = None
    """Of the supervised reply, end of turn included; None where there is none."""

    @property
    def kind(self) -> str:
        """See ``kind_of``."""
        return kind_of(self.record)


def kind_of(record: Record) -> str:
    """BBQ's condition; otherwise subset and task: the items that are asked and scored alike."""
    if isinstance(record, BbqRecord):
        return record.condition.value
    return f"{record.subset} {record.task}"


class Twins:
    """Finds the answer sentence of disambiguated items: their context beyond the ambiguous one's.

    BBQ's rows come in pairs with the same question and options, of which the disambiguated context
    begins with the ambiguous one.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        """Index the ambiguous rows among ``records``."""
        self._contexts: dict[tuple[object, ...], set[str]] = defaultdict(set)
        for record in records:
            if isinstance(record, BbqRecord) and record.condition is Condition.AMBIGUOUS:
                self._contexts[self._key(record)].add(record.context)

    @staticmethod
    def _key(record: BbqRecord) -> tuple[object, ...]:
        return record.subset, record.question_index, record.question, record.options

    def answer_sentence(self, record: BbqRecord) -> str:
        """What disambiguates, the end of the context; the last sentence where no twin is there."""
        context = record.context.rstrip()
        heads = [c.rstrip() for c in self._contexts.get(self._key(record), ())]
        starts = [len(head) for head in heads if context.startswith(head) and head != context]
        starts = starts or [end.end() for end in SENTENCE_END.finditer(context)] or [0]
        return context[max(starts) :].strip()


class Auditor:
    """Fits records to limits with one wording and one chat format."""

    def __init__(
        self,
        messages_fn: Callable[[Record], tuple[Message, ...]],
        encoder: Encoder,
        twins: Twins,
        *,
        overlong: Literal["shorten", "refuse"],
    ) -> None:
        """Put the parts together.

        Args:
            messages_fn: The objective's wording.
            encoder: The chat format.
            twins: Knows the ambiguous rows.
            overlong: As in ``build_prompt``.
        """
        self._messages = messages_fn
        self._encoder = encoder
        self._twins = twins
        self._shortens = overlong == "shorten"

    def tokens(self, record: Record) -> int:
        """Length of the whole prompt."""
        return len(self._encoder.encode(self._messages(record)))

    def lost_sentence(self, record: BbqRecord) -> str:
        """What a disambiguated item would lose first, were its context cut."""
        return self._twins.answer_sentence(record)

    def fit(self, record: Record, tokens: int, limit: int, reply_tokens: int | None = None) -> Fit:
        """What becomes of a record whose prompt has ``tokens``, at a limit of ``limit``."""
        fate, answer = Fate.WHOLE, Loss.NONE
        if tokens > limit:
            fate, answer = self._over(record, limit)
        return Fit(
            record=record, tokens=tokens, fate=fate, answer=answer, reply_tokens=reply_tokens
        )

    def _over(self, record: Record, limit: int) -> tuple[Fate, Loss]:
        if isinstance(record, BbqRecord):
            return Fate.LEFT_OUT, self._sentence_lost(record, limit)
        if not isinstance(record, HaluEvalRecord) or not record.context.strip():
            return Fate.LEFT_OUT, Loss.NONE
        kept = None
        if self._shortens:
            kept = fitting_context(record, lambda text: self._ids(record, text), limit)
        if kept is None:
            return Fate.LEFT_OUT, Loss.NONE
        return Fate.SHORTENED, _support_lost(record, kept)

    def _ids(self, record: BbqRecord | HaluEvalRecord, context: str) -> tuple[int, ...]:
        return self._encoder.encode(self._messages(replace(record, context=context)))

    def _sentence_lost(self, record: BbqRecord, limit: int) -> Loss:
        """Of an item over the limit: does a word of the answer sentence fit?"""
        if record.condition is Condition.AMBIGUOUS:
            return Loss.NONE
        sentence = self._twins.answer_sentence(record)
        first = record.context.rstrip().removesuffix(sentence) + sentence.split()[0]
        return Loss.PART if len(self._ids(record, first)) <= limit else Loss.ALL


def _support_lost(record: HaluEvalRecord, kept: str) -> Loss:
    """Which of the right text's words stood in the document and are not in its rest?"""
    right = record.accepted if record.shown is None else record.shown
    if right is None or record.hallucinated:
        return Loss.NONE
    told = set(words(right)) - set(words(record.query))
    held = told & set(words(record.context))
    lost = held - set(words(kept))
    if not lost:
        return Loss.NONE
    return Loss.ALL if lost == held else Loss.PART


@dataclass(frozen=True, slots=True)
class Tally:
    """Records of one kind, or of one subset, at one limit."""

    rows: int
    over: int
    """Prompts longer than the limit."""
    shortened: int
    left_out: int
    answer_cut: int
    """Records of which the answer's ground has no room, in part or wholly."""
    answer_gone: int
    """Of these, wholly."""
    longest: int
    """Tokens of the longest prompt."""


def tally(fits: Sequence[Fit]) -> Tally:
    """Count what became of some records."""
    return Tally(
        rows=len(fits),
        over=sum(fit.fate is not Fate.WHOLE for fit in fits),
        shortened=sum(fit.fate is Fate.SHORTENED for fit in fits),
        left_out=sum(fit.fate is Fate.LEFT_OUT for fit in fits),
        answer_cut=sum(fit.answer is not Loss.NONE for fit in fits),
        answer_gone=sum(fit.answer is Loss.ALL for fit in fits),
        longest=max((fit.tokens for fit in fits), default=0),
    )
