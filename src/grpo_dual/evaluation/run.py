"""One policy through the whole yardstick: what it is asked, and what it made of each item."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grpo_dual.evaluation.asking import (
    BbqReply,
    Reply,
    Speaker,
    ask,
    bbq_record,
    prompts_of,
    read_bbq,
)
from grpo_dual.evaluation.halueval import outcome
from grpo_dual.evaluation.yardstick import fairness_yardstick, hallucination_yardstick
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.parse import YesNo
from grpo_dual.types import BbqRecord, HaluEvalRecord, Task


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked for one objective."""

    objective: str
    bbq: tuple[BbqRecord, ...] = ()
    halueval: tuple[HaluEvalRecord, ...] = ()
    """HaluEval items in the form in which they are asked: to answer, or to detect."""


@dataclass(frozen=True, slots=True)
class HaluEvalReply:
    """What a policy wrote to a HaluEval item."""

    record: HaluEvalRecord
    completion: str
    finished: bool
    verdict: str | None
    """Of an answer: grounded, abstains or hallucinated; None where it cannot be judged. Of a
    detection: yes, no, or None when unparsed."""

    @property
    def right(self) -> bool | None:
        """Grounded, or the right yes or no; None where an answer cannot be judged."""
        if self.record.task is Task.DETECT:
            return self.verdict == ("yes" if self.record.hallucinated else "no")
        return None if self.verdict is None else self.verdict == "grounded"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that a policy made of its items."""

    bbq: tuple[BbqReply, ...]
    halueval: tuple[HaluEvalReply, ...]
    yardstick: Mapping[str, Mapping[str, float | int | str | None]]
    """By objective: the numbers of ``eval_metrics.jsonl``."""
    left_out: Mapping[str, int]
    """By objective: items over the prompt limit."""


def evaluate(
    speaker: Speaker, questions: Sequence[Questions], tell: Callable[[str], None]
) -> Evaluated:
    """Ask a policy everything.

    Objectives are asked in their order, each in one go, as a run does it: where decoding samples,
    the same seed then gives the same completions.

    Args:
        speaker: The policy.
        questions: By objective; an item that two objectives have is counted once.
        tell: Hears which item is over the prompt limit.

    Raises:
        NumericsError: The policy has diverged.
    """
    bbq: dict[str, Reply] = {}
    halueval: dict[str, HaluEvalReply] = {}
    yardstick: dict[str, Mapping[str, float | int | str | None]] = {}
    left_out: dict[str, int] = {}
    for own in questions:
        if own.bbq:
            found = ask(speaker, prompts_of(speaker, own.bbq, fairness.messages, tell))
            left_out[own.objective] = len(own.bbq) - len(found)
            bbq |= {reply.prompt.record.record_id: reply for reply in found}
            records = [bbq_record(reply) for reply in found]
            yardstick[own.objective] = fairness_yardstick(records, _texts(found))
        if own.halueval:
            found = ask(speaker, prompts_of(speaker, own.halueval, hallucination.messages, tell))
            left_out[own.objective] = len(own.halueval) - len(found)
            read = [_halueval(reply) for reply in found]
            halueval |= {reply.record.record_id: reply for reply in read}
            rows = [reply.record for reply in read]
            yardstick[own.objective] = hallucination_yardstick(rows, _texts(found))
    return Evaluated(
        tuple(read_bbq(speaker, list(bbq.values()))), tuple(halueval.values()), yardstick, left_out
    )


def _texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.rollout.text for reply in replies]


def _halueval(reply: Reply) -> HaluEvalReply:
    record, text = reply.prompt.record, reply.rollout.text
    assert isinstance(record, HaluEvalRecord)
    if record.task is Task.DETECT:
        read = hallucination.parse(text, record)
        verdict = ("yes" if read.yes else "no") if isinstance(read, YesNo) else None
    else:
        verdict = outcome(record, text)
    return HaluEvalReply(record, text, reply.rollout.finished, verdict)
