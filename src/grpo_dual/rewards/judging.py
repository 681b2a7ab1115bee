"""Groups whose answers another judge scores: rules settle what they can, the rest is asked for.

One scorer per group: the judge that the router found for it, or the offline judge for all of it.
Rules and the template detector are no scorers; they say the same whoever judges.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from grpo_dual.judges.client import Failure, GroupVerdicts, Opinion, Question
from grpo_dual.judges.guard import guard
from grpo_dual.rewards.compose import Outcome
from grpo_dual.types import RolloutGroup

UNJUDGED = "unjudged"
"""Verdict of a completion that the judge has no opinion of, which is no failure."""
FAILED = "failed"
"""Verdict of a completion whose judge failed."""

Offline = Callable[[Question], Opinion | Failure]


class PendingVerdicts(Protocol):
    """Verdicts that are on their way."""

    def result(self) -> GroupVerdicts:
        """Wait for them."""
        ...


class Judging(Protocol):
    """What rewards need of ``grpo_dual.judges.service.JudgeService``."""

    def submit(self, questions: Sequence[Question], offline: Offline) -> PendingVerdicts:
        """Hand in the questions of one group; returns at once."""
        ...


Settle = Callable[[Sequence[str]], Sequence[Outcome | None]]
"""A group's outcomes by rule; None where a completion has to be judged."""
Value = Callable[[Opinion | Failure, str], Outcome]
"""What a scorer's answer earns, with the scorer's name."""


def begin(
    group: RolloutGroup,
    judging: Judging,
    *,
    sources: Sequence[str],
    limit: int,
    settle: Settle,
    empty: Callable[[str], Outcome],
    value: Value,
    offline: Offline,
) -> Callable[[], list[Outcome]]:
    """Hand the undecided completions of a group to the judges.

    Args:
        group: K completions of one prompt.
        judging: The judges.
        sources: Texts of the record that a completion may quote, the knowledge first (see guard).
        limit: Characters of a completion that a judge is shown.
        settle: Outcomes by rule, which reads completions as they are: nothing sways it.
        empty: Outcome of a completion of which the guard leaves nothing to show.
        value: Outcome of a verdict.
        offline: Scores the whole group when no judge can.

    Returns:
        A function that waits for the verdicts and gives K outcomes.
    """
    record = group.prompt.record
    texts = [rollout.text for rollout in group.rollouts]
    guarded = [guard(text, sources=sources, limit=limit) for text in texts]
    settled = [
        empty(text) if outcome is None and shown.empty else outcome
        for text, outcome, shown in zip(texts, settle(texts), guarded, strict=True)
    ]
    asked = [i for i, outcome in enumerate(settled) if outcome is None]
    questions = [Question(record, guarded[i].text) for i in asked]
    pending = judging.submit(questions, offline) if questions else None

    def finish() -> list[Outcome]:
        found = dict[int, Outcome]()
        if pending is not None:
            verdicts = pending.result()
            for i, answer in zip(asked, verdicts.answers, strict=True):
                found[i] = value(answer, verdicts.scorer)
        outcomes = (found[i] if o is None else o for i, o in enumerate(settled))
        return [replace(o, flags=g.flags) for o, g in zip(outcomes, guarded, strict=True)]

    return finish
