"""One policy through the whole yardstick: what it is asked, and what it made of each item."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grpo_dual.evaluation.asking import (
    BbqReply,
    Reply,
    Speaker,
    ask,
    bbq_record,
    prompts_of,
    read_bbq,
)
from grpo_dual.evaluation.grounding import Grounding, score_answers
from grpo_dual.evaluation.protocols import (
    Bootstrap,
    Compared,
    Recognised,
    Retained,
    prefer,
    recognise,
    retain,
)
from grpo_dual.evaluation.yardstick import fairness_yardstick, hallucination_yardstick
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.types import BbqRecord, HaluEvalRecord, Task

Part = Literal["bbq", "open", "detection", "pairs", "retention"]
PARTS: tuple[Part, ...] = ("bbq", "open", "detection", "pairs", "retention")
"""What can be asked: BBQ, HaluEval in its three protocols, and what should not be lost."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked for one objective."""

    objective: str
    bbq: tuple[BbqRecord, ...] = ()
    halueval: tuple[HaluEvalRecord, ...] = ()
    """HaluEval items in the form in which the objective asks them: to answer, or to detect."""
    rows: tuple[HaluEvalRecord, ...] = ()
    """The same before they were given a form: both sides of each pair."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All that a policy made of its items; None for what was not asked."""

    bbq: tuple[BbqReply, ...]
    asked: tuple[Reply, ...]
    """HaluEval items as the objective asks them, answers and its own yes/no form."""
    opened: Grounding | None
    recognised: Recognised | None
    compared: Compared | None
    retained: Retained | None
    yardstick: Mapping[str, Mapping[str, float | int | str | None]]
    """By objective: the numbers of ``eval_metrics.jsonl``."""
    left_out: Mapping[str, int]
    """By part: items over the prompt limit."""


def evaluate(
    speaker: Speaker,
    questions: Sequence[Questions],
    parts: Collection[Part],
    boot: Bootstrap,
    tell: Callable[[str], None],
) -> Evaluated:
    """Ask a policy everything.

    The objectives' own items come first, in their order, each objective in one go, as a run does
    it: where decoding samples, the same seed then gives the same completions.

    Args:
        speaker: The policy.
        questions: By objective; an item that two objectives have is counted once.
        parts: Which are asked.
        boot: Of the intervals.
        tell: Hears which item is over the prompt limit.

    Raises:
        NumericsError: The policy has diverged.
    """
    bbq: dict[str, Reply] = {}
    opened: dict[str, Reply] = {}
    yardstick: dict[str, Mapping[str, float | int | str | None]] = {}
    left_out: dict[str, int] = {}
    for own in questions:
        if own.bbq and "bbq" in parts:
            found = ask(speaker, prompts_of(speaker, own.bbq, fairness.messages, tell))
            left_out["bbq"] = left_out.get("bbq", 0) + len(own.bbq) - len(found)
            bbq |= {reply.prompt.record.record_id: reply for reply in found}
            items = [bbq_record(reply) for reply in found]
            yardstick[own.objective] = fairness_yardstick(items, _texts(found))
        if own.halueval and "open" in parts:
            found = ask(speaker, prompts_of(speaker, own.halueval, hallucination.messages, tell))
            left_out["open"] = left_out.get("open", 0) + len(own.halueval) - len(found)
            opened |= {reply.prompt.record.record_id: reply for reply in found}
            records = [halueval_record(reply) for reply in found]
            yardstick[own.objective] = hallucination_yardstick(records, _texts(found))
    rows = list({row.record_id: row for own in questions for row in own.rows}.values())
    recognised = recognise(speaker, rows, boot, tell) if rows and "detection" in parts else None
    compared = prefer(speaker, rows, boot, tell) if rows and "pairs" in parts else None
    if recognised is not None:
        left_out["detection"] = recognised.left_out
    if compared is not None:
        left_out["pairs"] = compared.left_out
    return Evaluated(
        bbq=tuple(read_bbq(speaker, list(bbq.values()))) if bbq else (),
        asked=tuple(opened.values()),
        opened=_opened(list(opened.values()), boot),
        recognised=recognised,
        compared=compared,
        retained=retain(speaker, boot) if "retention" in parts else None,
        yardstick=yardstick,
        left_out=left_out,
    )


def halueval_record(reply: Reply) -> HaluEvalRecord:
    """The HaluEval item that was asked."""
    record = reply.prompt.record
    assert isinstance(record, HaluEvalRecord)
    return record


def _opened(replies: Sequence[Reply], boot: Bootstrap) -> Grounding | None:
    answers = [reply for reply in replies if reply.prompt.record.task is Task.ANSWER]
    if not answers:
        return None
    records = [halueval_record(reply) for reply in answers]
    return score_answers(records, _texts(answers), draws=boot.draws, seed=boot.seed)


def _texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.rollout.text for reply in replies]
