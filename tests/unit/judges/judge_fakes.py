"""Judges that say what they are told to, and a router over them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from judge_stage import flying, now

from grpo_dual.config.judging import JudgeConfig
from grpo_dual.judges.client import (
    Cause,
    Failure,
    GroupVerdicts,
    Judge,
    Opinion,
    Question,
    Verdict,
)
from grpo_dual.judges.router import Router
from grpo_dual.judges.tally import StepTally, Tally

Outcome = Verdict | Cause
Rule = Callable[[Question, int], Outcome]
"""Outcome of a question, and of the n-th time that it is asked."""
RIGHT, WRONG = Verdict.RIGHT, Verdict.WRONG


class Fake:
    """A judge that says what it is told to; the reason of its opinions is its name."""

    def __init__(self, name: str, rule: Rule, *, seconds: float = 1.0, keyed: bool = True) -> None:
        self.name = name
        self.rule = rule
        self.seconds = seconds
        self.keyed = keyed
        self.asked: Counter[str] = Counter()

    def key(self, question: Question) -> str | None:
        return (
            f"{self.name}/{question.record.record_id}/{question.completion}" if self.keyed else None
        )

    async def judge(self, question: Question) -> Opinion | Failure:
        self.asked[question.completion] += 1
        times = self.asked[question.completion]
        await asyncio.sleep(self.seconds)
        outcome = self.rule(question, times)
        if isinstance(outcome, Verdict):
            return Opinion(outcome, 0.5, self.name)
        return Failure(self.name, outcome, 1, f"time {times}")

    async def close(self) -> None:
        """Nothing to close."""


def says(outcome: Outcome) -> Rule:
    return lambda _question, _times: outcome


def listed(outcomes: Sequence[Outcome]) -> Rule:
    """By the completion's number."""
    return lambda question, _: outcomes[int(question.completion.rsplit("-", 1)[1])]


def offline(question: Question) -> Opinion:
    del question
    return Opinion(WRONG, 1.0, "heuristic")


def never(question: Question) -> Opinion:
    raise AssertionError(f"offline: {question}")


def configured(
    names: Sequence[str] = ("one", "two"),
    *,
    shares: Mapping[str, float] | None = None,
    **sections: object,
) -> JudgeConfig:
    common = {"kind": "openai", "model": "m", "api_key": "none"}
    providers = {name: {**common, "share": (shares or {}).get(name, 1.0)} for name in names}
    return JudgeConfig.model_validate({"providers": providers, **sections})


class Bench:
    """A router over fake judges; made on the flying loop."""

    def __init__(self, judges: Sequence[Fake], **sections: object) -> None:
        self.judges: dict[str, Judge] = {judge.name: judge for judge in judges}
        self.told: list[str] = []
        self.tally = Tally(now)
        self.router = Router(
            self.judges,
            configured(list(self.judges), **sections),  # pyright: ignore[reportArgumentType]
            cache=None,
            tally=self.tally,
            tell=self.told.append,
        )


def routed(
    judges: Sequence[Fake],
    asked: Sequence[Question],
    offline: Callable[[Question], Opinion | Failure] = offline,
    **sections: object,
) -> tuple[GroupVerdicts, list[str], StepTally]:
    async def run() -> tuple[GroupVerdicts, list[str], StepTally]:
        bench = Bench(judges, **sections)
        found = await bench.router.group(asked, offline)
        return found, bench.told, bench.tally.take()

    return flying(run)
